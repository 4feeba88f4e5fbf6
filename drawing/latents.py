"""Heat map of a mask's strongest features: on which cities each fires, cities grouped by the target's value."""

from dataclasses import dataclass
from itertools import groupby

from data.names import PAPER
from drawing.canvas import FAINT, GROUND, INK, Drawing, Sheet, model_name, printable
from imports import np
from results.estimates import Grid
from results.run import Run

LABEL_HEIGHT = 0.105  # inches between the names of two groups, at least
CITY_HEIGHT = 0.048  # of a city's row
HEIGHTS = (2.8, 7.5)  # of the panel: at least, at most
NOTES = {
    True: "A column is a latent, strongest effect on the left; below it its index and its effect: half of what the "
    "disentangle score loses without it and gains by it alone. Colour: how strongly the latent fires on a city, as a "
    "share of its strongest; white: it does not fire.",
    False: "A column is a direction, strongest effect on the left; below it its index and its effect: half of what the "
    "disentangle score loses without it and gains by it alone. Colour: the city's value less the mean over cities, as "
    "a share of the furthest; which sign is which means nothing.",
}


@dataclass(frozen=True)
class Pick:
    """The result that is drawn of a target and method."""

    run: Run

    def __str__(self) -> str:
        """As a file's name has it."""
        method = "".join(c if c.isascii() and (c.isalnum() or c in "+-.") else "-" for c in self.run.method)
        return f"{self.run.target}_{method[-60:]}"


def picks(grid: Grid, explanations: dict[Run, dict]) -> list[Pick]:
    """Of each target and method the explained result whose mask is best on the validation pairs."""
    found = []
    for target in grid.targets:
        for method in grid.methods:
            results = [r for layer in grid.layers_of(target, method) for r in grid.of(target, method, layer)]
            scores = {Run(target, method, r["layer"], r["seed"]): r["validation"]["hard"] for r in results}
            runs = [run for run in scores if run in explanations and explanations[run]["activations"]]
            if runs:
                found.append(Pick(max(runs, key=lambda run: scores[run]["disentangle"])))
    return found


def latents_by_city(explanation: dict, run: Run, model: str, label: str = "") -> Drawing:
    """Rows: cities; columns: the features whose activations the explanation holds; label: of the method, if any."""
    name = label or run.method
    features = explanation["features"][: len(explanation["activations"])]
    by = PAPER[::-1] if run.target in PAPER and set(PAPER) <= explanation["cities"][0].keys() else (run.target,)
    order = sorted(explanation["cities"], key=lambda city: [*(city[attribute] for attribute in by), city["name"]])
    place = {id(city): i for i, city in enumerate(explanation["cities"])}
    shade_CF = _shades(explanation, [place[id(city)] for city in order])
    groups = [(value, len(list(cities))) for value, cities in groupby(order, key=lambda city: city[run.target])]
    height = min(HEIGHTS[1], max(HEIGHTS[0], CITY_HEIGHT * len(order)))
    are_latents = explanation["are_latents"]
    notes = NOTES[are_latents]
    if run.target == "country" and "continent" in by:
        notes += " Countries of a continent stand together."
    sheet = Sheet(
        f"What the mask selected: {printable(name, 18)}, target {run.target}",
        f"{model_name(model)}  ·  layer {run.layer}, seed {run.seed} (best on validation pairs)  ·  "
        f"the strongest {len(features)} of {explanation['n_selected']:,} selected  ·  {len(order):,} cities",
        notes,
        **{"panel_height": height, "left": 1.35, "right": 0.85, "bottom": 0.8, "notice": explanation["notice"] or ""},
    )
    [ax] = sheet.panels
    low = 0 if are_latents else -1
    image = ax.imshow(
        shade_CF, aspect="auto", interpolation="nearest", vmin=low, vmax=1, cmap="Blues" if are_latents else "RdBu_r"
    )
    ax.grid(visible=False)
    labels = [f"{each['feature']}\n{_signed(each['effect'])}" for each in features]
    ax.set_xticks(range(len(features)), labels, rotation=90, size=6.5, linespacing=1.25)
    ax.set_xlabel("feature and its effect", labelpad=4)
    ax.tick_params(length=0)
    _name_groups(ax, groups, height)
    x, y, width, tall = ax.get_position().bounds
    scale = sheet.figure.add_axes((x + width + 0.16 / sheet.width, y + tall / 4, 0.12 / sheet.width, tall / 2))
    sheet.figure.colorbar(image, cax=scale, ticks=[low, 0, 1] if low else [0, 1])
    scale.set_title("share", size=7.5, color=FAINT)
    words = "; ".join(f"{each['feature']} on {_best_values(each)}" for each in features[:3])
    alt = f"Heat map of {printable(name)}, target {run.target}"
    return sheet.drawing(alt, f"The strongest three, and the values that they tell apart: {printable(words, 300)}.")


def _shades(explanation: dict, rows: list[int]) -> np.ndarray:
    """Activations in this order of cities, each feature by its own scale, [C, F]."""
    value_CF = np.array(explanation["activations"], float).T[rows]
    if not explanation["are_latents"]:
        value_CF = value_CF - value_CF.mean(0)
    return value_CF / np.maximum(abs(value_CF).max(0), 1e-30)


def _name_groups(ax, groups: list[tuple[str, int]], height: float) -> None:
    """A line between values of the target, and each value's name beside its cities, where there is room."""
    per_inch = sum(n for _, n in groups) / height
    start, last = 0, -np.inf
    places, names = [], []
    for value, n in groups:
        middle = start + (n - 1) / 2
        if middle - last >= LABEL_HEIGHT * per_inch:
            places.append(middle)
            names.append(printable(value, 20))
            last = middle
        if start:
            ax.axhline(start - 0.5, color=GROUND, lw=0.8)
            ax.axhline(start - 0.5, color=FAINT, lw=0.35)
        start += n
    ax.set_yticks(places, names, size=7, color=INK)


def _best_values(feature: dict) -> str:
    return ", ".join(name for name, _ in feature["values"][:2])


def _signed(effect: float | None) -> str:
    return "" if effect is None else f"{effect:+.3f}"
