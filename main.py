"""Train and test binary masks over a grid of targets, methods, layers and seeds.

    python main.py                      the paper's grid on GPT-2 small
    python main.py --model toy          the whole grid on the toy world, offline
    python main.py --methods neuron das --layers 0 5 --seeds 0 1 2
    python main.py --compare das neuron    two methods in finished results
    python main.py --export csv            finished results for other programs
    python main.py --model toy --explain   what the finished masks selected

What is done is skipped; after an interruption the same command goes on.
"""

import sys
import textwrap
from pathlib import Path

from common import command
from featurizers.labels import parse_labels
from grid.launchers import LAUNCHERS
from grid.profiles import notice_of
from grid.settings import Settings, read_settings
from masks.names import default_mask

# Commands read their flags before they import torch: so imports stand in the functions.


def run_grid(settings: Settings) -> None:
    """Train and test what is not done yet, here or elsewhere, and print the table.  Raises UserError."""
    from grid.experiment import Experiment
    from grid.work import clear_away
    from results.labels import keep_labels, with_kept

    labels = parse_labels(settings.label, settings.methods)
    launcher = LAUNCHERS[settings.launcher]
    store, runs, _ = _grid_of(settings, settles=not launcher.is_elsewhere)
    with_kept(store.root, labels)  # what is wrong with them is told before all else
    store.require_writable()
    experiment = Experiment(settings, store, runs)
    is_done = launcher.launch(experiment)
    labels = keep_labels(store.root, labels)
    if is_done:
        clear_away(store, runs)
        print(command.peak_memory(settings.device), file=sys.stderr)
        print_results(experiment.results(), settings, store.root, labels)


def print_results(results: list[dict], settings: Settings, root: Path, labels: dict) -> None:
    """Print the table of results, and keep its numbers beside them, in root.  Raises UserError."""
    from common.files import write_json
    from grid.reproduction import reproduction
    from grid.table import elsewhere_lines, summary, table, worked_lines
    from results.estimates import Grid
    from results.kept import content_of

    grid = Grid(results, settings.cluster if settings.cluster_named else None, labels)
    mask = default_mask(settings.mode)
    templates = grid.with_templates_held_out()
    write_json(root / "estimates.json", content_of(grid, templates, settings.against, mask))
    print(table(grid, mask, settings.against))
    print(summary(grid))
    if templates:
        print(table(templates, mask, settings.against))
    print("\n".join(elsewhere_lines(grid, templates)))
    print("\n".join(worked_lines(grid, mask)))
    if text := reproduction(grid):
        print(text)
    if notice := notice_of(settings.model):
        print("\n" + textwrap.fill(notice, 79))
    print(f"\nresults: {root}")
    if settings.wandb:
        print(f"wandb: {settings.output / 'wandb'} (offline runs are sent by: wandb sync FOLDER)")


def _grid_of(settings: Settings, settles: bool = True):
    """The store, the cells of the grid, and what the model's config says; settles: whether it will be run here."""
    from grid.devices import settle
    from grid.layers import model_info
    from grid.plan import plan
    from results.store import Store

    if settles:
        settle(settings)
    info = model_info(settings)
    return Store(settings.output, settings.model), plan(settings, info), info


# ---------------------------------------------------------------- instead of running the grid


def show_plan(settings: Settings) -> None:
    from grid.experiment import Experiment
    from grid.forecast import print_forecast
    from grid.inputs import answers_path
    from grid.plan import print_plan

    store, runs, info = _grid_of(settings)
    print_plan(runs, store, settings, info.n_layers)
    if settings.ravel and not answers_path(settings).exists():
        print("no forecast: the model has not been asked RAVEL's prompts yet")
    else:
        print_forecast(Experiment(settings, store, runs))


def show_power(settings: Settings) -> None:
    from grid.inputs import set_up
    from grid.power import print_power

    store, runs, info = _grid_of(settings)
    set_up(settings)
    print_power(runs, store, settings, info.n_layers)


def show_status(settings: Settings) -> None:
    from grid.status import print_status

    store, runs, _ = _grid_of(settings, settles=False)
    print_status(runs, settings.per, store.is_done, store)


def collect(settings: Settings) -> None:
    from grid.status import done_of, require_settings
    from results.labels import keep_labels

    store, runs, _ = _grid_of(settings, settles=False)
    done = [store.read(run) for run in done_of(runs, store)]
    require_settings(done, settings, store)
    labels = keep_labels(store.root, parse_labels(settings.label, settings.methods))
    print_results(done, settings, store.root, labels)


def verify(settings: Settings) -> None:
    from grid.selfcheck import print_verified

    store, _, _ = _grid_of(settings)
    store.require_writable()
    print_verified(settings, store)


def doctor(settings: Settings) -> None:
    from grid.devices import settle
    from grid.doctor import print_doctor
    from results.store import Store

    settle(settings)
    print_doctor(settings, Store(settings.output, settings.model))


def explain(settings: Settings) -> None:
    from explain.command import explain_results

    store, runs, info = _grid_of(settings)
    store.require_writable()
    explain_results(settings, store, runs, info)


def use_finished(settings: Settings) -> None:
    """Compare or export finished results; nothing is run and no model is read.  Raises UserError."""
    from export.formats import export
    from grid.compared import comparison_table, write_comparison
    from results.collecting import read_finished
    from results.estimates import Grid
    from results.labels import keep_labels
    from results.store import Store

    store = Store(settings.output, settings.model)
    methods = settings.methods if settings.methods_named and not settings.compare else None
    layers = settings.layers if settings.layers_named else None
    seeds = settings.seeds if settings.seeds_named else None
    found = read_finished(store.root, settings.targets, methods, layers, seeds)
    labels = found.labels
    if settings.label:
        labels = keep_labels(store.root, parse_labels(settings.label, found.methods))
    grid = Grid(found.results, settings.cluster if settings.cluster_named else None, labels)
    if settings.compare:
        mask = default_mask(grid.results[0]["mode"])
        print(comparison_table(grid, *settings.compare, mask))
        written = [write_comparison(grid, *settings.compare, mask, store)]
    else:
        written = export(grid, found, settings.export, settings.to)
    if grid.notice:
        print("\n" + textwrap.fill(grid.notice, 79))
    more = f" and {len(written) - 1} more" if len(written) > 1 else ""
    print(f"\nwritten: {written[0]}{more}")


INSTEAD = {  # flag -> what it asks for in place of the grid
    "dry_run": show_plan,
    "plan": show_power,
    "status": show_status,
    "collect": collect,
    "verify": verify,
    "doctor": doctor,
    "explain": explain,
    "compare": use_finished,
    "export": use_finished,
}


def main(argv: list[str] | None = None) -> int:
    def work() -> None:
        settings = read_settings(argv, __doc__)
        act = next((act for flag, act in INSTEAD.items() if getattr(settings, flag)), run_grid)
        act(settings)

    return command.run(
        work, interrupted="what is done is kept, and so is the training; run the same command again to go on"
    )


if __name__ == "__main__":
    sys.exit(main())
