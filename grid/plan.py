"""The cells of a grid, and how a dry run prints them."""

from common.errors import UserError
from common.text import shortened
from grid.layers import ModelInfo, methods_at, saes_of
from grid.settings import Settings
from results.run import Run
from results.store import Store
from saes.releases import locate


def plan(settings: Settings, info: ModelInfo) -> list[Run]:
    """All cells of the grid, layer by layer.  Raises UserError as `methods_at` does, or if there are none."""
    runs = [
        Run(target, method, layer, seed)
        for layer, methods in methods_at(settings, info).items()
        for target in settings.targets
        for seed in settings.seeds
        for method in methods
    ]
    if not runs:
        raise UserError("the grid is empty: no method asked for has an SAE at these layers; see --dry-run")
    return runs


def print_plan(runs: list[Run], store: Store, settings: Settings, n_layers: int) -> None:
    done = 0 if settings.force else sum(store.is_done(run) for run in runs)
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
