"""Two methods compared in finished results, by the command line and without a model."""

import json

import numpy as np
import pytest
from helpers_cli import error_line, finish, require_words, snapshot, start
from helpers_results import result, small_grid, write
from matplotlib.text import Text
from safetensors.numpy import load_file

import main
import stats
import visualisation
from drawing.canvas import look
from drawing.differences import differences_by_layer
from grid.compared import contrasts
from results.collecting import read_finished
from results.estimates import Grid


def cell(root, target: str, method: str, layer: int, seeds) -> list:
    """Outcomes with the hard mask, read from the files with numpy alone."""
    found = []
    for seed in seeds:
        folder = root / "toy" / target
        hits = load_file(folder / method / f"layer{layer:02d}-seed{seed}.safetensors")["outcome_hard"]
        pairs = json.loads((folder / f"pairs-strict-cities-seed{seed}.json").read_text())
        ends = [[int(pairs["facts"][pair[i]]["country"].split()[1]) for pair in pairs["test"]] for i in (0, 1)]
        found.append(stats.Outcomes.of_kinds(hits, np.array([p[2] == "cause" for p in pairs["test"]]), *ends))
    return found


def run(capsys, root, *argv) -> tuple[int, str, str]:
    capsys.readouterr()
    status = main.main(["--model", "toy", "--output", str(root), *argv])
    return status, *capsys.readouterr()


@pytest.mark.parametrize(("a", "b"), [(("das", 0), ("neuron", 0)), (("neuron", 0), ("neuron", 1))])
def test_the_numbers_are_those_of_the_files(tmp_path, capsys, a, b):
    """Two methods at a layer, or one at two layers: both targets are one family."""
    small_grid(tmp_path, seeds=(0, 1, 2))
    names = [f"{method}@L{layer}" for method, layer in (a, b)]
    status, out, _ = run(capsys, tmp_path, "--compare", *names)
    assert status == 0
    path = tmp_path / "toy" / "compare" / f"{names[0]}-minus-{names[1]}.json"
    content = json.loads(path.read_text())
    found = content["differences"]
    assert (content["seeds"], content["interval_unit"], "toy world" in content["notice"]) == (
        [0, 1, 2],
        "country",
        True,
    )
    assert [c["target"] for c in found] == ["country", "continent"]
    wanted = [
        stats.difference(
            *(cell(tmp_path, c["target"], *side, (0, 1, 2)) for side in (a, b)), "disentangle", new_seeds=True
        )
        for c in found
    ]
    for c, d, p_holm in zip(found, wanted, stats.holm([d.p for d in wanted]), strict=True):
        assert [c["difference"], c["low"], c["high"], c["p"]] == pytest.approx([d.value, d.low, d.high, d.p], abs=1e-9)
        assert c["p_holm"] == pytest.approx(p_holm, abs=1e-9)
        assert c["detectable"] == pytest.approx(float(stats.least_detectable(d, family=2)), abs=1e-9)
        assert c["verdict"] == stats.verdict(d.value, p_holm)
        assert (c["method"], c["layer"], c["against"], c["against_layer"]) == (*a, *b)
        row = f" {a[1]} {a[0]:<17} {d.value:+.3f} [{d.low:+.3f} {d.high:+.3f}]"
        assert sum(line.startswith(row) for line in out.splitlines()) >= 1, row
    assert max(map(len, out.splitlines()[:-1])) <= 79
    assert "corrected for these 2 comparisons" in out
    assert "toy world" in out


def test_without_a_layer_all_are_compared_but_the_last_block(tmp_path, capsys):
    small_grid(tmp_path, seeds=(0, 1))
    assert run(capsys, tmp_path, "--compare", "das", "neuron", "--targets", "country")[0] == 0
    content = json.loads((tmp_path / "toy" / "compare" / "das-minus-neuron.json").read_text())
    assert [(c["target"], c["layer"]) for c in content["differences"]] == [("country", 0), ("country", 1)]
    assert content["seeds"] == [0, 1]
    run(capsys, tmp_path, "--compare", "das", "neuron", "--layers", "1", "--seeds", "1")
    content = json.loads((tmp_path / "toy" / "compare" / "das-minus-neuron.json").read_text())
    assert [(c["target"], c["layer"], c["n_seeds"]) for c in content["differences"]] == [
        ("country", 1, 1),
        ("continent", 1, 1),
    ]


def test_one_layer_named_is_that_of_both(tmp_path, capsys):
    small_grid(tmp_path)
    run(capsys, tmp_path, "--compare", "das@L1", "none")
    (path,) = (tmp_path / "toy" / "compare").iterdir()
    found = json.loads(path.read_text())["differences"]
    assert {(c["layer"], c["against"], c["against_layer"]) for c in found} == {(1, "none", 1)}
    assert [c["difference"] for c in found] == pytest.approx([(1 + 0.875) / 2 - 0.5] * 2)


def test_long_names_make_no_name_of_a_file_that_is_too_long(tmp_path, capsys):
    long = [f"sae:/{letter * 180}" for letter in "ab"]
    for name in long:
        write(tmp_path, result("country", name, 0))
    assert run(capsys, tmp_path, "--compare", *long)[0] == 0
    (path,) = (tmp_path / "toy" / "compare").iterdir()
    assert json.loads(path.read_text())["differences"][0]["method"] == long[0]


@pytest.mark.parametrize(
    ("sides", "words"),
    [
        (("das", "das"), ["--compare", "das das", "twice the same"]),
        (("das@L1", "das"), ["--compare", "das@L1 das", "twice the same"]),
        (("das@Lx", "neuron"), ["--compare", "'x' is no layer", "das@L5"]),
        (("das", "neurons"), ["unknown method 'neurons'", "did you mean neuron"]),
        (("das", "all"), ["--compare is 'all'", "name one method"]),
        (("das", "bloom"), ["no results of bloom", "neuron, das, openai, apollo-e2e"]),
        (("das@L7", "neuron"), ["no results of das at layer 7", "layers 0, 1, 2"]),
        (("das@L2", "neuron"), ["last block nothing can be learned"]),
        (("apollo-e2e", "neuron@L0"), ["no results of apollo-e2e at layer 0", "layers 1"]),
    ],
)
def test_errors_are_one_line(tmp_path, capsys, sides, words):
    small_grid(tmp_path)
    before = snapshot(tmp_path)
    status, out, err = run(capsys, tmp_path, "--compare", *sides)
    assert (status, out) == (2, "")
    require_words(error_line(err), words)
    assert snapshot(tmp_path) == before


def test_no_results_at_all_and_flags_that_do_not_go_together(tmp_path, capsys):
    for argv, words in (
        (["--compare", "das", "neuron"], ["holds no results", "main.py makes them"]),
        (["--export", "csv", "--compare", "das", "neuron"], ["not allowed with argument"]),
        (["--export", "xls"], ["invalid choice", "csv"]),
        (["--to", "x"], ["--to", "--export"]),
        (["--label", "sae:a=b"], ["sae:a", "no own SAE is among the methods"]),
    ):
        status, out, err = run(capsys, tmp_path / "out", *argv)
        assert (status, out) == (2, "")
        require_words(error_line(err), words)
    assert not (tmp_path / "out").exists()


def test_neither_torch_nor_a_model_is_needed(tmp_path):
    small_grid(tmp_path)
    code = """
import sys
for name in ("torch", "transformers", "nnsight"):
    sys.modules[name] = None
import main
for argv in (["--compare", "das", "neuron"], ["--export", "csv"], ["--export", "latex"], ["--export", "saebench"]):
    assert main.main(["--model", "toy", "--output", sys.argv[1], *argv]) == 0
"""
    status, _, err = finish(start(tmp_path, code=code))
    assert (status, err) == (0, "")


def test_the_figure_shows_the_differences(tmp_path, capsys):
    small_grid(tmp_path / "results", seeds=(0, 1))
    argv = ["--results", str(tmp_path / "results"), "--output", str(tmp_path / "figures")]
    assert visualisation.main([*argv, "--compare", "openai@L1", "neuron@L0"]) == 0
    assert {path.name for path in (tmp_path / "figures").glob("compare_*")} == {
        f"compare_{target}.{kind}" for target in ("country", "continent") for kind in ("png", "svg")
    }
    found = read_finished(tmp_path / "results" / "toy")
    grid = Grid(found.results)
    family = grid.contrast(contrasts(grid, ("openai", 1), ("neuron", 0)), "hard")
    with look():
        figure = differences_by_layer(grid, "country", "hard", family).figure
    words = " ".join(text.get_text() for text in figure.findobj(Text))
    assert "Difference from neuron at layer 0 by layer, target country" in words
    (point,) = [
        artist
        for artist in figure.findobj(lambda a: (a.get_gid() or "") in ("told-openai", "untold-openai"))
        if len(artist.get_ydata())
    ]
    assert point.get_ydata() == pytest.approx([(0.25 + 0.5) / 2 - (0.5 + 0.75) / 2])
    capsys.readouterr()
    assert visualisation.main([*argv, "--compare", "bloom", "neuron"]) == 2
    require_words(error_line(capsys.readouterr().err), ["no results of bloom"])
