"""Score SAEs on the experiment's own prompts: what they reconstruct, and what splicing them in costs.

    python eval_sae.py                      every SAE of GPT-2 small
    python eval_sae.py --model toy          every SAE of the toy world, offline
    python eval_sae.py --raw-residual       and what feeding them the uncentred stream costs
    python eval_sae.py --markdown           the table for a README; --latex for a paper
    python eval_sae.py --check              are the files whole, and fed the right stream?

What is scored is kept in OUTPUT/MODEL/sae-quality.json and not scored again; after an
interruption the same command goes on. docs/quality.md defines the metrics.
"""

import sys
import textwrap

from common import command
from common.errors import UserError
from grid.launchers import LAUNCHERS
from grid.profiles import notice_of
from quality.names import SCORES_FILE
from quality.settings import EvalSettings, read_settings
from quality.table import STYLES


def run(settings: EvalSettings) -> None:
    """Do what the command line asks for.  Raises UserError."""
    from quality.check import check  # not above: commands read their flags before they import torch

    if settings.check:
        _choose_device(settings)
        check(settings)
    else:
        score_saes(settings)


def score_saes(settings: EvalSettings) -> None:
    """Score every SAE asked for that is not scored yet, here or elsewhere, and print the table.  Raises UserError."""
    from grid.layers import model_info
    from grid.status import print_status
    from grid.work import clear_away
    from quality.names import WORK
    from quality.scores import cell_of, there
    from quality.scoring import Scoring, plan, print_plan
    from results.store import Store

    launcher = LAUNCHERS[settings.launcher]
    if not (launcher.is_elsewhere or settings.status or settings.collect):
        _choose_device(settings)
    info = model_info(settings)
    cells = plan(settings, info)
    store = Store(settings.output, settings.model)
    if settings.dry_run:
        print_plan(cells, settings, info.n_layers, store)
    elif settings.status:
        scored = {cell_of(row) for row in there(store)[0]}
        print_status(cells, settings.per, scored.__contains__, store, WORK)
    elif settings.collect:
        print_scores(settings, cells, store)
    else:
        store.require_writable()
        if launcher.launch(Scoring(settings, store, cells)):
            clear_away(store, cells, WORK)
            print_scores(settings, cells, store)


def print_scores(settings: EvalSettings, cells: list, store) -> None:
    """Print the table of what is there of these SAEs.  Raises UserError if that is nothing."""
    from quality.scores import cell_of, there

    path = store.root / SCORES_FILE
    found, n_cities = there(store)
    rows = [row for row in found if cell_of(row) in cells]
    n_scored = len({cell_of(row) for row in rows})
    if not rows:
        raise UserError(f"none of {len(cells)} SAEs is scored in {path}; --status tells how far they are")
    if n_scored < len(cells):
        print(f"{n_scored} of {len(cells)} SAEs are scored; the others are left out", file=sys.stderr)
    print(STYLES[settings.style](settings.model, n_cities, rows))
    notice = notice_of(settings.model)
    if notice and settings.style == "terminal":
        print("\n" + textwrap.fill(notice, 79))
    print(f"\nscores: {path}", file=sys.stdout if settings.style == "terminal" else sys.stderr)


def _choose_device(settings: EvalSettings) -> None:
    from grid.devices import choose_device

    choose_device(settings)


def main(argv: list[str] | None = None) -> int:
    return command.run(
        lambda: run(read_settings(argv, __doc__)),
        interrupted="what is scored is kept; run the same command again to go on",
    )


if __name__ == "__main__":
    sys.exit(main())
