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

from common import command
from featurizers.labels import parse_labels
from grid.profiles import notice_of
from grid.settings import Settings, read_settings
from masks.names import default_mask


def run_grid(settings: Settings) -> None:
    """Train and test what is not done yet, and print the table.  Raises UserError."""
    from common.files import write_json
    from grid.devices import settle  # not above: commands read their flags before they import torch
    from grid.doctor import print_doctor
    from grid.experiment import Experiment
    from grid.inputs import set_up
    from grid.layers import model_info
    from grid.plan import plan, print_plan
    from grid.power import print_power
    from grid.reproduction import reproduction
    from grid.selfcheck import print_verified
    from grid.table import summary, table
    from results.estimates import Grid
    from results.labels import keep_labels, with_kept
    from results.published import as_json, paper_for
    from results.store import Store

    labels = parse_labels(settings.label, settings.methods)
    settle(settings)
    store = Store(settings.output, settings.model)
    if settings.doctor:
        print_doctor(settings, store)
        return
    info = model_info(settings)
    runs = plan(settings, info)
    with_kept(store.root, labels)  # what is wrong with them is told before all else
    if settings.dry_run:
        print_plan(runs, store, settings, info.n_layers)
        return
    if settings.plan:
        set_up(settings)
        print_power(runs, store, settings, info.n_layers)
        return
    store.require_writable()
    if settings.verify:
        print_verified(settings, store)
        return
    if settings.explain:
        from explain.command import explain_results

        explain_results(settings, store, runs, info)
        return
    experiment = Experiment(settings, store, runs)
    experiment.execute()
    labels = keep_labels(store.root, labels)
    print(command.peak_memory(settings.device), file=sys.stderr)
    grid = Grid(experiment.results(), settings.cluster, labels)
    mask = default_mask(settings.mode)
    paper = paper_for(grid)
    content = grid.as_json(settings.against, mask) | ({"published": as_json(grid, paper)} if paper else {})
    write_json(store.root / "estimates.json", content)
    print(table(grid, mask, settings.against))
    print(summary(grid))
    if text := reproduction(grid):
        print(text)
    if notice := notice_of(settings.model):
        print("\n" + textwrap.fill(notice, 79))
    print(f"\nresults: {store.root}")
    if settings.wandb:
        print(f"wandb: {settings.output / 'wandb'} (offline runs are sent by: wandb sync FOLDER)")


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
    grid = Grid(found.results, settings.cluster, labels)
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


def do(settings: Settings) -> None:
    """What the command line asks for.  Raises UserError."""
    if settings.compare or settings.export:
        use_finished(settings)
    else:
        run_grid(settings)


def main(argv: list[str] | None = None) -> int:
    return command.run(
        lambda: do(read_settings(argv, __doc__)),
        interrupted="finished runs are kept; run the same command again to go on",
    )


if __name__ == "__main__":
    sys.exit(main())
