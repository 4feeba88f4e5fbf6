"""Everything that the results of a grid say, as OUTPUT/MODEL/estimates.json keeps it."""

import math
from dataclasses import asdict

from results import elsewhere, published
from results.estimates import Grid
from results.outcomes import NEW_SEEDS_FROM
from results.worked import worked_pairs


def content_of(grid: Grid, templates: Grid | None, against: str, mask: str) -> dict:
    """templates: the same results where templates were held out; against, mask: of the differences."""
    paper = published.paper_for(grid)
    return {
        **estimates(grid, against, mask),
        **({"published": published.as_json(grid, paper)} if paper else {}),
        **({"templates_held_out": estimates(templates, against, mask)} if templates else {}),
        "worked_pairs": [asdict(found) for target in grid.targets if (found := worked_pairs(grid, target, mask))],
    }


def estimates(grid: Grid, against: str, mask: str) -> dict:
    """Every estimate and comparison of one test."""
    scores = [
        dict(zip(("target", "method", "layer", "mask", "score"), key, strict=True))
        | {
            "mean": e.mean,
            "n_seeds": e.n,
            "interval95_these_seeds": [e.run_low, e.run_high],
            "interval95_new_seeds": [e.low, e.high] if e.n >= NEW_SEEDS_FROM else None,
            "training_loss_still_falls": grid.still_falling(*key[:3]),
        }
        for key, e in grid.estimates.items()
    ]
    return {
        "model": grid.results[0]["model"],
        "seeds": grid.seeds,
        "methods": grid.methods,
        "labels": grid.labels,
        "against": against,
        "interval_unit": grid.unit,
        "scores": scores,
        "layer_chosen_on_validation": [
            {"target": target, "method": method, "mask": mask, **asdict(choice)}
            for target in grid.targets
            for method in grid.methods
            if (choice := grid.choice(target, method, mask)) and choice.n_layers > 1
        ],
        "size_chosen_on_validation": [
            {"target": target, "family": family, "method": found[0], "n_sizes": found[1], "mask": mask}
            | asdict(found[2])
            for target in grid.targets
            for family in grid.size_families
            if (found := grid.size_choice(target, family, mask))
        ],
        "differences": [asdict(c) | {"mask": mask} for c in grid.compare(against, mask)],
        "differences_from_controls": [asdict(c) | {"mask": mask} for c in grid.compare_controls(mask)],
        **_elsewhere(grid),
        "notice": grid.notice or None,
    }


def _elsewhere(grid: Grid) -> dict:
    """The scores by other protocols' formulas, where the prompts are RAVEL's."""
    cells = elsewhere.of_cells(grid)
    if not cells:
        return {}
    keys = ("target", "method", "layer")
    return {
        "by_formulas_of_others": [
            {
                **dict(zip(keys, cell, strict=True)),
                "mask": elsewhere.MASK,
                **{name: {k: None if math.isnan(v) else v for k, v in of.items()} for name, of in scores.items()},
            }
            for cell, scores in cells.items()
        ],
        "mib_over_layers": [
            dict(zip(keys[:2], key, strict=True)) | scores for key, scores in elsewhere.over_layers(cells).items()
        ],
    }
