"""The README's banner: the experiment in one picture.

Some features of Tokyo's vector are patched into Paris's prompt; the answer about the
country should change, the answer about the continent should not.
"""

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
    ax.set(xlim=(0, WIDTH), ylim=(0, HEIGHT))
    title = {"size": 14.5, "weight": "bold", "color": INK}
    _write(ax, 3, 37.6, "Do sparse autoencoders find a language model's concepts?", **title)
    _write(
        ax, 3, 33.2, "Patch a few features of one city into another city's prompt: only what they hold should change."
    )
    _prompt(ax, 25.0, "source", "Tokyo", SOURCE)
    _prompt(ax, 8.2, "base", "Paris", BASE)
    left, right = 29.5, 29.5 + N_FEATURES * (CELL + GAP)
    _features(ax, left, 25.0, [SOURCE] * N_FEATURES)
    _features(ax, left, 8.2, [SOURCE if i in SELECTED else BASE for i in range(N_FEATURES)])
    for i in SELECTED:
        x = left + i * (CELL + GAP) + CELL / 2
        _arrow(ax, (x, 23.4), (x, 10.0), SOURCE, 1.5)
    middle = left + N_FEATURES * (CELL + GAP) / 2
    box = {"boxstyle": "round,pad=0.35", "fc": BACK, "ec": "#c9c4b8", "lw": 0.8}
    _write(ax, middle, 16.7, "selected features (mask = 1)", color=INK, ha="center", bbox=box)
    _write(ax, middle, 28.4, "features of the residual stream at the city", ha="center")
    _write(ax, middle, 4.3, "Paris, with five features of Tokyo", ha="center")
    _arrow(ax, (right + 0.8, 8.2), (right + 5.4, 8.2), INK, 1.6)
    _answer(ax, right + 6.4, 22.2, "which country?", "France", "Japan", "changes: cause")
    _answer(ax, right + 6.4, 8.2, "which continent?", "Europe", "Europe", "stays: isolation")
    return Drawing(
        sheet,
        "Schematic of the experiment",
        "Five of twelve features of Tokyo's vector are patched into Paris's. Asked for the country, the "
        "model should now say Japan instead of France; asked for the continent, it should still say Europe.",
    )


def _write(ax, x: float, y: float, text: str, **style) -> None:
    ax.text(x, y, text, **{"size": 9.4, "color": FAINT, "va": "center", **style})


def _prompt(ax, y: float, role: str, city: str, color: str) -> None:
    _write(ax, 3, y + 3.4, role)
    _write(ax, 3, y + 0.2, city, size=15, weight="bold", color=color)
    rest = "is a city in the country /\ncontinent of ..."
    _write(ax, 3, y - 2.2, rest, color=INK, va="top", linespacing=1.3)


def _features(ax, left: float, y: float, colors: list[str]) -> None:
    rounded = "round,pad=0,rounding_size=0.35"
    for i, color in enumerate(colors):
        for style in ({"fc": color, "alpha": SHADES[color][i], "lw": 0}, {"fc": "none", "ec": color, "lw": 1.1}):
            place = (left + i * (CELL + GAP), y - 1.5)
            ax.add_patch(patches.FancyBboxPatch(place, CELL, 3.0, boxstyle=rounded, **style))


def _arrow(ax, start: tuple, end: tuple, color: str, width: float) -> None:
    style = {"arrowstyle": "-|>", "color": color, "lw": width, "mutation_scale": 10, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, start, arrowprops=style)


def _answer(ax, x: float, y: float, question: str, before: str, after: str, verdict: str) -> None:
    """A card: the model's answer to a question before and after the patch."""
    box = {"boxstyle": "round,pad=0,rounding_size=1", "fc": "white", "ec": "#d8d3c8", "lw": 0.9}
    ax.add_patch(patches.FancyBboxPatch((x, y - 5.6), WIDTH - 3 - x, 11.2, **box))
    _write(ax, x + 1.8, y + 3.4, question)
    _write(ax, x + 1.8, y - 0.1, before, size=12.5, color=BASE, weight="bold")
    _arrow(ax, (x + 13.6, y - 0.1), (x + 17.6, y - 0.1), FAINT, 1.3)
    color = BASE if before == after else SOURCE
    _write(ax, x + 19.2, y - 0.1, after, size=12.5, color=color, weight="bold")
    _write(ax, x + 1.8, y - 3.6, verdict, color=INK)
