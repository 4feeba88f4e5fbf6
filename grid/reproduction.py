"""The paper's scores beside ours, as text for a terminal."""

from common.text import filled, shortened
from featurizers.methods import ordered
from results.estimates import Grid
from results.published import cities_beside, claims, paper_for, reproduced


def reproduction(grid: Grid) -> str:
    """A row a score, then which of the paper's claims hold; '' if these results are not of its model and mode."""
    paper = paper_for(grid)
    rows = reproduced(grid, paper) if paper else []
    if not rows:
        return ""
    lines = []
    for target in grid.targets:
        lines += ["", f"{target}: beside the paper's published scores; disentangle, {paper['mask']} mask"]
        lines.append(" L method                  ours [95 %       ] paper   diff.  explained")
        names = ordered(row.method for row in rows)
        for row in sorted(rows, key=lambda row: (row.layer, names.index(row.method))):
            if row.target == target:
                ours = f"{row.ours.mean:.3f} [{row.ours.low:.3f} {row.ours.high:.3f}]"
                says = "yes" if row.explained else "no"
                name = shortened(row.method, 22)
                lines.append(f"{row.layer:2} {name:<22} {ours}  {row.published:.2f}  {row.difference:+.3f}  {says}")
    lines += ["", filled(f"explained by seeds and cities: {sum(r.explained for r in rows)} of {len(rows)} scores")]
    for claim in claims(grid, paper):
        theirs = f" (in the paper {claim.published})" if claim.published != claim.of else ""
        lines.append(filled(f"{claim.text}: in {claim.holds} of {claim.of} cells{theirs}"))
    more, fewer = cities_beside(grid, paper)
    for what, names in (
        ("cities here that are not among the paper's", more),
        ("cities of the paper's not here", fewer),
    ):
        lines.append(filled(f"{what}: {', '.join(names) or 'none'}"))
    year = f"{paper['source']['authors']} ({paper['source']['year']})"
    lines.append(filled(f"paper: published by {year}, {paper['source']['url']}, to two decimals; not computed here"))
    return "\n".join(lines)
