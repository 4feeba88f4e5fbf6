"""What stands under and beside figures in words: whose results they show, and what their intervals are."""

from drawing.canvas import model_name, plural, printable
from results.estimates import Grid

MASK_WORDS = {"soft": "soft mask", "hard": "hard mask"}


def describe(grid: Grid, mask: str | None = None) -> str:
    """One line that says whose results are drawn: model, mask, mode, split, seeds, entities."""
    first = grid.results[0]
    n_entities = " or ".join(f"{n:,}" for n in grid.n_cities)
    parts = [
        model_name(first["model"]),
        MASK_WORDS[mask] if mask else "",
        f"mode {printable(first['mode'], 12)}, split by {printable(first['split'], 12)}",
        plural(len(grid.seeds), "seed"),
        f"{n_entities} {grid.entities[1]}" if n_entities else "",
    ]
    return "  ·  ".join(part for part in parts if part)


def interval_words(grid: Grid) -> str:
    """What an interval is, as in 'Whiskers: ...'."""
    return f"95 % interval {grid.meaning}"


def interval_note(grid: Grid) -> str:
    """What the bands or whiskers are, as a sentence."""
    if len(grid.seeds) == 1:
        return f"Whiskers: {interval_words(grid)}."
    note = f"Bands, and whiskers where a point stands alone: {interval_words(grid)}, n = {len(grid.seeds)} seeds."
    some_have_one = any(len(found) == 1 for found in grid.cells.values())
    return note + " Whiskers of cells with one seed: for that seed." * some_have_one
