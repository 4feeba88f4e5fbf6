"""The flags for finished results: compare two methods, export scores, name own SAEs; imports nothing heavy."""

import os
from pathlib import Path

from common.errors import UserError
from export.formats import FORMATS
from saes.names import OWN

LABEL_HELP = f"call an SAE of your own NAME, as {OWN}runs/mine=mine; kept with the results"
Side = tuple[str, int | None]  # a method, and the layer that it is looked at


def add_flags(parser) -> None:
    group = parser.add_argument_group("finished results: nothing is run, and of what is there the grid's flags choose")
    use = group.add_mutually_exclusive_group()
    use.add_argument(
        "--compare", nargs=2, metavar=("A", "B"), help="A minus B on the same pairs; METHOD, or METHOD@L5 at layer 5"
    )
    use.add_argument("--export", choices=FORMATS, help="write the scores for other programs")
    group.add_argument("--to", type=Path, metavar="PATH", help="where --export writes (OUTPUT/MODEL/export/)")
    parser.add_argument("--label", action="append", default=[], metavar="SAE=NAME", help=LABEL_HELP)


def read_sides(given: list[str] | None, one_method) -> tuple[Side, Side] | None:
    """--compare's two; where one names no layer, it is looked at where the other is.

    one_method: name -> the method of that name, or a UserError.
    """
    if given is None:
        return None
    (a, at_a), (b, at_b) = (_side(text, one_method) for text in given)
    at_a, at_b = (at_a if at_a is not None else at_b), (at_b if at_b is not None else at_a)
    if (a, at_a) == (b, at_b):
        raise UserError(f"--compare is {' '.join(given)}, twice the same; name two methods, or a method at two layers")
    return (a, at_a), (b, at_b)


def _side(text: str, one_method) -> Side:
    name, at, layer = text.rpartition("@L")  # behind @ alone stands a size
    if not at or os.path.isdir(text.removeprefix(OWN)):
        return one_method(text), None
    if not layer.isdecimal():
        raise UserError(f"--compare is {text!r}, and {layer!r} is no layer; give a number, as in das@L5")
    return one_method(name), int(layer)
