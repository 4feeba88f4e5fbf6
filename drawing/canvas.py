"""What all figures share: one look per method, a sheet with title and notes, files that come out the same each time.

matplotlib's objects are used without pyplot: no window, no global state.
"""

import contextlib
import hashlib
import math
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from common.files import write_atomically
from common.paths import HOME
from common.text import shortened
from featurizers.labels import label_of
from featurizers.methods import parts_of
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
FURTHER_STYLES = {
    "pca": Style("#7A5230", "p", size=6.5),
    "rlap": Style("#4B0082", "<", size=6),
    "random": Style("#BDBDBD", "1", (0, (5, 2.5)), 7),
}
# Of users' own SAEs: Tol's muted colours and other markers, by name, so that an SAE looks the same in every figure.
OWN_COLORS = ("#332288", "#882255", "#117733", "#999933", "#AA4499", "#44AA99")
OWN_MARKERS = ("p", "h", "<", ">", "*", "X", "d")
LABELS = {"none": "none (no patch)", "full": "full (whole vector)"}


def style_of(method: str) -> Style:
    """A method's look; one of a size has its colour and a marker by the size, METHOD:cause is paler and dotted."""
    base, size, variant = parts_of(method)
    digest = hashlib.sha256(base.encode()).digest()
    own = Style(OWN_COLORS[digest[0] % len(OWN_COLORS)], OWN_MARKERS[digest[1] % len(OWN_MARKERS)], size=6.5)
    style = {**STYLES, **FURTHER_STYLES}.get(base, own)
    if size:
        style = replace(style, marker=OWN_MARKERS[round(math.log2(size)) % len(OWN_MARKERS)], size=6.5)
    return replace(style, color=_paler(style.color), line=(0, (2, 1.2))) if variant else style


def _paler(color: str, share: float = 0.45) -> str:
    """A colour #rrggbb mixed with so much white."""
    parts = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(part + share * (255 - part)):02x}" for part in parts)


def short_name(method: str, labels: dict[str, str] | None = None) -> str:
    """What a method is called in a key or above a panel; labels: those of users' own SAEs, by method."""
    return LABELS.get(method, printable(label_of(method, labels or {}), 18))


INK, FAINT, GROUND = "#1b1b1b", "#5c5c5c", "#ffffff"  # as in look.mplstyle
DPI = 160
LOOK = HOME / "drawing" / "look.mplstyle"


@contextlib.contextmanager
def look() -> Iterator[None]:
    """Draw with this project's settings and nobody's own matplotlibrc."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(matplotlib.rc_params_from_file(LOOK, use_default_template=False))
        yield


def printable(text: str, most: int = 48) -> str:
    """A name from outside as it may stand in a figure: one short line of characters that the font has."""
    return shortened("".join(c if c.isprintable() and ord(c) < 0x250 else "?" for c in text), most)


def model_name(model: str) -> str:
    return "toy world" if model == "toy" else printable(model, 40)


# ---------------------------------------------------------------- a sheet


@dataclass
class Drawing:
    """A finished figure and its words.

    alt: what kind of picture it is, in a few words; summary: what it shows, for those who cannot see it.
    sheet: that it was drawn on, with title, subtitle and notes; None of the banner, which has none.
    """

    figure: object
    alt: str
    summary: str = ""
    sheet: "Sheet | None" = None


@dataclass
class Sheet:
    """A figure laid out in inches: title, subtitle, panels row by row, a key on the right, notes below.

    notice: what must stand beside every number of the model, behind the notes.
    texts: title, subtitle and notes as they are drawn; legend: the key, if there is one.
    edges: of the panels with their ticks and titles, in inches: lower, upper, right.
    """

    title: str
    subtitle: str
    notes: str = ""
    count: int = 1  # of panels
    columns: int = 1
    panel_height: float = 3.6
    left: float = 0.72
    right: float = 1.95  # where the key stands
    gap: tuple[float, float] = (0.3, 0.55)  # between columns, rows
    bottom: float = 0.55  # for tick labels and the axis' name
    width: float = 9.0  # 900 px in a README at 100 dpi
    share: bool = True  # axes: one scale for all panels
    heads: bool = False  # panels have titles
    notice: str = ""
    figure: object = field(init=False)
    panels: list = field(init=False)
    texts: list = field(init=False, default_factory=list)
    legend: object = field(init=False, default=None)

    def __post_init__(self):
        rows = math.ceil(self.count / self.columns)
        self.top = 0.72 + 0.25 * self.heads
        notes = textwrap.wrap(f"{self.notes} {printable(self.notice, 600)}".strip(), int(self.width * 16))
        self.under = 0.18 + 0.145 * len(notes) if notes else 0.0
        below = self.bottom + self.under
        inner = rows * self.panel_height + (rows - 1) * self.gap[1]
        self.height = self.top + inner + below
        self.edges = (below - self.bottom, self.height - 0.52, self.width)
        self.figure = figure.Figure(figsize=(self.width, self.height))
        panel_width = (self.width - self.left - self.right - (self.columns - 1) * self.gap[0]) / self.columns
        self.panels = []
        for i in range(self.count):
            row, column = divmod(i, self.columns)
            x = self.left + column * (panel_width + self.gap[0])
            y = below + (rows - 1 - row) * (self.panel_height + self.gap[1])
            place = (x / self.width, y / self.height, panel_width / self.width, self.panel_height / self.height)
            first = self.panels[0] if self.share and self.panels else None
            self.panels.append(self.figure.add_axes(place, sharex=first, sharey=first))
        self._text(0.13, self.height - 0.17, self.title, size=12.5, weight="bold")
        self._text(0.13, self.height - 0.43, self.subtitle, size=8.5, color=FAINT)
        self._text(0.13, 0.1 + 0.145 * len(notes), "\n".join(notes), size=7.5, color=FAINT, linespacing=1.3)

    def _text(self, x: float, y: float, text: str, **style) -> None:
        """Text from its upper left corner, in inches from the sheet's lower left."""
        if text:
            about = {"va": "top", "ha": "left", **style}
            self.texts.append(self.figure.text(x / self.width, y / self.height, text, **about))

    def name_outer(self, x: str, y: str) -> None:
        """Name the axes, and label their ticks, where nothing stands below or to the left of a panel."""
        for i, ax in enumerate(self.panels):
            is_lowest, is_leftmost = i + self.columns >= self.count, i % self.columns == 0
            ax.tick_params(labelbottom=is_lowest, labelleft=is_leftmost)
            ax.set_xlabel(x if is_lowest else "")
            ax.set_ylabel(y if is_leftmost else "")

    def key(self, handles: list) -> None:
        """A legend in the margin on the right, where it covers no data; of many methods in small print."""
        n_lines = sum(1 + h.get_label().count("\n") for h in handles)
        fits = 72 * (self.height - self.top - self.under - 0.1) / (1.75 * max(1, n_lines))
        self.legend = self.figure.legend(
            handles=handles,
            fontsize=min(matplotlib.rcParams["legend.fontsize"], fits),
            loc="upper left",
            bbox_to_anchor=(1 - (self.right - 0.12) / self.width, 1 - (self.top - 0.06) / self.height),
            borderaxespad=0,
            handlelength=2.6,
            labelspacing=0.62,
            alignment="left",
        )
        self.legend.set_in_layout(False)
        self.edges = (*self.edges[:2], self.width - self.right + 0.1)

    def drawing(self, alt: str, summary: str) -> Drawing:
        """The finished figure."""
        return Drawing(self.figure, alt, summary, self)


# ---------------------------------------------------------------- on a panel


def plot(ax, method: str, x, y, part: str, scale: float = 1.0, **other) -> None:
    """A method's points in its colour and marker, with a white edge and no line unless `other` says so.

    part: what is drawn; PART-METHOD names it in the file.  scale: of the marker.
    """
    style = style_of(method)
    about = {"color": style.color, "marker": style.marker, "ms": style.size * scale, "mec": "white", "mew": 0.6}
    ax.plot(x, y, **{**about, "ls": "none", "zorder": 3, "gid": f"{part}-{method}", **other})


def handle(method: str, labels: dict[str, str] | None = None, **other):
    """A method's entry in a key, named as `short_name` does."""
    style = style_of(method)
    about = {"color": style.color, "marker": style.marker, "ls": style.line, "ms": style.size}
    return lines.Line2D([], [], label=short_name(method, labels), **{**about, **other})


def whole_axis(ax, values: list[int], most: int = 16, room: float = 0.4) -> None:
    """An x axis of whole numbers: all are marked, or every second, fifth, tenth ... so that they do not crowd."""
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if len(values) <= most * s or s == 1000)
    ax.set_xlim(min(values, default=0) - room, max(values, default=1) + room)
    ax.set_xticks([value for value in values if value % step == 0] or values[:1])
    ax.grid(axis="x", visible=False)


def name_ticks(ax, ticks) -> None:
    """Mark these values of a y axis, to one decimal."""
    ax.set_yticks(ticks, [f"{tick:.1f}" for tick in ticks])


def plural(n: int, word: str) -> str:
    return f"{n:,} {word}" + "s" * (n != 1)


def label_points(ax, points: list[tuple[float, float, str]], color: str, size: float = 7.0) -> None:
    """Write a text beside each point where it hits no other point or text; where there is no room, none.

    points: (x, y, text).  Call it when the axes' limits and scales are set.
    """
    per_point = ax.figure.dpi / 72
    half, height = 4.0 * per_point, size * per_point
    at = [tuple(ax.transData.transform((x, y))) for x, y, _ in points]
    around = matplotlib.transforms.Bbox.from_extents  # left, bottom, right, top
    taken = [around(px - half, py - half, px + half, py + half) for px, py in at]
    for (px, py), (x, y, text) in zip(at, points, strict=True):
        width = 0.68 * height * len(text)
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1), (0.8, 0.8), (-0.8, 0.8), (0.8, -0.8), (-0.8, -0.8)):
            cx, cy = px + dx * (half + width / 2 + per_point), py + dy * (half + height / 2)
            box = around(cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
            is_inside = ax.bbox.contains(*box.min) and ax.bbox.contains(*box.max)
            if is_inside and not any(map(box.fully_overlaps, taken)):
                offset = ((cx - px) / per_point, (cy - py) / per_point)
                style = {"color": color, "fontsize": size, "ha": "center", "va": "center_baseline"}
                ax.annotate(text, (x, y), offset, textcoords="offset points", annotation_clip=False, **style)
                taken.append(box)
                break


# ---------------------------------------------------------------- files

METADATA = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}  # no date, no version: the same bytes


def save(drawing: Drawing, folder: Path, name: str, dpi: int = DPI) -> None:
    """Write NAME.png and NAME.svg.  Raises UserError if the folder cannot be written to."""
    with look():
        for kind, metadata in METADATA.items():

            def write(path: Path, kind=kind, metadata=metadata) -> None:
                drawing.figure.savefig(path, format=kind, dpi=dpi, metadata=metadata)

            write_atomically(folder / f"{name}.{kind}", write)
