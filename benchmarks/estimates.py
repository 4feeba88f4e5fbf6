"""How long a grid's intervals, differences and corrections take, without a model.

    python benchmarks/estimates.py

Outcomes are drawn at random for 2 targets, 10 methods, 12 layers and 5 seeds, 750 test pairs of each kind per seed
among 60 cities of 40 countries, in memory; timed is what main.py's table and visualisation.py do with them.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common.command import peak_gb
from featurizers.methods import METHODS
from imports import np
from results.estimates import Grid
from results.pairs import NamedPairs

N_CITIES, N_COUNTRIES, N_PAIRS, N_SEEDS = 60, 40, 750, 5
OWN = ["sae:a", "sae:b"]  # with the known methods, ten


def pairs(rng) -> NamedPairs:
    facts = {f"city {i}": {"country": f"country {i % N_COUNTRIES}", "continent": "any"} for i in range(N_CITIES)}
    base = rng.integers(N_CITIES, size=2 * N_PAIRS)
    source = (base + rng.integers(1, N_CITIES, size=2 * N_PAIRS)) % N_CITIES
    ends = ([f"city {i}" for i in end] for end in (base, source))
    return NamedPairs(*ends, np.arange(2 * N_PAIRS) // N_PAIRS, facts)


def results() -> list[dict]:
    rng = np.random.default_rng(0)
    test_pairs = {(target, seed): pairs(rng) for target in ("country", "continent") for seed in range(N_SEEDS)}
    return [
        {"target": target, "method": method, "layer": layer, "seed": seed, "test_pairs": test_pairs[target, seed]}
        | {"config": {"n_cities": N_CITIES}, "last_block": False, "notice": None}
        | {"outcomes": {k: rng.random(2 * N_PAIRS) < 0.75 for k in ("soft", "hard", "none", "full", "reconstruction")}}
        for target, seed in test_pairs
        for method in [*METHODS, *OWN]
        for layer in range(12)
    ]


def main() -> None:
    made = results()
    began = time.perf_counter()
    grid = Grid(made)
    scores = time.perf_counter() - began
    n = len(grid.compare("neuron", "hard"))
    both = time.perf_counter() - began
    print(
        f"{len(made)} results: intervals {scores:.1f} s, {n} differences with Holm's correction {both - scores:.1f} s"
    )
    print(f"peak memory {peak_gb():.2f} GB")


if __name__ == "__main__":
    main()
