"""Train and test binary masks over a grid of targets, methods, layers and seeds.

    python main.py                      the paper's grid on GPT-2 small
    python main.py --model toy          the whole grid on the toy world, offline
    python main.py --methods neuron das --layers 0 5 --seeds 0 1 2

What is done is skipped; after an interruption the same command goes on.
"""

from __future__ import annotations

import sys

import command
from experiment import Experiment
from featurizers import METHODS
from imports import UserError
from inputs import depth, methods_at, saes_of, set_up
from results import Run, Store, shortened, summary, table
from saes import locate
from settings import Settings, read_settings

TOY_NOTE = """
This is the toy world: that das beats neurons and neurons beat SAEs at layer 2
is built into it. The table checks the machinery; it is no finding about real
models."""


def run_grid(settings: Settings) -> None:
    """Do what the command line asks for.  Raises UserError."""
    n_layers = depth(settings)
    runs = plan(settings, n_layers)
    store = Store(settings.output, settings.model)
    if settings.dry_run:
        print_plan(runs, store, settings, n_layers)
        return
    store.require_writable()
    set_up(settings)
    Experiment(settings, store, runs).execute()
    print(command.peak_memory(settings.device), file=sys.stderr)
    results = [store.read(run) for run in runs]
    order = [*METHODS, *(method for method in settings.methods if method not in METHODS)]
    print(table(results, order))
    print(summary(results, order))
    if settings.toy_folder:
        print(TOY_NOTE)
    print(f"\nresults: {store.root}")
    if settings.wandb:
        print(f"wandb: {settings.output / 'wandb'} (offline runs are sent by: wandb sync FOLDER)")


# ---------------------------------------------------------------- the plan


def plan(settings: Settings, n_layers: int) -> list[Run]:
    """All cells of the grid, layer by layer.  Raises UserError as `methods_at` does, or if there are none."""
    runs = [
        Run(target, method, layer, seed)
        for layer, methods in methods_at(settings, n_layers).items()
        for target in settings.targets
        for seed in settings.seeds
        for method in methods
    ]
    if not runs:
        raise UserError("the grid is empty: no method asked for has an SAE at these layers; see --dry-run")
    return runs


def print_plan(runs: list[Run], store: Store, settings: Settings, n_layers: int) -> None:
    done = sum(store.is_done(run) for run in runs)
    for target in dict.fromkeys(run.target for run in runs):
        print(f"{target}:")
        for method in dict.fromkeys(run.method for run in runs):
            cells = [run for run in runs if (run.target, run.method) == (target, method)]
            if cells:
                layers, seeds = ({getattr(run, key) for run in cells} for key in ("layer", "seed"))
                print(f"  {shortened(method, 14):<14} layers {_ranges(layers):<20} seeds {_ranges(seeds)}")
    needed = saes_of(runs)
    lacking = [1 for release, layer in needed if not locate(release, settings.saes, layer, n_layers).exists()]
    if lacking and settings.model != "toy":  # the toy world's are built on first use
        print(f"{len(lacking)} of {len(needed)} SAEs are missing in {settings.saes}")
    print(f"{len(runs)} runs, {done} done, {len(runs) - done} to do; results:\n{store.root}")


def _ranges(numbers: set[int]) -> str:
    """{0, 1, 2, 5} -> '0-2 5'."""
    ordered = sorted(numbers)
    starts = [n for n in ordered if n - 1 not in numbers]
    ends = [n for n in ordered if n + 1 not in numbers]
    return " ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


def main(argv: list[str] | None = None) -> int:
    return command.run(
        lambda: run_grid(read_settings(argv, __doc__)),
        interrupted="finished runs are kept; run the same command again to go on",
    )


if __name__ == "__main__":
    sys.exit(main())
