"""The table's rows, against estimates of results written by hand."""

from helpers_results import result, write

from grid.table import table
from results.estimates import Grid
from results.reading import read_result


def test_a_comparison_that_detects_nothing_keeps_its_numbers(tmp_path):
    """Three seeds that disagree: no difference up to 1 would be found, and the row says so behind its other columns."""
    for seed, score in enumerate((0.0, 0.5, 1.0)):
        write(tmp_path, result("country", "das", 0, seed, hard=(score, score)))
        write(tmp_path, result("country", "neuron", 0, seed, hard=(0.5, 0.5)))
    grid = Grid([read_result(path, tmp_path / "toy") for path in (tmp_path / "toy").glob("*/*/layer*.json")])
    (found,) = grid.compare("neuron", "hard")
    assert found.detectable == 1
    (row,) = [line for line in table(grid, "hard", "neuron").splitlines() if line.startswith(" 0 das")]
    interval = f"[{found.low:+.3f} {found.high:+.3f}]"
    assert row == f" 0 das               +0.000 {interval} {found.p:6.3f} {found.p_holm:6.3f}  cannot tell   none"
