"""Train and test binary masks over a grid of targets, methods, layers and seeds.

    python main.py                      the paper's grid on GPT-2 small
    python main.py --model toy          the whole grid on the toy world, offline
    python main.py --methods neuron das --layers 0 5 --seeds 0 1 2

What is done is skipped; after an interruption the same command goes on.
"""

import sys
import textwrap
from pathlib import Path

from common import command
from grid.launchers import LAUNCHERS
from grid.profiles import notice_of
from grid.settings import Settings, read_settings
from masks.names import default_mask


def run_grid(settings: Settings) -> None:
    """Do what the command line asks for.  Raises UserError."""
    from grid.devices import settle  # not above: commands read their flags before they import torch
    from grid.experiment import Experiment
    from grid.forecast import print_forecast
    from grid.inputs import set_up
    from grid.layers import model_info
    from grid.plan import plan, print_plan
    from grid.power import print_power
    from grid.status import done_of, print_status
    from grid.work import clear_away
    from results.store import Store

    launcher = LAUNCHERS[settings.launcher]
    if not (launcher.is_elsewhere or settings.status or settings.collect):
        settle(settings)
    info = model_info(settings)
    runs = plan(settings, info)
    store = Store(settings.output, settings.model)
    if settings.dry_run:
        print_plan(runs, store, settings, info.n_layers)
        print_forecast(Experiment(settings, store, runs))
    elif settings.plan:
        set_up(settings)
        print_power(runs, store, settings, info.n_layers)
    elif settings.status:
        print_status(runs, store)
    elif settings.collect:
        print_results([store.read(run) for run in done_of(runs, store)], settings, store.root)
    else:
        store.require_writable()
        experiment = Experiment(settings, store, runs)
        if launcher.launch(experiment):
            clear_away({run.layer for run in runs}, store)
            print(command.peak_memory(settings.device), file=sys.stderr)
            print_results(experiment.results(), settings, store.root)


def print_results(results: list[dict], settings: Settings, root: Path) -> None:
    """Print the table of results, and keep its numbers beside them, in root.  Raises UserError."""
    from common.files import write_json
    from grid.table import summary, table
    from results.estimates import Grid

    grid = Grid(results, settings.cluster)
    mask = default_mask(settings.mode)
    write_json(root / "estimates.json", grid.as_json(settings.against, mask))
    print(table(grid, mask, settings.against))
    print(summary(grid))
    if notice := notice_of(settings.model):
        print("\n" + textwrap.fill(notice, 79))
    print(f"\nresults: {root}")
    if settings.wandb:
        print(f"wandb: {settings.output / 'wandb'} (offline runs are sent by: wandb sync FOLDER)")


def main(argv: list[str] | None = None) -> int:
    return command.run(
        lambda: run_grid(read_settings(argv, __doc__)),
        interrupted="finished runs are kept; run the same command again to go on",
    )


if __name__ == "__main__":
    sys.exit(main())
