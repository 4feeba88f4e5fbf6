"""Project the GPU hours and the wall time of two large grids from measured steps.

    python benchmarks/projection.py

Nothing is measured here.  The steps are those of benchmarks/gpu.py on an H100 (README.md); between layers that were
measured they are interpolated, and where one layer was, they go by multiplications (`Shape.products`).  What a task
repeats, reading the model, the self-check and the harvest, is a guess of STARTUP seconds.
"""

import argparse
import heapq
from dataclasses import dataclass

import numpy as np

STARTUP = 90.0  # seconds
TESTS = 1.05  # of the training's time with its tests: 3,200 pairs forward beside 2,800 steps of 16 pairs there and back
GPUS = (1, 8, 64)


@dataclass(frozen=True)
class Shape:
    """What of a decoder decides the multiplications of a step.

    parameters: of all its blocks; of a gated MLP and its attention's projections, without embeddings.
    measured: layer -> seconds of a run's step, in fp32.
    """

    name: str
    layers: int
    parameters: float
    d_model: int
    vocabulary: int
    measured: dict[int, float]

    def products(self, layer: int, tokens: int = 128, rows: int = 16) -> float:
        """Multiplications of a step after a layer: the blocks above there and back, the head for the answers."""
        above = self.parameters * (self.layers - 1 - layer) / self.layers
        return 2 * (above * tokens + self.d_model * self.vocabulary * rows)

    def seconds_of_step(self, layer: int) -> float:
        if len(self.measured) > 1:
            return float(np.interp(layer, list(self.measured), list(self.measured.values())))
        ((known, seconds),) = self.measured.items()
        return seconds * self.products(layer) / self.products(known)


GPT2 = Shape("GPT-2 small", 12, 85e6, 768, 50257, {0: 2.013e-3, 5: 1.238e-3, 10: 0.441e-3})
GEMMA = Shape("Gemma 2 2B", 26, 2.02e9, 2304, 256_000, {12: 14.593e-3})


def wall(tasks: list[float], gpus: int) -> float:
    """Until the last of these tasks ends, each given to the GPU that is free first, the longest first."""
    free = [0.0] * gpus
    for seconds in sorted(tasks, reverse=True):
        heapq.heapreplace(free, free[0] + seconds + STARTUP)
    return max(free)


def show(name: str, tasks: list[float]) -> None:
    hours = (sum(tasks) + STARTUP * len(tasks)) / 3600
    walls = "".join(f"{wall(tasks, n) / 60:>12.0f}" for n in GPUS)
    print(f"{name:<44}{len(tasks):>6}{hours:>10.2f}{walls}")


def main() -> None:
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    print(f"{'':<60}minutes by the wall on")
    print(f"{'':<44}{'tasks':>6}{'GPU hours':>10}" + "".join(f"{f'{n} GPUs':>12}" for n in GPUS))
    # The paper's: two targets, masks of 2,800 steps; 108 cells at 12 layers of which the last trains nothing.
    at_layer, steps = 100 / 11, 2800
    grid = [at_layer * steps * GPT2.seconds_of_step(layer) * TESTS for layer in range(11)]
    show("the paper's grid, 1 seed, per layer", [*grid, 0.0])
    show("the paper's grid, 10 seeds, per layer", [*(10 * seconds for seconds in grid), 0.0])
    show("the paper's grid, 10 seeds, per method", [10 * s / 5 for s in grid for _ in range(5)])  # some have 4
    # A release of 50 SAEs at a middle layer, three targets, RAVEL's pairs: 8 epochs of 4,000 in batches of 16.
    sae = 3 * 2000 * GEMMA.seconds_of_step(12) * TESTS
    show("50 SAEs, Gemma 2 2B, layer 12, per layer", [50 * sae])
    show("50 SAEs, Gemma 2 2B, layer 12, per method", [sae] * 50)
    show("the same, 5 seeds, per method", [5 * sae] * 50)
    spread = [3 * 2000 * GEMMA.seconds_of_step(layer) * TESTS for layer in np.linspace(0, 24, 50).astype(int).tolist()]
    show("50 SAEs, Gemma 2 2B, two a layer, per method", spread)


if __name__ == "__main__":
    main()
