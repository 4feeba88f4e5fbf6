"""How well SAEs reconstruct, by layer: squared error, explained variance, accuracy with the reconstruction."""

from __future__ import annotations

from drawing.canvas import FAINT, STYLES, Drawing, Sheet, handle, integer_ticks, model_name
from imports import lines, np
from quality.names import PLACES
from saes.releases import RELEASES

MEASURES = {
    "squared_error": "squared error",
    "explained_variance": "explained variance",
    "accuracy": "accuracy, spliced",
}
LOWEST = -0.5  # explained variance below this is drawn as an arrow on the axis' lower edge,
FLOOR = -0.85  # which then lies here
ATTRIBUTE_FILL = {"country": "full", "continent": "none"}


def sae_quality(quality: dict) -> Drawing:
    """Rows: measures; columns: at the city's position, at all positions."""
    rows = quality["rows"]
    layers = sorted({row["layer"] for row in rows})
    notes = (
        "Filled marks: country prompts; hollow: continent prompts. Squared error: |x_hat - x|², mean over vectors. "
        "Explained variance: 1 is perfect, 0 is no better than the mean vector. Accuracy: the model's own answers with "
        "x_hat in place of x (the attribute that the prompt asks for). "
    )
    clipped = any(_below(row[place]["explained_variance"]) for row in rows for place in PLACES)
    if clipped:
        notes += f"Arrows on the lower edge: explained variance below {LOWEST}, with its value where there is room. "
    if any(row["raw_residual"] for row in rows):
        notes += "Pale dashes: fed the raw residual, not the mean-centred one that the SAE was trained on. "
    subtitle = model_name(quality["config"]["model"])
    if "n_cities" in quality["config"]:
        subtitle += f"  ·  {quality['config']['n_cities']:,} cities"
    sheet = Sheet(
        "SAE quality by layer",
        subtitle,
        notes,
        rows=len(MEASURES),
        columns=len(PLACES),
        panel_height=1.75,
        gap=(0.62, 0.3),
        share=False,
        heads=True,
    )
    releases = [release for release in RELEASES if any(row["method"] == release for row in rows)]
    for i, measure in enumerate(MEASURES):
        for j, place in enumerate(PLACES):
            ax = sheet.panels[i][j]
            _dress(ax, rows, measure, layers, is_lowest=i == len(MEASURES) - 1)
            if i == 0:
                ax.set_title(PLACES[place])
            if j == 0:
                sheet.name_y(ax, MEASURES[measure])
            below = []
            for k, release in enumerate(releases):
                shift = (k - (len(releases) - 1) / 2) * 0.05
                for attribute in ATTRIBUTE_FILL:
                    for raw in (False, True):
                        points = {
                            row["layer"]: row[place][measure]
                            for row in rows
                            if (row["method"], row["attribute"], row["raw_residual"]) == (release, attribute, raw)
                            and row[place][measure] is not None
                        }
                        below += _line(ax, release, points, attribute, raw, shift, measure)
            _arrows(ax, below)
    handles = [handle(release) for release in releases]
    handles += [
        lines.Line2D([], [], color=FAINT, marker="o", ms=5, lw=1.4, label="country prompts"),
        lines.Line2D([], [], color=FAINT, marker="o", ms=5, mfc="white", lw=0.9, label="continent prompts"),
    ]
    if any(row["raw_residual"] for row in rows):
        handles.append(lines.Line2D([], [], color=FAINT, alpha=0.5, ls=(0, (3, 2)), lw=1.1, label="raw residual"))
    sheet.key(handles)
    return Drawing(sheet.figure, f"{subtitle}. {notes}", _in_words(rows, releases))


def _below(value: float | None) -> bool:
    return value is not None and value < LOWEST


def _line(ax, release: str, points: dict, attribute: str, raw: bool, shift: float, measure: str) -> list[tuple]:
    """Draw one SAE family on one attribute; returns (x, value, colour) of what lies below the axis."""
    if not points:
        return []
    style = STYLES[release]
    layers = np.arange(min(points), max(points) + 1)
    values = np.array([points.get(int(layer), np.nan) for layer in layers], dtype=float)
    floor = measure == "explained_variance"
    off = values < LOWEST if floor else np.zeros(len(values), dtype=bool)
    drawn = np.where(off, np.nan, values)
    is_country = attribute == "country"
    ax.plot(
        layers + shift,
        drawn,
        color=style.color,
        alpha=0.5 if raw else 1.0,
        ls=(0, (3, 2)) if raw else "-",
        lw=1.5 if is_country else 0.9,
        marker=style.marker,
        ms=style.size * 0.85,
        mfc=style.color if is_country else "white",
        mec="white" if is_country else style.color,
        mew=0.5 if is_country else 0.9,
        gid=f"{measure}-{release}-{attribute}" + "-raw" * raw,
        zorder=3 if is_country else 2.8,
    )
    return [(float(x) + shift, float(v), style.color) for x, v in zip(layers[off], values[off], strict=True)]


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


def _dress(ax, rows: list[dict], measure: str, layers: list[int], is_lowest: bool) -> None:
    values = [row[p][measure] for row in rows for p in PLACES if row[p][measure] is not None]  # one scale for both
    ax.set_xlim(min(layers) - 0.4, max(layers) + 0.4)
    ax.set_xticks(integer_ticks(list(range(min(layers), max(layers) + 1)), 12))
    ax.grid(axis="x", visible=False)
    ax.tick_params(labelbottom=is_lowest)
    if is_lowest:
        ax.set_xlabel("layer")
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
        ticks = [tick for tick in (-0.5, 0.0, 0.5, 1.0) if tick >= low]
        ax.set_yticks(ticks, [f"{tick:.1f}" for tick in ticks])
        ax.axhline(0, color="#b5b5b5", lw=0.9, zorder=1)
    else:
        ax.set_ylim(0, 1.04)


def _power(p: int) -> str:
    """The name of 10 to the p: 0.1, 10, 10k, 1M."""
    if p < 0:
        return f"{10.0**p:g}"
    return f"{10 ** (p % 3)}" + ("", "k", "M", "G", "T", "P")[p // 3]


def _in_words(rows: list[dict], releases: list[str]) -> str:
    parts = []
    for release in releases:
        own = [row["all"] for row in rows if row["method"] == release and not row["raw_residual"]]
        variance = [at["explained_variance"] for at in own if at["explained_variance"] is not None]
        if variance:
            parts.append(f"{release} {min(variance):.2f} to {max(variance):.2f}")
    return (
        "Line charts of SAE quality by layer: squared error, explained variance and spliced accuracy, at the city's "
        f"position and at all positions. Explained variance at all positions: {', '.join(parts) or 'not measured'}."
    )
