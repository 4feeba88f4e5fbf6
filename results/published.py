"""The paper's published scores beside ours: is a difference what seeds and cities explain, and do its claims hold?"""

import json
import math
from dataclasses import asdict, dataclass

from common.paths import HOME
from featurizers.methods import method_named, originals_of
from results.estimates import Estimate, Grid

PAPER_RESULTS = HOME / "data" / "paper_results.json"
ROUNDING = 0.005  # of numbers with two decimals


def read_paper() -> dict:
    """What the paper gives: data/paper_results.json."""
    return json.loads(PAPER_RESULTS.read_text(encoding="utf-8"))


def paper_for(grid: Grid) -> dict | None:
    """The paper, if these results are of its model in its mode; None if they cannot be compared with it."""
    paper = read_paper()
    of = {(r["model"], r["mode"], r["split"]) for r in grid.results}
    return paper if of == {(paper["model"], paper["mode"], paper["split"])} else None


@dataclass(frozen=True)
class Reproduced:
    """A score beside the paper's.

    explained: whether the paper's number lies no further away than seeds and cities explain, if it is a draw as
    uncertain as ours: sqrt(2) times the interval's half on its side, and half a unit of its last decimal.
    """

    target: str
    method: str
    layer: int
    ours: Estimate
    published: float
    explained: bool

    @property
    def difference(self) -> float:
        return self.ours.mean - self.published


@dataclass(frozen=True)
class Claim:
    """What the paper's numbers say of its methods, and of how many cells ours say the same.

    holds, of: cells where ours do, of those that were run; published: where the paper's do, of the same cells.
    """

    text: str
    holds: int
    published: int
    of: int


def reproduced(grid: Grid, paper: dict) -> list[Reproduced]:
    """Every score that the paper gives too, in its own mask."""
    found = []
    for target in grid.targets:
        for method, layer, published in _published(paper, target, grid):
            ours = grid.score(target, method, layer, paper["mask"], "disentangle")
            if ours is not None and grid.of(target, method, layer):
                half = ours.mean - ours.low if published < ours.mean else ours.high - ours.mean
                explained = abs(ours.mean - published) <= math.sqrt(2) * half + ROUNDING
                found.append(Reproduced(target, method, layer, ours, published, explained))
    return found


def claims(grid: Grid, paper: dict) -> list[Claim]:
    """Which of the paper's claims hold in the cells that were run: das above all, neurons against each SAE, the end."""
    rows = reproduced(grid, paper)
    last = {layer for layer in grid.layers if grid.is_last_block(layer)}
    cells: dict[tuple[str, int], dict[str, Reproduced]] = {}
    for row in rows:
        if row.layer not in last:
            cells.setdefault((row.target, row.layer), {})[row.method] = row
    found = []
    # A method and its original are two rows of the paper's one: claims are about ours.
    cells = {key: {m: row for m, row in cell.items() if method_named(m).stands_alone} for key, cell in cells.items()}
    against_all = [c for c in cells.values() if "das" in c and len(c) > 1]
    if against_all:
        found.append(_claim("das is above all others", against_all, lambda c: ("das", [m for m in c if m != "das"])))
    for sae in [m for m in grid.methods if method_named(m).release]:
        both = [c for c in cells.values() if sae in c and "neuron" in c]
        if both:
            found.append(_claim(f"neurons are above {sae}", both, lambda _, sae=sae: ("neuron", [sae])))
    at_end = [row for row in rows if row.layer in last and method_named(row.method).stands_alone]
    if at_end:
        none = {t: grid.score(t, "none", max(last), paper["mask"], "disentangle").mean for t in grid.targets}
        ours = sum(abs(row.ours.mean - none[row.target]) <= ROUNDING for row in at_end)
        theirs = sum(abs(row.published - paper["no_intervention"][row.target]) <= 2 * ROUNDING for row in at_end)
        found.append(Claim("at the last layer methods equal the baseline", ours, theirs, len(at_end)))
    return found


def cities_beside(grid: Grid, paper: dict) -> tuple[list[str], list[str]]:
    """The cities that take part here and not in the paper, and the reverse."""
    ours = {city for pairs in grid.pairs() for city in pairs.facts}
    theirs = set(paper["cities"])
    return sorted(ours - theirs), sorted(theirs - ours)


def as_json(grid: Grid, paper: dict) -> dict:
    """For OUTPUT/MODEL/estimates.json."""
    more, fewer = cities_beside(grid, paper)
    return {
        "source": paper["source"],
        "scores": [asdict(row) | {"difference": row.difference} for row in reproduced(grid, paper)],
        "claims": [asdict(claim) for claim in claims(grid, paper)],
        "cities_only_here": more,
        "cities_only_in_the_paper": fewer,
    }


def _published(paper: dict, target: str, grid: Grid):
    """(method, layer, the paper's score); an SAE as the paper's code ran it has the same number beside it."""
    for method, points in paper["disentangle"][target].items():
        originals = [name for name in grid.controls.get(method, []) if name in originals_of(method)]
        for name in (method, *originals):
            for layer, score in points.items():
                yield name, int(layer), score


def _claim(text: str, cells: list[dict[str, Reproduced]], sides) -> Claim:
    """sides: function of a cell -> the method that should be above, and the others."""

    def holds(score) -> int:
        compared = ((cell, *sides(cell)) for cell in cells)
        return sum(all(score(cell[above]) > score(cell[m]) for m in others) for cell, above, others in compared)

    return Claim(text, holds(lambda row: row.ours.mean), holds(lambda row: row.published), len(cells))
