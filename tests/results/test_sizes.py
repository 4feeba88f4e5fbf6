"""The size of a method that is best on validation, in results written by hand, and how tables name it."""

import json

import pytest
from helpers_results import result, three, write

from grid.table import summary, table
from results.estimates import Grid
from results.kept import estimates
from results.reading import read_result

# disentangle by (method, layer): on validation and on test pairs, where the other one would be chosen
SCORES = {
    ("das@4", 0): (0.75, 0.9375),
    ("das@4", 1): (0.5, 1.0),
    ("das@16", 0): (0.625, 1.0),
    ("das@16", 1): (0.875, 0.625),
    ("das@4:cause", 0): (0.75, 0.5),
    ("random@4", 0): (0.5, 0.5),
    ("random@16", 0): (0.5, 0.25),
    ("das", 0): (1.0, 1.0),
    ("neuron", 0): (0.5, 0.5),
}


@pytest.fixture
def grid(tmp_path) -> Grid:
    for (method, layer), (validation, test) in SCORES.items():
        content = result("country", method, layer, hard=(test, test))
        hard = {**content["test"]["hard"], **three(validation, validation)}
        write(tmp_path, {**content, "validation": {**content["test"], "hard": hard}})
    root = tmp_path / "toy"
    return Grid([read_result(path, root) for path in sorted(root.glob("*/*/layer*.json"))])


def test_size_and_layer_are_chosen_on_validation_and_scored_on_test(grid):
    method, n_sizes, choice = grid.size_choice("country", "das@", "hard")
    assert (method, n_sizes, choice.layer, choice.n_layers) == ("das@16", 2, 1, 2)
    assert (choice.validation, choice.test.mean) == (0.875, 0.625)
    assert grid.size_choice("country", "das@:cause", "hard") is None  # one size: nothing was chosen
    assert grid.size_choice("country", "random@", "hard")[0] == "random@4"  # of equal ones the smallest
    chosen = estimates(grid, "neuron", "hard")["size_chosen_on_validation"]
    assert [(c["family"], c["method"], c["n_sizes"], c["layer"]) for c in chosen] == [
        ("das@", "das@16", 2, 1),
        ("random@", "random@4", 2, 0),
    ]
    json.dumps(chosen)


def test_summary_names_it_once(grid):
    lines = summary(grid).splitlines()
    (line,) = [line for line in lines if line.startswith("  das@16 ")]
    assert " ".join(line.split()[:9]) == "das@16 layer 1, of 2 x 2 test 0.625"
    assert not [line for line in lines if line.startswith("  das@4 ")]  # its size was not chosen
    assert max(map(len, lines)) <= 80


def test_random_dimensions_are_a_row_and_the_control_of_each_size(grid):
    assert grid.methods == ["neuron", "das", "das@4", "das@4:cause", "das@16", "random@4", "random@16"]
    assert grid.controls == {method: [] for method in grid.methods}
    pairs = {(c.method, c.against) for c in grid.compare_controls("hard")}
    assert pairs == {("das@4", "random@4"), ("das@4:cause", "random@4"), ("das@16", "random@16")}
    assert {c.method for c in grid.compare("neuron", "hard")} == {"das", "das@4", "das@4:cause", "das@16"}
    text = table(grid, "hard", "neuron")
    assert text.count("\nrandom@4 ") == 1
    assert "minus that of its controls" in text
    assert max(map(len, text.splitlines())) <= 80
