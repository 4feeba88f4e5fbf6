"""The README's banner: the experiment in one picture.

Some features of Tokyo's vector are patched into Paris's prompt; the answer about the
country should change, the answer about the continent should not.
"""

from __future__ import annotations

from drawing.canvas import FAINT, INK, Drawing
from imports import figure, patches

BASE, SOURCE, BACK = "#0072B2", "#D55E00", "#faf8f3"
SELECTED = (1, 4, 5, 8, 10)  # of the features drawn
N_FEATURES = 12
CELL, GAP = 2.0, 0.32
WIDTH, HEIGHT = 100.0, 41.0  # of the picture's own coordinates
# How strongly each feature of either city is coloured: any values would do.
SHADES = {
    BASE: (0.55, 0.9, 0.35, 0.7, 0.5, 0.95, 0.4, 0.8, 0.6, 0.3, 0.85, 0.5),
    SOURCE: (0.4, 0.75, 0.6, 0.3, 0.95, 0.6, 0.85, 0.45, 0.7, 0.55, 0.9, 0.35),
}


def banner() -> Drawing:
    """title1: drawn from no result at all."""
    sheet = figure.Figure(figsize=(8, 8 * HEIGHT / WIDTH), facecolor=BACK)
    ax = sheet.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    ax.set_xlim(0, WIDTH)
    ax.set_ylim(0, HEIGHT)
    ax.text(3, 37.6, "Do sparse autoencoders find a language model's concepts?", size=14.5, weight="bold", va="center")
    ax.text(
        3,
        33.2,
        "Patch a few features of one city into another city's prompt: only what they hold should change.",
        size=9.4,
        color=FAINT,
        va="center",
    )
    _prompt(ax, 25.0, "source", "Tokyo", SOURCE)
    _prompt(ax, 8.2, "base", "Paris", BASE)
    left = 29.5
    _features(ax, left, 25.0, [SOURCE] * N_FEATURES)
    patched = [SOURCE if i in SELECTED else BASE for i in range(N_FEATURES)]
    _features(ax, left, 8.2, patched)
    for i in SELECTED:
        x = left + i * (CELL + GAP) + CELL / 2
        _arrow(ax, (x, 23.4), (x, 10.0), SOURCE, 1.5)
    middle = left + N_FEATURES * (CELL + GAP) / 2
    ax.text(
        middle,
        16.7,
        "selected features (mask = 1)",
        size=9.4,
        ha="center",
        va="center",
        bbox={"boxstyle": "round,pad=0.35", "fc": BACK, "ec": "#c9c4b8", "lw": 0.8},
    )
    ax.text(
        middle, 28.4, "features of the residual stream at the city", size=9.4, color=FAINT, ha="center", va="center"
    )
    ax.text(middle, 4.3, "Paris, with five features of Tokyo", size=9.4, color=FAINT, ha="center", va="center")
    right = left + N_FEATURES * (CELL + GAP)
    _arrow(ax, (right + 0.8, 8.2), (right + 5.4, 8.2), INK, 1.6)
    _answers(ax, right + 6.4)
    return Drawing(
        sheet,
        "The experiment: selected features of the source city's vector replace those of the base city's.",
        "Schematic: five of twelve features of Tokyo's vector are patched into Paris's. Asked for the country, the "
        "model should now say Japan instead of France; asked for the continent, it should still say Europe.",
    )


def _prompt(ax, y: float, role: str, city: str, color: str) -> None:
    ax.text(3, y + 3.4, role, size=9.4, color=FAINT, va="center")
    ax.text(3, y + 0.2, city, size=15, weight="bold", color=color, va="center")
    rest = "is a city in the country /\ncontinent of ..."
    ax.text(3, y - 2.2, rest, size=9.4, va="top", linespacing=1.3)


def _features(ax, left: float, y: float, colors: list[str]) -> None:
    for i, color in enumerate(colors):
        place = (left + i * (CELL + GAP), y - 1.5)
        shade = {"fc": color, "alpha": SHADES[color][i]}
        rounded = "round,pad=0,rounding_size=0.35"
        ax.add_patch(patches.FancyBboxPatch(place, CELL, 3.0, boxstyle=rounded, lw=0, **shade))
        ax.add_patch(patches.FancyBboxPatch(place, CELL, 3.0, boxstyle=rounded, fc="none", ec=color, lw=1.1))


def _arrow(ax, start: tuple, end: tuple, color: str, width: float) -> None:
    style = {"arrowstyle": "-|>", "color": color, "lw": width, "mutation_scale": 10, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, start, arrowprops=style)


def _answers(ax, x: float) -> None:
    for y, question, before, after, verdict in (
        (22.2, "which country?", "France", "Japan", "changes: cause"),
        (8.2, "which continent?", "Europe", "Europe", "stays: isolation"),
    ):
        box = "round,pad=0,rounding_size=1"
        card = patches.FancyBboxPatch((x, y - 5.6), WIDTH - 3 - x, 11.2, boxstyle=box, fc="white", ec="#d8d3c8", lw=0.9)
        ax.add_patch(card)
        ax.text(x + 1.8, y + 3.4, question, size=9.4, color=FAINT, va="center")
        ax.text(x + 1.8, y - 0.1, before, size=12.5, color=BASE, weight="bold", va="center")
        _arrow(ax, (x + 13.6, y - 0.1), (x + 17.6, y - 0.1), FAINT, 1.3)
        color = BASE if before == after else SOURCE
        ax.text(x + 19.2, y - 0.1, after, size=12.5, color=color, weight="bold", va="center")
        ax.text(x + 1.8, y - 3.6, verdict, size=9.4, va="center")
