"""main.py --explain: its files, what is done again, its table, its errors."""

import csv
import json
import random
import re
import shutil

import numpy as np
import pytest
from helpers_cli import fails, require_words, snapshot
from helpers_explain import METHODS, PLANTED, TOP
from safetensors.torch import load_file

import main
from common.errors import UserError
from explain.command import require_same
from explain.files import done_before, read_explanation
from explain.links import page_of
from explain.table import table
from results.reading import Damaged, digest_of
from results.run import Run


def files(explained) -> dict[Run, dict]:
    paths = sorted((explained.root / "explain").glob("*/*/*.json"))
    found = [read_explanation(path, explained.root) for path in paths]
    return {Run(**each["result"]): each for each in found}


def test_every_trained_mask_has_a_json_and_a_csv_with_a_row_a_feature(explained):
    found = files(explained)
    assert set(found) == {Run("country", method, PLANTED, seed) for method in METHODS for seed in (0, 1)}
    for run, explanation in found.items():
        with open(explained.root / "explain" / f"{run}.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        result = json.loads((explained.root / f"{run}.json").read_text())
        assert len(rows) == explanation["n_selected"] == result["n_selected"]
        assert explanation["made_from"]["result"] == result["digest"]
        assert [row["rank"] for row in rows] == [str(i) for i in range(1, len(rows) + 1)]
        for row, feature in zip(rows, explanation["features"], strict=True):
            assert row["feature"] == str(feature["feature"])
            assert row["effect"] == ("" if feature["effect"] is None else str(feature["effect"]))
            assert row["lost_low"] == ("" if feature["lost"] is None else str(feature["lost"]["low"]))
            assert row["page"] == ""  # no page shows the toy's latents
        assert sum(row["effect"] != "" for row in rows) == min(TOP, len(rows))


def test_agreement_over_seeds_is_that_of_the_saved_masks(explained):
    """Of das, whose rotations differ, that of the subspaces' projections P: they share trace(P_a P_b) dimensions."""
    found = files(explained)
    for method in ("neuron", "openai"):
        one, two = ({f["feature"] for f in found[Run("country", method, PLANTED, s)]["features"]} for s in (0, 1))
        agreed = found[Run("country", method, PLANTED, 0)]["agreement"]
        assert agreed["jaccard"] == pytest.approx(len(one & two) / len(one | two))
        assert agreed == found[Run("country", method, PLANTED, 1)]["agreement"]
    projections = []
    for seed in (0, 1):
        tensors = load_file(explained.root / "country" / "das" / f"layer{PLANTED:02d}-seed{seed}.safetensors")
        selected = tensors["theta"] > 0
        projections.append(tensors["rotation"].double() @ selected.double().diag() @ tensors["rotation"].double().T)
    one, two = projections
    dimensions, both = (one.trace() + two.trace()).item(), (one @ two).trace().item()
    agreed = found[Run("country", "das", PLANTED, 0)]["agreement"]
    assert agreed["jaccard"] == pytest.approx(both / (dimensions - both), abs=1e-5)


def test_what_is_done_is_kept_and_a_new_result_is_explained_anew(explained, tmp_path, capsys):
    output = tmp_path / "results"
    shutil.copytree(explained.root.parent, output)
    flags = [*explained.flags[:-1], str(output), "--explain", "--top", str(TOP)]
    before = snapshot(output)
    assert main.main(flags) == 0
    assert "explained: 6, 6 of them before" in capsys.readouterr().err
    assert snapshot(output) == before  # not even written again
    path = output / "toy" / "explain" / "country" / "openai" / f"layer{PLANTED:02d}-seed1.json"
    sound = path.read_text()
    for damaged in (sound[:-40], sound.replace('"n_features": 256', '"n_features": 255')):
        path.write_text(damaged)
        assert main.main(flags) == 0
        assert "explained: 6, 5 of them before" in capsys.readouterr().err
        assert path.read_text() == sound
    content = json.loads(sound)
    content["made_from"]["result"] = "another"
    path.write_text(json.dumps({**content, "digest": digest_of(content)}))
    assert done_before(output / "toy", Run("country", "openai", PLANTED, 1), json.loads(sound)["made_from"]) is None


def test_table_fits_a_terminal(explained):
    found = list(files(explained).values())
    long = {**found[-1], "result": {**found[-1]["result"], "method": "sae:" + "x" * 90, "seed": 2**62, "layer": 11}}
    long["features"] = [{**each, "feature": 46079, "effect": -0.25} for each in long["features"]]
    text = table([*found, {**long, "n_selected": 46080, "needed": {"theta": 9999, "effect": 1}}])
    assert max(map(len, text.splitlines())) < 80
    line = next(line for line in text.splitlines() if line.startswith(f" {PLANTED} neuron"))
    best = next(each for each in found if each["result"]["method"] == "neuron")
    shown = re.findall(r" (\d+) ([+-]\.\d{3})", line)
    assert [int(feature) for feature, _ in shown] == [each["feature"] for each in best["features"][:3]]


def test_errors_are_one_line(explained, tmp_path, capsys):
    toy = ["--model", "toy", "--explain"]
    words = ["none of the 2 masks", "is finished", "without --explain"]
    require_words(fails(capsys, tmp_path / "no", *toy, "--layers", "2", "--methods", "neuron", "none"), words)
    require_words(fails(capsys, tmp_path / "no", *toy, "--top", "0"), ["--top is 0", "at least 1"])
    require_words(fails(capsys, tmp_path / "no", *toy, "--plan"), ["--plan", "not allowed with"])
    flags = [*explained.flags[:-2], "--explain", "--epochs", "3"]
    line = fails(capsys, explained.root.parent, *flags)
    require_words(line, ["another configuration", "epochs", "give the flags that it was made with"])


def test_a_mask_that_answers_otherwise_than_when_it_was_saved_is_refused():
    saved = {"outcomes": {"hard": np.arange(200) % 2 == 0}}
    found = saved["outcomes"]["hard"].copy()
    found[:2] ^= True  # rounding may turn a few
    require_same(found, saved, "x.json")
    found[2] ^= True
    with pytest.raises(UserError, match=r"the mask of x\.json answers 2% of the test pairs otherwise"):
        require_same(found, saved, "x.json")


def test_a_strangers_file_is_read_or_refused_in_a_line(explained, tmp_path):
    """One accident each to 250 copies of a sound file."""
    run = Run("country", "openai", PLANTED, 0)
    sound = (explained.root / "explain" / f"{run}.json").read_text()
    path = tmp_path / "explain" / f"{run}.json"
    path.parent.mkdir(parents=True)
    refused = 0
    for seed in range(250):
        rng, content = random.Random(seed), json.loads(sound)
        inside = content
        key = rng.choice(list(inside))
        while isinstance(inside[key], dict | list) and inside[key] and rng.random() < 0.8:
            inside = inside[key]
            key = rng.choice(list(inside) if isinstance(inside, dict) else range(len(inside)))
        inside[key] = rng.choice([None, True, -7, 1e300, 10**400, "x", [], {}, [[]], float("nan"), float("inf")])
        if rng.random() < 0.5 and "digest" in content:  # altered on purpose: the fingerprint fits
            content["digest"] = digest_of(content) if key != "digest" else content["digest"]
        path.write_text(json.dumps(content))
        try:
            read_explanation(path, tmp_path)
        except Damaged as why:
            assert "\n" not in str(why)
            refused += 1
    assert refused > 180
    path.write_text(sound)
    assert Run(**read_explanation(path, tmp_path)["result"]) == run
    with pytest.raises(Damaged, match="it says that it explains"):
        moved = path.with_name("layer03-seed0.json")
        shutil.copy(path, moved)
        read_explanation(moved, tmp_path)


@pytest.mark.parametrize(
    ("method", "layer", "page"),
    [
        ("openai", 0, "0-res_post_32k-oai/17"),
        ("openai", 11, "11-res_post_32k-oai/17"),
        ("bloom", 0, "1-res-jb/17"),
        ("bloom", 11, "12-res-jb/17"),
        ("apollo-e2e", 1, "2-res_sle-ajt/17"),
        ("apollo-e2e+ds", 5, "6-res_slefr-ajt/17"),
    ],
)
def test_pages_of_published_latents(method, layer, page):
    assert page_of(method, layer, 17) == f"https://www.neuronpedia.org/gpt2-small/{page}"


@pytest.mark.parametrize(
    ("method", "layer"), [("apollo-e2e", 9), ("apollo-e2e", 0), ("bloom:permuted", 3), ("neuron", 3), ("sae:x", 3)]
)
def test_what_is_not_shown_has_no_page(method, layer):
    """Of layer 9, Neuronpedia shows another of Apollo's runs."""
    assert page_of(method, layer, 17) is None


def test_what_no_mask_selected_is_left_out_in_one_line(toy_world, tmp_path, capsys):
    """Of directions that are fewer than dimensions and fitted anew for each seed, subspaces are compared."""
    argv = ["--model", "toy", "--layers", str(PLANTED), "--targets", "country", "--max-pairs", "30", "--epochs", "2"]
    argv += ["--methods", "pca", "neuron:cause", "das@4", "bloom@4", "--seeds", "0", "1", "--output", str(tmp_path)]
    assert main.main(argv) == 0
    capsys.readouterr()
    assert main.main([*argv, "--explain", "--top", "3"]) == 0
    out, err = capsys.readouterr()
    (line,) = [line for line in err.splitlines() if line.startswith("note: no mask")]
    require_words(line, ["das@4", "bloom@4", "left out"])
    assert "das@4" not in out and out.count("neuron:cause") == 2
    both, sizes = [], []
    for seed in (0, 1):
        tensors = load_file(tmp_path / "toy" / "country" / "pca" / f"layer{PLANTED:02d}-seed{seed}.safetensors")
        R = tensors["rotation"][:, tensors["theta"] > 0].double()
        both.append(R @ R.T)
        sizes.append(R.shape[1])
    shared = float((both[0] * both[1]).sum())  # trace of the product of the projectors
    explanation = read_explanation(
        tmp_path / "toy" / "explain" / "country" / "pca" / f"layer{PLANTED:02d}-seed0.json", tmp_path / "toy"
    )
    (overlap,) = [each for each in explanation["overlaps"] if each["seed"] == 1]
    assert overlap["shared"] == pytest.approx(shared, abs=2e-3)
    by_chance = sizes[0] * sizes[1] / 64  # dimensions that random subspaces of the 64 share
    assert overlap["chance"] == pytest.approx(by_chance / (sum(sizes) - by_chance), abs=1e-6)
