"""Tidy rows against files read by hand with numpy alone, and the pandas table of them."""

import json
import sys

import numpy as np
import pytest
from helpers_results import N, result, small_grid, write
from safetensors.numpy import load_file

import results
import stats
from common.errors import UserError
from imports import MissingLibrary
from results.collecting import read_finished
from results.estimates import Grid
from results.rows import score_rows

MINE = "sae:runs/mine"


def rows_of(root, unit: str = "country", **chosen):
    found = read_finished(root / "toy", **chosen)
    return score_rows(Grid(found.results, unit, found.labels))


def picked(rows, **values):
    return [row for row in rows if all(getattr(row, key) == value for key, value in values.items())]


@pytest.mark.parametrize(("unit", "n_clusters"), [("country", 15), ("continent", 3), ("city", 30)])
def test_a_row_of_each_seed_and_of_all_follows_from_the_files(tmp_path, unit, n_clusters):
    small_grid(tmp_path, seeds=(0, 1, 2))
    rows = rows_of(tmp_path, unit)
    folder, cells, shares = tmp_path / "toy" / "country", [], []
    for seed in (0, 1, 2):
        hits = load_file(folder / "das" / f"layer01-seed{seed}.safetensors")["outcome_hard"]
        pairs = json.loads((folder / f"pairs-strict-cities-seed{seed}.json").read_text())
        named = {city: city if unit == "city" else facts[unit] for city, facts in pairs["facts"].items()}
        number = {name: i for i, name in enumerate(sorted(set(named.values())))}
        ends = [[number[named[pair[i]]] for pair in pairs["test"]] for i in (0, 1)]
        is_cause = np.array([pair[2] == "cause" for pair in pairs["test"]])
        cells.append(stats.Outcomes.of_kinds(hits, is_cause, *ends))
        shares.append(hits[~is_cause].mean())
        (row,) = picked(rows, target="country", method="das", layer=1, seed=str(seed), mask="hard", measure="isolation")
        alone = stats.interval(cells[-1:], "isolation")
        assert row.value == pytest.approx(shares[-1], abs=1e-12)
        assert (row.low, row.high) == pytest.approx((alone.low, alone.high), abs=1e-12)
        assert (row.interval, row.n_seeds, row.n_pairs) == ("these seeds", 1, N)
        assert row.digest == json.loads((folder / "das" / f"layer01-seed{seed}.json").read_text())["digest"]
    (row,) = picked(rows, target="country", method="das", layer=1, seed="all", mask="hard", measure="isolation")
    new = stats.interval(cells, "isolation", new_seeds=True)
    assert row.value == pytest.approx(np.mean(shares), abs=1e-12)
    assert (row.low, row.high) == pytest.approx((new.low, new.high), abs=1e-12)
    assert (row.interval, row.n_seeds, row.n_pairs) == ("new seeds", 3, 3 * N)
    assert (row.cluster, row.n_clusters) == (unit, n_clusters)
    assert len(row.digest.split(" ")) == 3


def test_every_score_has_exactly_one_row_per_seed(tmp_path):
    """11 cells a target (apollo at one layer), none and full at each layer, reconstructions of SAEs."""
    small_grid(tmp_path, seeds=(0, 1))
    rows = rows_of(tmp_path)
    keys = [(r.target, r.method, r.layer, r.seed, r.mask, r.measure) for r in rows]
    assert len(set(keys)) == len(keys)
    masked = 3 * (5 * 2) + 2  # neuron, das, openai, none and full, two masks each; apollo-e2e
    spliced = 3 + 1  # openai's and apollo-e2e's
    assert len(rows) == 2 * 3 * (masked + spliced) * 3  # targets, measures, two seeds and all
    assert {r.seed for r in rows} == {"0", "1", "all"}


def test_what_does_not_apply_is_none(tmp_path):
    small_grid(tmp_path)
    rows = rows_of(tmp_path)
    full = picked(rows, method="full")[0]
    assert (full.n_selected, full.l0, full.digest, full.still_falling) == (None, None, "", None)
    spliced = picked(rows, method="openai", mask="reconstruction")[0]
    assert (spliced.n_selected, spliced.n_features, spliced.l0) == (None, 256, 8.0)
    assert {r.last_block for r in picked(rows, layer=2)} == {True}
    assert all("toy world" in r.notice for r in rows)


def test_training_that_still_falls_is_told(tmp_path):
    falling = [{"epoch": e, "loss": 9.0 - e, "accuracy": 0.5, "temperature": 0.5} for e in range(1, 9)]
    level = [{**epoch, "loss": max(epoch["loss"], 5.0)} for epoch in falling]
    write(tmp_path, result("country", "neuron", 0, 0, history=level))
    write(tmp_path, result("country", "neuron", 0, 1, history=falling))
    rows = picked(rows_of(tmp_path), method="neuron", mask="hard", measure="cause")
    assert {row.seed: row.still_falling for row in rows} == {"0": False, "1": True, "all": True}


def test_flags_choose_among_what_is_there(tmp_path):
    small_grid(tmp_path, seeds=(0, 1))
    rows = rows_of(tmp_path, targets=["country"], methods=["das"], layers=[0, 1], seeds=[1])
    assert {(r.target, r.method, r.layer, r.seed) for r in picked(rows, mask="hard") if r.method == "das"} == {
        ("country", "das", layer, seed) for layer in (0, 1) for seed in ("1", "all")
    }
    assert {r.method for r in rows} == {"none", "full", "das"}
    with pytest.raises(UserError, match="holds no result of these flags; it has targets country, continent"):
        rows_of(tmp_path, methods=["bloom"])


def test_damaged_results_are_left_out_and_named(tmp_path, capsys):
    small_grid(tmp_path)
    broken = tmp_path / "toy" / "country" / "das" / "layer01-seed0.json"
    broken.write_text(broken.read_text().replace('"seed": 0', '"seed": 1'))
    rows = rows_of(tmp_path)
    assert not picked(rows, target="country", method="das", layer=1)
    assert "skipped: country/das/layer01-seed0.json" in capsys.readouterr().err


# ---------------------------------------------------------------- load


def test_load_gives_a_table_in_one_line(tmp_path):
    pytest.importorskip("pandas")
    write(tmp_path, result("country", MINE, 0, hard=(0.25, 0.75)))
    (tmp_path / "toy" / "labels.json").write_text(json.dumps({MINE: "mine"}))
    scores = results.load(tmp_path)
    found = scores.query("label == 'mine' and seed == '0' and mask == 'hard'").set_index("measure")["value"]
    assert found.to_dict() == {"cause": 0.25, "isolation": 0.75, "disentangle": 0.5}
    assert scores["layer"].dtype.kind == "i"
    assert results.load(str(tmp_path), model="toy").equals(scores)


def test_load_asks_which_model(tmp_path):
    pytest.importorskip("pandas")
    with pytest.raises(UserError, match="but none"):
        results.load(tmp_path)
    write(tmp_path, result("country", "das", 0))
    write(tmp_path, result("country", "das", 0, model="gpt2"))
    with pytest.raises(UserError, match="of gpt2, toy; choose one by model="):
        results.load(tmp_path)


def test_without_pandas_load_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.delitem(sys.modules, "results.frames", raising=False)
    with pytest.raises(MissingLibrary, match=r"optional library pandas is not installed.*pip install pandas==3\."):
        _ = results.load
