"""Two SAEs of the user's own in a run, found by their labels in the table, the csv, the figures and the report."""

import contextlib
import csv
import io
import json
import warnings

import pytest
import torch
from helpers_cli import error_line, require_words
from matplotlib.text import Text

import main
import visualisation
from drawing import figures
from drawing.canvas import look
from drawing.collect import collect
from results.estimates import Grid

sae_lens = pytest.importorskip("sae_lens")
LABELS = {"A": "ReLU, 32 wide", "B": "k = 8 & <b>"}
FLAGS = ("--model", "toy", "--device", "cpu", "--layers", "2", "--epochs", "1", "--max-pairs", "40")


def save(folder, seed: int) -> None:
    """A random SAE of the toy's layer 2, as SAELens writes it."""
    metadata = sae_lens.saes.sae.SAEMetadata(
        model_name="toy", hook_name="blocks.3.hook_resid_pre", model_from_pretrained_kwargs={}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library = sae_lens.StandardSAE(sae_lens.StandardSAEConfig(d_in=64, d_sae=32, metadata=metadata))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in library.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    library.save_model(folder)


@pytest.fixture(scope="module")
def made(toy_world, tmp_path_factory):
    """The results folder, and what was printed; A is named by a path from the current folder, B by its whole path."""
    root = tmp_path_factory.mktemp("labelled")
    for seed, name in enumerate(LABELS):
        save(root / name, seed)
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.chdir(root)
        argv = [*FLAGS, "--methods", "neuron", "bloom", "sae:./A/", f"sae:{root}/B", "--output", "out"]
        labels = ["--label", f"sae:{root}/A={LABELS['A']}", "--label", f"sae:B={LABELS['B']}"]
        assert main.main([*argv, *labels]) == 0
    return root / "out", out.getvalue()


def test_the_table_calls_them_by_their_labels(made):
    _, out = made
    for label in LABELS.values():  # of each target a row of scores, one at a glance, and a difference
        assert sum(line.startswith(f"{label} ") for line in out.splitlines()) == 4
        assert sum(line.startswith(f" 2 {label} ") for line in out.splitlines()) == 2
    assert "sae:" not in out.split("results: ")[0]
    assert max(len(line) for line in out.splitlines() if not line.startswith("results: ")) <= 80


def test_both_ways_to_write_a_path_are_one_method(made):
    root, _ = made
    methods = {json.loads(path.read_text())["method"] for path in root.glob("toy/*/*/layer*.json")}
    assert methods == {"neuron", "bloom", "sae:A", "sae:B"}
    assert json.loads((root / "toy" / "labels.json").read_text()) == {"sae:A": LABELS["A"], "sae:B": LABELS["B"]}


def test_estimates_and_csv_have_them(made):
    root, _ = made
    assert json.loads((root / "toy" / "estimates.json").read_text())["labels"] == {
        f"sae:{name}": label for name, label in LABELS.items()
    }
    assert main.main(["--model", "toy", "--output", str(root), "--export", "csv"]) == 0
    with open(root / "toy" / "export" / "scores.csv", newline="", encoding="utf-8") as file:
        found = {(row["method"], row["label"]) for row in csv.DictReader(file)}
    assert {("sae:A", LABELS["A"]), ("sae:B", LABELS["B"]), ("bloom", "bloom")} <= found


def test_figures_have_them_without_being_told_again(made):
    root, _ = made
    collection = collect(root / "toy")
    inputs = figures.Inputs(collection, Grid(collection.results, "country", collection.labels), "hard", "neuron", None)
    shown = {}
    with look():
        for entry in figures.FIGURES:
            for value in entry.each(inputs):
                if drawing := entry.draw(inputs, value):
                    words = " ".join(text.get_text() for text in drawing.figure.findobj(Text))
                    shown[entry.name.format(value)] = f"{words} {drawing.alt}"
    for name in ("country", "differences_continent", "cause_isolation_country", "features_country", "L2loss"):
        assert all(label in shown[name] for label in LABELS.values()), name
        assert "sae:" not in shown[name], name


def test_the_report_has_them_as_text(made, tmp_path, capsys):
    root, _ = made
    argv = ["--results", str(root), "--output", str(tmp_path), "--report"]
    assert visualisation.main(argv) == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count(f'<th scope="row">{LABELS["A"]}</th>') >= 6  # at a glance, differences, scores
    assert '<th scope="row">k = 8 &amp; &lt;b&gt;</th>' in page
    assert "k = 8 & <b>" not in page
    assert "names of own SAEs" in page


def test_another_label_is_kept_too(made, tmp_path, capsys):
    root, _ = made
    kept = (root / "toy" / "labels.json").read_text()
    try:
        argv = ["--results", str(root), "--output", str(tmp_path)]
        assert visualisation.main([*argv, "--label", "sae:A=other"]) == 0
        assert json.loads((root / "toy" / "labels.json").read_text())["sae:A"] == "other"
        capsys.readouterr()
        assert visualisation.main([*argv, "--label", "sae:C=third"]) == 2
        require_words(error_line(capsys.readouterr().err), ["sae:C", "own SAEs are sae:A, sae:B"])
    finally:
        (root / "toy" / "labels.json").write_text(kept)
