"""Draw the figures, and a report, from saved results.

    python visualisation.py                        of saved_models/results
    python visualisation.py --model toy --report   and one page with everything
    python visualisation.py --results DIR --output figures/mine
    python visualisation.py --paper                the paper's published numbers

Every figure is written as .png and .svg; the same results give the same bytes.
Before any run, the paper's numbers are drawn too.
"""

import sys
from argparse import Namespace, RawDescriptionHelpFormatter
from pathlib import Path

from common import command
from common.errors import UserError
from common.paths import HOME
from featurizers.methods import is_method
from grid.finished import LABEL_HELP, read_sides
from grid.settings import Parser
from masks.names import MASKS
from saes.names import is_own, normalised


def read_arguments(argv: list[str] | None) -> Namespace:
    """Raises UserError."""
    p = Parser(description=__doc__, formatter_class=RawDescriptionHelpFormatter, allow_abbrev=False)
    p.add_argument("--results", type=Path, metavar="DIR", help="the --output of main.py (saved_models/results)")
    p.add_argument("--model", metavar="NAME", help="as given to main.py (the only one there, or GPT-2 small)")
    p.add_argument("--output", type=Path, metavar="DIR", help="where figures go (figures)")
    p.add_argument("--mask", choices=MASKS, help="whose scores are drawn (mode paper: soft, mode strict: hard)")
    p.add_argument("--cluster", metavar="UNIT", help="what intervals take to be independent (as main.py took it)")
    p.add_argument("--against", default="neuron", metavar="METHOD", help="compare the others with it (%(default)s)")
    p.add_argument("--compare", nargs=2, metavar=("A", "B"), help="also draw A minus B; METHOD, or METHOD@L5")
    p.add_argument("--label", action="append", default=[], metavar="SAE=NAME", help=LABEL_HELP)
    p.add_argument("--paper", action="store_true", help="draw the paper's published numbers and no results")
    p.add_argument("--report", action="store_true", help="also write OUTPUT/report.html, one page with everything")
    args = p.parse_args(argv)
    args.against = one_method(args.against, "--against")
    args.compare = read_sides(args.compare, lambda name: one_method(name, "--compare"))
    args.results_named = args.results is not None
    args.results = args.results or HOME / "saved_models" / "results"
    args.output = args.output or HOME / "figures"
    return args


def one_method(name: str, flag: str) -> str:
    """The method of this name.  Raises UserError."""
    name = normalised(name) if is_own(name) else name
    if not is_method(name):
        raise UserError(f"{flag} is {name!r}, which is no method; name one, such as neuron")
    return name


def draw(args: Namespace) -> None:
    """Do what the command line asks for.  Raises UserError."""
    from drawing.figures import draw_figures  # not above: --help needs no matplotlib

    draw_figures(args)


def main(argv: list[str] | None = None) -> int:
    return command.run(
        lambda: draw(read_arguments(argv)),
        interrupted="every figure that is there is whole; run the same command again",
    )


if __name__ == "__main__":
    sys.exit(main())
