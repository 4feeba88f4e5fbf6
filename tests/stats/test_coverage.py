"""A small run of benchmarks/coverage.py: does the interval hold the truth, and are equal methods left alone?

Coverage is near .96 of 300 data sets, three standard errors are .034; thresholds leave that and more.
"""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from common.paths import HOME
from stats import difference, holm, interval, verdict

SCRIPT = HOME / "benchmarks" / "coverage.py"


@pytest.fixture(scope="module")
def benchmark():
    """The script as a module; not by its name, which is also a library's."""
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        spec = importlib.util.spec_from_file_location("benchmark_of_coverage", SCRIPT)
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(SCRIPT.parent))
    return module


@pytest.mark.parametrize("score", [0.5, 0.8, 0.95])
@pytest.mark.parametrize(("unit", "n", "effects"), [("city", 20, "0, 2"), ("country", 30, "1, 1")])
def test_interval_covers_the_true_score(benchmark, unit, n, effects, score):
    rng = np.random.default_rng(0)
    world = benchmark.World(benchmark.Setting(unit, n, effects, seed_sd=0.0), rng)
    outcomes, _ = world.draw([score], 300, rng)
    assert 0.91 < benchmark.holds(interval(outcomes, "disentangle"), np.float64(score)) < 1


@pytest.mark.parametrize("new_seeds", [True, False])
def test_interval_of_seeds_covers_what_it_is_named_for(benchmark, new_seeds):
    """With strong seeds only the interval for new seeds holds the true score."""
    rng = np.random.default_rng(1)
    world = benchmark.World(benchmark.Setting("city", 20, "1, 1", 5, "pairs", seed_sd=1.5), rng)
    outcomes, of_seeds = world.draw([0.7], 300, rng)
    found = interval(outcomes, "disentangle", new_seeds)
    assert 0.91 < benchmark.holds(found, np.float64(0.7) if new_seeds else of_seeds) < 1
    if not new_seeds:
        assert benchmark.holds(found, np.float64(0.7)) < 0.85


def test_difference_covers_and_is_narrower_than_two_intervals(benchmark):
    rng = np.random.default_rng(2)
    world = benchmark.World(benchmark.Setting("city", 20, "1, 1", seed_sd=0.0), rng)
    outcomes, _ = world.draw([0.85, 0.75], 300, rng)
    a, b = ([o.cell(i) for o in outcomes] for i in (0, 1))
    found = difference(a, b, "disentangle")
    assert 0.91 < benchmark.holds(found, np.float64(0.1)) < 1
    apart = [benchmark.width(interval(cell, "disentangle")) for cell in (a, b)]
    assert benchmark.width(found) < 0.85 * sum(apart)


def test_equal_methods_are_rarely_called_different(benchmark):
    rng = np.random.default_rng(3)
    world = benchmark.World(benchmark.Setting("city", 12, "1, 1", seed_sd=0.0), rng)
    outcomes, _ = world.draw([0.8] * 6, 200, rng)
    first, others = ([o.cell(at) for o in outcomes] for at in (slice(0, 1), slice(1, None)))
    found = difference(others, first, "disentangle")
    assert (verdict(found.value, holm(found.p.T).T) != "cannot tell").any(0).mean() < 0.08


def test_script_prints_its_tables():
    done = subprocess.run(
        [sys.executable, SCRIPT, "--quick", "--sets", "20", "--only", "1", "4", "5"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n### ") == 4
    assert "| city | 12 | 12 | 1, 1 | 1 |" in done.stdout
