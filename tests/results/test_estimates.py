"""What a grid's results say: means, intervals and differences against files read by hand with numpy alone."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers_results import result, small_grid, write
from safetensors.numpy import load_file

import stats
from results.estimates import Grid
from results.kept import estimates
from results.reading import read_result


def grid_of(root: Path, unit: str = "country") -> Grid:
    return Grid([read_result(path, root / "toy") for path in sorted((root / "toy").glob("*/*/layer*.json"))], unit)


def by_hand(root: Path, method: str, layer: int, seeds, unit: str) -> list[tuple]:
    """Of each seed: outcomes with the hard mask, kinds, and the clusters of base and source, from the files."""
    found = []
    for seed in seeds:
        folder = root / "toy" / "country"
        hits = load_file(folder / method / f"layer{layer:02d}-seed{seed}.safetensors")["outcome_hard"]
        pairs = json.loads((folder / f"pairs-strict-cities-seed{seed}.json").read_text())
        named = {city: city if unit == "city" else facts[unit] for city, facts in pairs["facts"].items()}
        base, source = ([named[pair[i]] for pair in pairs["test"]] for i in (0, 1))
        is_cause = np.array([pair[2] == "cause" for pair in pairs["test"]])
        found.append((hits, is_cause, base, source))
    return found


def disentangle(hits: np.ndarray, is_cause: np.ndarray) -> float:
    return (hits[is_cause].mean() + hits[~is_cause].mean()) / 2


@pytest.mark.parametrize("unit", ["country", "continent", "city"])
def test_scores_and_intervals_follow_from_the_files_without_the_model(tmp_path, unit):
    small_grid(tmp_path, seeds=(0, 1, 2))
    grid, seeds = grid_of(tmp_path, unit), by_hand(tmp_path, "das", 1, (0, 1, 2), unit)
    found = grid.score("country", "das", 1, "hard", "disentangle")
    assert found.mean == pytest.approx(np.mean([disentangle(hits, kinds) for hits, kinds, _, _ in seeds]), abs=1e-12)
    number = {name: i for i, name in enumerate(sorted({n for _, _, *ends in seeds for end in ends for n in end}))}
    cell = [
        stats.Outcomes.of_kinds(hits, kinds, *([number[name] for name in end] for end in ends))
        for hits, kinds, *ends in seeds
    ]
    new = stats.interval(cell, "disentangle", new_seeds=True)
    run = stats.interval(cell, "disentangle")
    assert (found.low, found.high) == pytest.approx((new.low, new.high), abs=1e-12)
    assert (found.run_low, found.run_high) == pytest.approx((run.low, run.high), abs=1e-12)
    assert found.low < found.run_low < found.mean < found.run_high < found.high


def test_two_seeds_say_nothing_of_others(tmp_path):
    grid = grid_of(small_grid(tmp_path, seeds=(0, 1)))
    found = grid.score("country", "das", 1, "hard", "disentangle")
    assert (found.low, found.high) == (found.run_low, found.run_high)
    assert grid.meaning == "for these seeds on other countries"
    assert all(score["interval95_new_seeds"] is None for score in estimates(grid, "neuron", "hard")["scores"])


def test_an_interval_of_a_perfect_score_has_a_width_and_stays_within_0_and_1(tmp_path):
    write(tmp_path, result("country", "das", 0, hard=(1.0, 1.0)))
    found = grid_of(tmp_path).score("country", "das", 0, "hard", "disentangle")
    assert found.low < found.mean == found.high == 1


def test_baselines_stand_beside_methods_that_were_run_without_them(tmp_path):
    grid = grid_of(small_grid(tmp_path))
    none, full = (grid.score("country", name, 0, "hard", "disentangle") for name in ("none", "full"))
    assert (none.mean, full.mean) == (0.5, 0.53125)
    assert grid.score("country", "bloom", 0, "hard", "disentangle") is None
    assert grid.reconstruction("country", "openai", 0, "isolation").mean == 0.5
    assert grid.reconstruction("country", "das", 0, "isolation") is None


def test_differences_are_of_the_same_pairs_and_seeds(tmp_path):
    """das has three seeds, neuron two of them: the difference is over these two."""
    for seed in (0, 1, 2):
        write(tmp_path, result("country", "das", 0, seed, hard=(0.75 + seed / 16, 0.5)))
    for seed in (1, 2):
        write(tmp_path, result("country", "neuron", 0, seed, hard=(0.5, 0.5)))
    [found] = grid_of(tmp_path).compare("neuron", "hard")
    assert (found.method, found.against, found.n_seeds) == ("das", "neuron", 2)
    assert found.difference == pytest.approx((0.3125 + 0.375) / 2 / 2)
    assert found.low < found.difference < found.high
    assert grid_of(tmp_path).compare("openai", "hard") == []


def test_a_method_equals_itself(tmp_path):
    """A copy of the same outcomes under another name: a difference of 0 with an interval around it."""
    for method in ("neuron", "das"):
        write(tmp_path, result("country", method, 0, hard=(0.5, 0.75)))
    [found] = grid_of(tmp_path).compare("neuron", "hard")
    assert found.low < 0 == found.difference < found.high
    assert (found.verdict, found.p) == (stats.CANNOT_TELL, 1)


def test_p_values_are_corrected_for_all_comparisons_of_the_grid(tmp_path):
    """Holm by hand: the k-th smallest of n is multiplied by n - k + 1, and none is below one before it."""
    found = grid_of(small_grid(tmp_path)).compare("neuron", "hard")
    assert len(found) == 10  # 2 targets x (das, openai at layers 0 and 1; apollo-e2e at 1); layer 2 is the last block
    largest = 0.0
    for k, c in enumerate(sorted(found, key=lambda c: c.p)):
        largest = max(largest, c.p * (10 - k))
        assert c.p_holm == pytest.approx(min(largest, 1))
    says = {(c.method, c.layer): c.verdict for c in found if c.target == "country"}
    assert says["das", 0] == stats.BETTER
    assert says["openai", 0] == stats.WORSE


def test_controls_are_compared_with_their_methods_alone(tmp_path):
    write(tmp_path, result("country", "neuron", 0))
    write(tmp_path, result("country", "das", 0, hard=(1.0, 1.0)))
    write(tmp_path, result("country", "das:random", 0, hard=(0.5, 0.75), n_features=64, l0=None))
    grid = grid_of(tmp_path)
    assert grid.methods == ["neuron", "das"]
    assert [c.method for c in grid.compare("neuron", "hard")] == ["das"]
    [found] = grid.compare_controls("hard")
    assert (found.method, found.against, found.difference) == ("das", "das:random", 0.375)


def test_few_clusters_are_warned_of(tmp_path):
    small_grid(tmp_path)
    assert grid_of(tmp_path).warnings == []
    lines = grid_of(tmp_path, "continent").warnings
    assert len(lines) == 2
    assert lines[0].startswith("country: only 3 continents among the test pairs")


def test_the_json_has_every_number(tmp_path):
    grid = grid_of(small_grid(tmp_path, seeds=(0, 1, 2)))
    content = json.loads(json.dumps(estimates(grid, "neuron", "hard")))
    assert content["interval_unit"] == "country"
    where = {"target": "country", "method": "das", "layer": 0, "mask": "hard", "score": "cause"}
    [row] = [row for row in content["scores"] if where.items() <= row.items()]
    estimate = grid.score("country", "das", 0, "hard", "cause")
    assert row["mean"] == estimate.mean == 1
    assert row["interval95_new_seeds"] == [estimate.low, estimate.high]
    assert row["n_seeds"] == 3
    assert len(content["differences"]) == 10
    assert {d["verdict"] for d in content["differences"]} <= {"better", "worse", "cannot tell"}


def test_a_layer_is_chosen_on_validation_and_scored_on_test(tmp_path):
    """Layer 1 is best on validation, layer 0 on test, layer 2 is the last block: 1 is chosen, with its test score."""
    for layer, test, validation in ((0, (1.0, 1.0), (0.5, 0.5)), (1, (0.5, 0.75), (0.75, 1.0)), (2, (0, 1), (1, 1))):
        content = result("country", "das", layer, hard=test, last_block=layer == 2)
        other = result("country", "das", layer, hard=validation)["test"]
        write(tmp_path, {**content, "validation": other})
    grid = grid_of(tmp_path)
    choice = grid.choice("country", "das", "hard")
    assert (choice.layer, choice.n_layers, choice.validation, choice.test.mean) == (1, 2, 0.875, 0.625)
    assert grid.choice("country", "neuron", "hard") is None
    [row] = estimates(grid, "neuron", "hard")["layer_chosen_on_validation"]
    assert (row["layer"], row["n_layers"], row["test"]["mean"]) == (1, 2, 0.625)


def test_cells_with_fewer_seeds_are_named(tmp_path):
    small_grid(tmp_path, seeds=(0, 1, 2))
    assert grid_of(tmp_path).warnings == []
    (tmp_path / "toy" / "country" / "das" / "layer01-seed2.json").unlink()
    (line,) = grid_of(tmp_path).warnings
    assert line.startswith("fewer than 3 seeds: country das L1 (2); what is said of these")
