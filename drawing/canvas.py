"""What all figures share: one look per method, a sheet with title and notes, files that come out the same each time.

matplotlib's objects are used without pyplot: no window, no global state.
"""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from common.files import write_atomically
from imports import figure, lines, matplotlib

# ---------------------------------------------------------------- the look


@dataclass(frozen=True)
class Style:
    """How a method looks in every figure."""

    color: str
    marker: str
    line: str = "-"
    size: float = 5.5


# Okabe & Ito's palette, which colour-blind readers can tell apart, and a marker each for black and white.
STYLES = {
    "none": Style("#767676", "x", (0, (5, 2.5))),
    "full": Style("#000000", "+", (0, (1, 1.8)), 7),
    "neuron": Style("#0072B2", "s", size=5),
    "das": Style("#D55E00", "o"),
    "openai": Style("#009E73", "^", size=6),
    "apollo-e2e": Style("#CC79A7", "D", size=5),
    "apollo-e2e+ds": Style("#E69F00", "v", size=6),
    "bloom": Style("#56B4E9", "P", size=7.5),
}
LABELS = {"none": "none (no patch)", "full": "full (whole vector)"}

INK, FAINT, GRID, PAPER = "#1b1b1b", "#5c5c5c", "#e4e4e4", "#ffffff"
DPI = 160
LOOK = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same on every machine
    "font.size": 9,
    "text.parse_math": False,  # a $ in a name is a $
    "text.color": INK,
    "figure.facecolor": PAPER,
    "savefig.facecolor": "auto",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a8a8a",
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.7,
    "svg.hashsalt": "one",  # ids in the file do not change from run to run
    "svg.fonttype": "path",  # a page that shows the file needs no font
    "path.simplify": False,
}


@contextlib.contextmanager
def look() -> Iterator[None]:
    """Draw with this project's settings and nobody's own matplotlibrc."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(LOOK)
        yield


def printable(text: str, most: int = 48) -> str:
    """A name from outside as it may stand in a figure: one short line of characters that the font has."""
    kept = "".join(c if c.isprintable() and ord(c) < 0x250 else "?" for c in text)
    return kept if len(kept) <= most else "..." + kept[3 - most :]


def model_name(model: str) -> str:
    return "toy world" if model == "toy" else printable(model, 40)


# ---------------------------------------------------------------- a sheet


@dataclass
class Drawing:
    """A finished figure, what stands under it, and what it shows in words for those who cannot see it."""

    figure: object
    caption: str
    alt: str


@dataclass
class Sheet:
    """A figure laid out in inches: title, subtitle, rows x columns of panels, a key on the right, notes below."""

    title: str
    subtitle: str
    notes: str = ""
    rows: int = 1
    columns: int = 1
    panel_height: float = 3.6
    left: float = 0.72
    right: float = 1.95  # where the key stands
    gap: tuple[float, float] = (0.3, 0.55)  # between columns, rows
    bottom: float = 0.55  # for tick labels and the axis' name
    width: float = 9.0  # 900 px in a README at 100 dpi
    share: bool = True  # axes: one scale for all panels
    heads: bool = False  # panels have titles
    figure: object = field(init=False)
    panels: list[list] = field(init=False)

    def __post_init__(self):
        top = 0.72 + 0.25 * self.heads
        notes = textwrap.wrap(self.notes, int(self.width * 16))
        below = self.bottom + (0.18 + 0.145 * len(notes) if notes else 0.0)
        inner = self.rows * self.panel_height + (self.rows - 1) * self.gap[1]
        height = top + inner + below
        self.figure = figure.Figure(figsize=(self.width, height))
        panel_width = (self.width - self.left - self.right - (self.columns - 1) * self.gap[0]) / self.columns
        self.panels = []
        first = None
        for i in range(self.rows):
            row = []
            for j in range(self.columns):
                x = self.left + j * (panel_width + self.gap[0])
                y = below + (self.rows - 1 - i) * (self.panel_height + self.gap[1])
                place = (x / self.width, y / height, panel_width / self.width, self.panel_height / height)
                sharing = {"sharex": first, "sharey": first} if self.share and first is not None else {}
                row.append(self.figure.add_axes(place, **sharing))
                first = first or row[0]
            self.panels.append(row)
        self.height, self.top, self.below = height, top, below
        self._text(0.13, height - 0.17, self.title, size=12.5, weight="bold")
        self._text(0.13, height - 0.43, self.subtitle, size=8.5, color=FAINT)
        self._text(0.13, 0.1 + 0.145 * len(notes), "\n".join(notes), size=7.5, color=FAINT, linespacing=1.3)

    def _text(self, x: float, y: float, text: str, **style) -> None:
        """Text from its upper left corner, in inches from the sheet's lower left."""
        if text:
            self.figure.text(x / self.width, y / self.height, text, va="top", ha="left", **style)

    def name_y(self, ax, text: str) -> None:
        """The name of a y axis, in line with those above and below whatever the tick labels' widths."""
        ax.set_ylabel(text)
        ax.yaxis.set_label_coords(-0.5 / (ax.get_position().width * self.width), 0.5)

    @property
    def all_panels(self) -> list:
        return [panel for row in self.panels for panel in row]

    def key(self, handles: list, title: str = "", drop: float = 0.0) -> None:
        """A legend in the margin on the right, where it covers no data; drop: inches below the top."""
        legend = self.figure.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=(1 - (self.right - 0.12) / self.width, 1 - (self.top - 0.06 + drop) / self.height),
            borderaxespad=0,
            handlelength=2.6,
            labelspacing=0.62,
            title=title or None,
            alignment="left",
        )
        legend.set_in_layout(False)


def handle(method: str, label: str | None = None, **other):
    """A method's entry in a key."""
    style = STYLES[method]
    look_of = {"color": style.color, "marker": style.marker, "linestyle": style.line, "markersize": style.size}
    return lines.Line2D([], [], label=label or LABELS.get(method, method), **{**look_of, **other})


def integer_ticks(values: list[int], most: int = 16) -> list[int]:
    """Whole numbers to mark on an axis: all, or every second, fifth, tenth ... so that they do not crowd."""
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if len(values) <= most * s or s == 1000)
    return [value for value in values if value % step == 0] or values[:1]


def plural(n: int, word: str) -> str:
    return f"{n:,} {word}" + "s" * (n != 1)


def label_points(ax, points: list[tuple[float, float, str]], color: str, size: float = 7.0) -> None:
    """Write a text beside each point where it hits no other point or text; where there is no room, none.

    points: (x, y, text).  Call it when the axes' limits and scales are set.
    """
    per_point = ax.figure.dpi / 72
    half, height = 4.0 * per_point, size * per_point
    at = [tuple(ax.transData.transform((x, y))) for x, y, _ in points]
    taken = [(px - half, py - half, px + half, py + half) for px, py in at]
    frame = ax.bbox.extents
    for (px, py), (x, y, text) in zip(at, points, strict=True):
        width = 0.68 * height * len(text)
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1), (0.8, 0.8), (-0.8, 0.8), (0.8, -0.8), (-0.8, -0.8)):
            cx, cy = px + dx * (half + width / 2 + per_point), py + dy * (half + height / 2)
            box = (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
            inside = frame[0] <= box[0] and frame[1] <= box[1] and box[2] <= frame[2] and box[3] <= frame[3]
            if inside and not any(_overlap(box, other) for other in taken):
                offset = ((cx - px) / per_point, (cy - py) / per_point)
                style = {"color": color, "fontsize": size, "ha": "center", "va": "center_baseline"}
                ax.annotate(text, (x, y), offset, textcoords="offset points", annotation_clip=False, **style)
                taken.append(box)
                break


def _overlap(a: tuple, b: tuple) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


# ---------------------------------------------------------------- files

METADATA = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}  # no date, no version: the same bytes


def save(drawing: Drawing, folder: Path, name: str, dpi: int = DPI) -> None:
    """Write NAME.png and NAME.svg.  Raises UserError if the folder cannot be written to."""
    with look():
        for kind, metadata in METADATA.items():

            def write(path: Path, kind=kind, metadata=metadata) -> None:
                drawing.figure.savefig(path, format=kind, dpi=dpi, metadata=metadata)

            write_atomically(folder / f"{name}.{kind}", write)
