"""Worked pairs: what a mask does to single test pairs, one that worked and one that failed of either kind.

Which ones is fixed before anybody looks: of the method and layer that are best on the validation pairs the first seed,
and of each kind the first pair in the order of the pair file.
"""

from dataclasses import dataclass

from results.estimates import Grid

# What is shown of each target: (name, kind of pair, was it answered right?).
SHOWN = (("worked", "cause", True), ("failed on cause", "cause", False), ("failed on isolation", "isolation", False))


@dataclass(frozen=True)
class WorkedPair:
    """A test pair: the source's features are patched into the base's prompt.

    shown_as: a name in SHOWN; asked: the attribute that the prompt asks for; question: the prompt's end.
    before, after: the text of the likeliest next token without the patch and with it; wanted: the right value, of
    which the first token counts.
    """

    shown_as: str
    base: str
    source: str
    asked: str
    question: str
    before: str
    after: str
    wanted: str


@dataclass(frozen=True)
class Worked:
    """The worked pairs of a target, in the order of SHOWN, and whose mask it is.

    lacking: names in SHOWN of which there is no pair; is_kept: whether the result has its answers.
    """

    target: str
    method: str
    layer: int
    seed: int
    mask: str
    pairs: list[WorkedPair]
    lacking: list[str]
    is_kept: bool = True


def worked_pairs(grid: Grid, target: str, mask: str) -> Worked | None:
    """The worked pairs of the mask ('hard' or 'soft') that is best on validation; None if nothing was trained."""
    best = grid.best(target, mask)
    if best is None:
        return None
    method, choice = best
    result = min(grid.of(target, method, choice.layer), key=lambda r: r["seed"])
    about = (target, method, choice.layer, result["seed"], mask)
    if not result["answers"].keys() >= {mask, "none"}:
        return Worked(*about, [], [], is_kept=False)
    found, lacking = [], []
    for name, kind, is_right in SHOWN:
        hits_N, is_kind_N = result["outcomes"][mask], (result["test_pairs"].group_N == 0) == (kind == "cause")
        places = (is_kind_N & (hits_N == is_right)).nonzero()[0]
        if len(places):
            found.append(_worked_pair(result, mask, name, kind, int(places[0])))
        else:
            lacking.append(name)
    return Worked(*about, found, lacking)


def _worked_pair(result: dict, mask: str, name: str, kind: str, i: int) -> WorkedPair:
    pairs = result["test_pairs"]
    base, source, asked = pairs.base[i], pairs.source[i], pairs.asked(i, result["target"])
    before, after = (_readable(result["words"][str(result["answers"][of][i])]) for of in ("none", mask))
    wanted = pairs.facts[source if kind == "cause" else base][asked]
    return WorkedPair(name, base, source, asked, pairs.question(i, asked), before, after, wanted)


def _readable(word: str) -> str:
    """A token's text without the blank before it; what would not show is written as in Python: '\\n'."""
    return word.strip() if word.strip().isprintable() and word.strip() else repr(word)
