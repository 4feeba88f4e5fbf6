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
from grid.profiles import notice_of
from quality.settings import EvalSettings, read_settings
from quality.table import STYLES


def run(settings: EvalSettings) -> None:
    """Do what the command line asks for.  Raises UserError."""
    from grid.devices import choose_device  # not above: commands read their flags before they import torch
    from quality.check import check

    choose_device(settings)
    if settings.check:
        check(settings)
    else:
        score_saes(settings)


def score_saes(settings: EvalSettings) -> None:
    """Score every SAE asked for that is not scored yet, and print the table.  Raises UserError."""
    from grid.inputs import read_inputs, set_up
    from grid.layers import model_info, saes_of
    from quality.scoring import ScoreStore, plan, print_plan, score
    from results.store import Store

    info = model_info(settings)
    cells = plan(settings, info)
    store = Store(settings.output, settings.model)
    if settings.dry_run:
        print_plan(cells, settings, info.n_layers, store)
        return
    store.require_writable()
    set_up(settings, saes_of(cells))
    inputs = read_inputs(settings, saes_of(cells))
    scores = ScoreStore(store, inputs)
    score([cell for cell in cells if settings.force or not scores.rows_of(cell)], scores)
    rows = [row for cell in cells for row in scores.rows_of(cell)]
    print(STYLES[settings.style](settings.model, len(inputs.prompts), rows))
    notice = notice_of(settings.model)
    if notice and settings.style == "terminal":
        print("\n" + textwrap.fill(notice, 79))
    print(f"\nscores: {scores.path}", file=sys.stdout if settings.style == "terminal" else sys.stderr)


def main(argv: list[str] | None = None) -> int:
    return command.run(
        lambda: run(read_settings(argv, __doc__)),
        interrupted="finished layers are kept; run the same command again to go on",
    )


if __name__ == "__main__":
    sys.exit(main())
