"""How well SAEs reconstruct, by layer: squared error, explained variance, accuracy with the reconstruction."""

import itertools

from data.names import PAPER
from drawing.canvas import FAINT, Drawing, Sheet, handle, model_name, name_ticks, plot, style_of, whole_axis
from featurizers.labels import label_of
from featurizers.methods import ordered
from grid.profiles import notice_of
from imports import lines, np
from quality.names import PLACES

MEASURES = {
    "squared_error": "squared error",
    "explained_variance": "explained variance",
    "accuracy": "accuracy, spliced",
}
LOWEST = -0.5  # explained variance below this is drawn as an arrow on the axis' lower edge,
FLOOR = -0.85  # which then lies here


def sae_quality(quality: dict, labels: dict[str, str] | None = None) -> Drawing:
    """Rows: measures; columns: at the city's position, at all positions; labels: of users' own SAEs, by method."""
    rows = quality["rows"]
    has_raw = any(row["raw_residual"] for row in rows)
    notes = (
        "Filled marks: country prompts; hollow: continent prompts. Squared error: |x_hat - x|², mean over vectors. "
        "Explained variance: 1 is perfect, 0 is no better than the mean vector. Accuracy: the model's own answers with "
        "x_hat in place of x (the attribute that the prompt asks for). "
    )
    if any(_below(value) for value in _values(rows, "explained_variance")):
        notes += f"Arrows on the lower edge: explained variance below {LOWEST}, with its value where there is room. "
    if has_raw:
        notes += "Pale dashes: fed the raw residual, not the mean-centred one that the SAE was trained on. "
    subtitle = model_name(quality["config"]["model"])
    if "n_cities" in quality["config"]:
        subtitle += f"  ·  {quality['config']['n_cities']:,} cities"
    columns = len(PLACES)
    size = {"panel_height": 1.75, "gap": (0.62, 0.3), "share": False, "heads": True}
    said = notice_of(quality["config"]["model"]) or ""
    sheet = Sheet("SAE quality by layer", subtitle, notes, len(MEASURES) * columns, columns, notice=said, **size)
    releases = ordered(row["method"] for row in rows)
    for ax, (measure, place) in zip(sheet.panels, itertools.product(MEASURES, PLACES), strict=True):
        _dress(ax, rows, measure)
        _arrows(ax, _lines(ax, rows, measure, place, releases))
    for ax, title in zip(sheet.panels, PLACES.values(), strict=False):
        ax.set_title(title)
    for ax, name in zip(sheet.panels[::columns], MEASURES.values(), strict=True):
        ax.set_ylabel(name)
        ax.yaxis.set_label_coords(-0.5 / (ax.get_position().width * sheet.width), 0.5)  # whatever the ticks' widths
    for i, ax in enumerate(sheet.panels):
        is_lowest = i + columns >= sheet.count
        ax.tick_params(labelbottom=is_lowest)
        ax.set_xlabel("layer" if is_lowest else "")
    handles = [handle(release, labels) for release in releases]
    handles += [
        lines.Line2D([], [], color=FAINT, marker="o", ms=5, lw=1.4, label="country prompts"),
        lines.Line2D([], [], color=FAINT, marker="o", ms=5, mfc="white", lw=0.9, label="continent prompts"),
    ]
    if has_raw:
        handles.append(lines.Line2D([], [], color=FAINT, alpha=0.5, ls=(0, (3, 2)), lw=1.1, label="raw residual"))
    sheet.key(handles)
    return sheet.drawing("Line charts, a panel per measure and place", _in_words(rows, releases, labels or {}))


def _values(rows: list[dict], measure: str) -> list[float]:
    """A measure at both places, where it was taken."""
    return [row[place][measure] for row in rows for place in PLACES if row[place][measure] is not None]


def _below(value: float) -> bool:
    return value < LOWEST


def _lines(ax, rows: list[dict], measure: str, place: str, releases: list[str]) -> list[tuple]:
    """Draw all SAE families on a panel; returns (x, value, colour) of what lies below the axis."""
    below = []
    for (k, release), attribute, raw in itertools.product(enumerate(releases), PAPER, (False, True)):
        points = {
            row["layer"]: row[place][measure]
            for row in rows
            if (row["method"], row["attribute"], row["raw_residual"]) == (release, attribute, raw)
            and row[place][measure] is not None
        }
        if points:
            below += _line(ax, release, points, attribute, raw, (k - (len(releases) - 1) / 2) * 0.05, measure)
    return below


def _line(ax, release: str, points: dict, attribute: str, raw: bool, shift: float, measure: str) -> list[tuple]:
    """Draw one SAE family on one attribute; returns (x, value, colour) of what lies below the axis."""
    color = style_of(release).color
    layers = np.arange(min(points), max(points) + 1)
    values = np.array([points.get(int(layer), np.nan) for layer in layers], dtype=float)
    off = (values < LOWEST) & (measure == "explained_variance")
    about = {"lw": 1.5, "mew": 0.5}
    if attribute != "country":
        about = {"lw": 0.9, "mfc": "white", "mec": color, "mew": 0.9, "zorder": 2.8}
    part = {"gid": f"{measure}-{release}-{attribute}" + "-raw" * raw, "ls": (0, (3, 2)) if raw else "-"}
    drawn = np.where(off, np.nan, values)
    plot(ax, release, layers + shift, drawn, measure, 0.85, alpha=0.5 if raw else 1.0, **about, **part)
    return [(float(x) + shift, float(v), color) for x, v in zip(layers[off], values[off], strict=True)]


def _arrows(ax, below: list[tuple]) -> None:
    """Values under the lower edge: an arrow there, and of each layer the lowest in words, in its arrow's colour."""
    by_layer: dict[int, list[tuple]] = {}
    for x, value, color in sorted(below, key=lambda found: -found[1]):  # the lowest lies on top
        ax.plot([x], [FLOOR], marker="v", ms=5, color=color, mec="white", mew=0.5, clip_on=False, zorder=4)
        by_layer.setdefault(round(x), []).append((x, value, color))
    right = ax.bbox.x0
    for _, found in sorted(by_layer.items()):
        x, value, color = found[-1]
        at = ax.transData.transform((x, FLOOR))[0]
        text = f"{value:,.1f}" if value > -100 else f"{value:,.0f}"
        width = 5.2 * len(text) * ax.figure.dpi / 72
        if at - width / 2 > right and at + width / 2 < ax.bbox.x1 + 0.1 * ax.figure.dpi:
            style = {"ha": "center", "va": "bottom", "fontsize": 7.2, "color": color}
            ax.annotate(text, (x, FLOOR), (0, 5), textcoords="offset points", **style)
            right = at + width / 2


def _dress(ax, rows: list[dict], measure: str) -> None:
    values = _values(rows, measure)  # one scale for both places
    layers = [row["layer"] for row in rows]
    whole_axis(ax, list(range(min(layers), max(layers) + 1)), 12)
    if measure == "squared_error":
        if values and min(values) > 0:
            ax.set_yscale("log")
            low, high = np.floor(np.log10(min(values))), np.ceil(np.log10(max(values)))
            high = max(high, low + 1)
            powers = np.arange(low, high + 1, max(1, (high - low) // 4))
            ax.set_ylim(10.0**low, 10.0**high)
            ax.set_yticks(10.0**powers, [_power(int(p)) for p in powers])
            ax.set_yticks([], minor=True)
        else:
            ax.set_ylim(0, max(values, default=1) * 1.05 or 1)
    elif measure == "explained_variance":
        low = FLOOR if any(map(_below, values)) else min(0.0, *values, 0.0)
        ax.set_ylim(low, 1.04)
        name_ticks(ax, [tick for tick in (-0.5, 0.0, 0.5, 1.0) if tick >= low])
        ax.axhline(0, color="#b5b5b5", lw=0.9, zorder=1)
    else:
        ax.set_ylim(0, 1.04)


def _power(p: int) -> str:
    """The name of 10 to the p: 0.1, 10, 10k, 1M."""
    if p < 0:
        return f"{10.0**p:g}"
    return f"{10 ** (p % 3)}" + ("", "k", "M", "G", "T", "P")[p // 3]


def _in_words(rows: list[dict], releases: list[str], labels: dict[str, str]) -> str:
    parts = []
    for release in releases:
        own = [row["all"] for row in rows if row["method"] == release and not row["raw_residual"]]
        variance = [at["explained_variance"] for at in own if at["explained_variance"] is not None]
        if variance:
            parts.append(f"{label_of(release, labels)} {min(variance):.2f} to {max(variance):.2f}")
    return f"Explained variance at all positions: {', '.join(parts) or 'not measured'}."
