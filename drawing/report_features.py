"""The report's table of what masks selected, and the links to its rows."""

from urllib.parse import quote

from drawing.report_tables import NOTHING, cells, heads, table, text
from explain.files import run_of
from featurizers.labels import label_of
from results.run import Run

BEST = 3


def ids_of(explanations: dict[Run, dict]) -> dict[tuple, str]:
    """The id of the first row of each explained (target, method, layer)."""
    explained = dict.fromkeys((run.target, run.method, run.layer) for run in explanations)
    return {cell: f"selected-{cell[0]}-{quote(cell[1], safe='')}-layer{cell[2]}" for cell in explained}


def selected_features(explanations: dict[Run, dict], ids: dict[tuple, str], labels: dict[str, str]) -> str:
    """A row per explained result; ids: of the first row of a cell; labels: of users' own SAEs, by method."""
    rows, left = "", dict(ids)
    for e in explanations.values():
        run, agreed = run_of(e), e["agreement"]
        seeds = (f"{agreed['jaccard']:.2f}", f"{agreed['chance']:.2f}") if agreed else (NOTHING, NOTHING)
        numbers = (run.seed, f"{e['n_selected']:,}", e["needed"]["theta"] or NOTHING, *seeds)
        name = left.pop((run.target, run.method, run.layer), None)
        rows += f'<tr id="{text(name)}" tabindex="-1">' if name else "<tr>"
        rows += f'<td class="text">{run.target}</td><td>{run.layer}</td>'
        rows += f'<th scope="row">{text(label_of(run.method, labels))}</th>{cells(numbers)}'
        rows += f'<td class="text">{", ".join(map(_named, e["features"][:BEST])) or NOTHING}</td></tr>'
    head = heads(("target",), "text") + heads(("layer",)) + heads(("method",), "text")
    head += heads(("seed", "selected", "90 %", "agree", "by chance"))
    caption = (
        "90 %: the fewest features, best first by theta, that have 90 % of what the mask's disentangle score has above "
        "none. agree: Jaccard index of the selected features, mean over pairs of seeds, beside that of random ones. "
        f"Best {BEST}: the feature; in brackets half of what disentangle loses without it and gains by it alone, and "
        "the value on which it is highest, of a direction furthest from its mean. Test pairs; OUTPUT/MODEL/explain has "
        "all numbers with their intervals."
    )
    head += heads((f"best {BEST}, by effect",), "text")
    return table("selected-table", caption, head, rows)


def _named(feature: dict) -> str:
    name = str(feature["feature"])
    if feature["page"]:
        name = f'<a href="{text(feature["page"])}">{name}</a>'
    about = [f"{feature['effect']:+.3f}"] if feature["effect"] is not None else []
    about += [text(value) for value, _ in feature["values"][:1]]
    return f"{name} ({', '.join(about)})" if about else name
