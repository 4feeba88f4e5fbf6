"""Train and test binary masks over a grid of targets, methods, layers and seeds.

    python main.py                      the paper's grid on GPT-2 small
    python main.py --model toy          the whole grid on the toy world, offline
    python main.py --methods neuron das --layers 0 5 --seeds 0 1 2

What is done is skipped; after an interruption the same command goes on.
"""

from __future__ import annotations

import os
import sys

import toy
from data.ravel_data_prep import read_cities
from experiment import Experiment, saes_of
from featurizers import METHODS
from imports import UserError, torch
from models import load_config
from results import Run, Store, summary, table
from saes import RELEASES, locate
from settings import DEFAULT_MODEL, Settings, read_settings

GPT2_SMALL_DEPTH = 12
TOY_NOTE = """
This is the toy world: that das beats neurons and neurons beat SAEs at layer 2
is built into it. The table checks the machinery; it is no finding about real
models."""


def run_grid(settings: Settings) -> None:
    """Do what the command line asks for.  Raises UserError."""
    toy_is_default = settings.model == "toy"
    n_layers = toy.Recipe().n_layers if toy_is_default else depth(settings)
    runs = plan(settings, n_layers)
    store = Store(settings.output, settings.model)
    if settings.dry_run:
        print_plan(runs, store, settings, n_layers)
        return
    store.require_writable()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    if toy_is_default and settings.cities.parent != settings.toy_folder:
        read_cities(settings.cities)  # an error in it is told before the toy world is built
    if toy_is_default:
        toy.ensure(settings.toy_folder)
    Experiment(settings, store, runs).execute()
    results = [store.read(run) for run in runs]
    print(table(results, list(METHODS)))
    print(summary(results, list(METHODS)))
    if settings.toy_folder:
        print(TOY_NOTE)
    print(f"\nresults: {store.root}")
    if settings.wandb:
        print(f"wandb: {settings.output / 'wandb'} (offline runs are sent by: wandb sync FOLDER)")


def depth(settings: Settings) -> int:
    """How many blocks the model has; a dry run of the default needs no network for that."""
    if settings.dry_run and settings.model == DEFAULT_MODEL:
        return GPT2_SMALL_DEPTH
    return load_config(settings.model).n_layer


# ---------------------------------------------------------------- the plan


def plan(settings: Settings, n_layers: int) -> list[Run]:
    """All cells of the grid, layer by layer; a family's absent layers are left out.

    Raises UserError if a layer does not exist, or if a method and a layer were both
    asked for by name and the family has no SAE there.
    """
    layers = list(range(n_layers)) if settings.layers is None else settings.layers
    for layer in layers:
        if not 0 <= layer < n_layers:
            raise UserError(f"layer {layer} is out of range: {settings.model} has the layers 0 to {n_layers - 1}")
    layers_with = {method: layers_of(method, settings, n_layers) for method in settings.methods}
    runs = []
    for layer in layers:
        for target in settings.targets:
            for seed in settings.seeds:
                for method, has in layers_with.items():
                    if layer in has:
                        runs.append(Run(target, method, layer, seed))
                    elif settings.layers is not None and settings.methods_named:
                        raise UserError(
                            f"{method} has no SAE at layer {layer} (it has {', '.join(map(str, has)) or 'none'}); "
                            "leave out the layer or the method, or say --layers all"
                        )
    if not runs:
        raise UserError("the grid is empty: no method asked for has an SAE at these layers; see --dry-run")
    return runs


def layers_of(method: str, settings: Settings, n_layers: int) -> list[int]:
    """The layers at which a method can run.

    Those found in the SAE folder and, for a model of GPT-2 small's depth, those that
    were published: that such a file is missing is an error later on.
    """
    release = METHODS[method].release
    if release is None or settings.model == "toy":
        return list(range(n_layers))
    found = [layer for layer in range(n_layers) if locate(release, settings.saes, layer, n_layers).exists()]
    published = RELEASES[release].layers if n_layers == GPT2_SMALL_DEPTH else ()
    return sorted({*published, *found})


def print_plan(runs: list[Run], store: Store, settings: Settings, n_layers: int) -> None:
    done = sum(store.is_done(run) for run in runs)
    for target in dict.fromkeys(run.target for run in runs):
        print(f"{target}:")
        for method in dict.fromkeys(run.method for run in runs):
            cells = [run for run in runs if (run.target, run.method) == (target, method)]
            if cells:
                layers, seeds = ({getattr(run, key) for run in cells} for key in ("layer", "seed"))
                print(f"  {method:<14} layers {_ranges(layers):<20} seeds {_ranges(seeds)}")
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
    try:
        run_grid(read_settings(argv, __doc__))
    except UserError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except BrokenPipeError:  # as in `main.py | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted: finished runs are kept; run the same command again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
