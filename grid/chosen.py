"""Which methods and targets a command line names; imports nothing heavy."""

from common.errors import UserError
from common.text import meant
from featurizers.methods import (
    FURTHER,
    METHODS,
    RAVELS,
    SIZED,
    is_method,
    ordered,
    parts_of,
    variants_of,
    with_sizes,
)
from saes.names import is_own, normalised

MORE = f"{', '.join(FURTHER)}, METHOD:cause and METHOD@SIZE (docs/ravel.md)"


def chosen_methods(given: list[str], known: list[str], further: bool) -> list[str]:
    """The known ones in their order, then users' own SAEs (sae:FOLDER) as given; sizes and variants behind.

    further: whether methods that are not among the known ones may be named too.  Raises UserError.
    """
    own = dict.fromkeys(normalised(name) for name in given if is_own(name))
    others = [name for name in given if not is_own(name)]
    more = [name for name in others if further and name not in known and is_method(name)]
    listed = [name for name in others if name not in more]
    return ordered([*(chosen("method", listed, known, "all", further) if listed else []), *more]) + list(own)


def chosen(
    kind: str, given: list[str], known: list[str], everything: str | None = None, further: bool = False
) -> list[str]:
    """Those of the known ones that are given, in their order; all of them for the word `everything`.

    Raises UserError for any other; further: whether to name METHOD:VARIANT and METHOD@SIZE then.
    """
    if everything in given:
        return known
    for name in given:
        if name not in known:
            if further:
                _explain(name)
            all_known = ", ".join(known) + (", or all" if everything else "") + (f"; and {MORE}" if further else "")
            raise UserError(f"unknown {kind} {name!r}{meant(name, known)}; known are {all_known}")
    return [name for name in known if name in given]


def _explain(name: str) -> None:
    """Raises UserError where more can be said of a name than that it is unknown."""
    if name in RAVELS:
        raise UserError(f"unknown method {name!r}: {RAVELS[name]}; see docs/ravel.md")
    parts = parts_of(name)
    if parts == (name, None, None) and name in SIZED and name not in METHODS:
        raise UserError(f"{name} needs a size, as in {name}@64")
    base, colon, _ = name.rpartition(":")
    if colon and is_method(base):
        has = ", ".join(variants_of(base)) or "none"
        raise UserError(f"{base} has no variant {name!r}; it has {has}")
    base, at, _ = name.rpartition("@")
    if at and is_method(base):
        raise UserError(f"{name!r} is no method: sizes are numbers from 1 on, of das, pca, rlap, random and SAEs")


def expanded(names: list[str], sizes: list[int] | None) -> list[str]:
    """Every METHOD@ at each of these sizes.  Raises UserError if names and sizes do not go together."""
    are_open = [name for name in names if with_sizes(name, [1]) != [name]]
    if are_open and not sizes:
        one = with_sizes(are_open[0], [64])[0]
        raise UserError(f"{are_open[0]} needs sizes: give them by --sizes 16 64, or one as in {one}")
    if sizes and not are_open:
        raise UserError("--sizes is of methods that are named with an @ and no size; name one, as in --methods das@")
    if sizes and min(sizes) < 1:
        raise UserError(f"--sizes has {min(sizes)}; a size is a number from 1 on")
    return [each for name in names for each in with_sizes(name, sorted(set(sizes or [])))]
