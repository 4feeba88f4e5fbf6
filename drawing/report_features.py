"""The report's table of what masks selected."""

from drawing.report_tables import NOTHING, TEXT, heads, table, text
from explain.files import run_of

BEST = 3


def selected_features(explanations: list[dict]) -> str:
    """A row per explained result."""
    rows = ""
    for e in explanations:
        run, agreed = run_of(e), e["agreement"]
        seeds = (f"{agreed['jaccard']:.2f}", f"{agreed['chance']:.2f}") if agreed else (NOTHING, NOTHING)
        numbers = (run.seed, f"{e['n_selected']:,}", e["needed"]["theta"] or NOTHING, *seeds)
        rows += f'<tr><td class="text">{run.target}</td><td class="text">{run.layer}</td>'
        rows += f'<th scope="row">{text(run.method)}</th>' + "".join(f"<td>{number}</td>" for number in numbers)
        rows += f'<td class="text">{", ".join(map(_named, e["features"][:BEST])) or NOTHING}</td></tr>'
    head = heads(("target", "layer", "method"), TEXT) + heads(("seed", "selected", "90 %", "agree", "by chance"))
    caption = (
        "90 %: the fewest features, best first by theta, that have 90 % of what the mask's disentangle score has above "
        "none. agree: Jaccard index of the selected features, mean over pairs of seeds, beside that of random ones. "
        f"Best {BEST}: the feature; in brackets half of what disentangle loses without it and gains by it alone, and "
        "the value on which it is highest, of a direction furthest from its mean. Test pairs; OUTPUT/MODEL/explain has "
        "all numbers with their intervals."
    )
    head += heads((f"best {BEST}, by effect",), TEXT)
    return table("selected-table", caption, f"<tr>{head}</tr>", rows)


def _named(feature: dict) -> str:
    name = str(feature["feature"])
    if feature["page"]:
        name = f'<a href="{text(feature["page"])}">{name}</a>'
    about = [f"{feature['effect']:+.3f}"] if feature["effect"] is not None else []
    about += [text(value) for value, _ in feature["values"][:1]]
    return f"{name} ({', '.join(about)})" if about else name
