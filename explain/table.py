"""The table of explanations in a terminal of 80 columns."""

from common.text import filled, shortened
from data.names import in_order
from featurizers.methods import method_named, ordered

HEAD = (
    f"{'seeds agree':>44}\n"
    f"{'L':>2} {'method':<13} seed {'sel.':>5} 90 % {'here':>4} rand. feature and effect, best three"
)
BEST = 3
NOTES = (
    "90 %: features needed for 90 % of what the mask has above none, best first by theta; -: it does not score above "
    "none by more than chance.",
    "seeds agree: Jaccard index of the selected features, mean over pairs of seeds; rand.: of as many random features.",
    "effect: half of what disentangle loses without the feature and gains by it alone, test pairs.",
)


def table(explanations: list[dict]) -> str:
    """A line per explanation: target by target, layer by layer, a method's seeds below each other."""
    lines = []
    order = ordered(each["result"]["method"] for each in explanations)
    for target in in_order(each["result"]["target"] for each in explanations):
        found = [each for each in explanations if each["result"]["target"] == target]
        found.sort(key=lambda e: (e["result"]["layer"], order.index(e["result"]["method"]), e["result"]["seed"]))
        if found:
            lines += ["", f"{target}: what the masks selected", HEAD, *map(_line, found)]
    return "\n".join([*lines, "", *map(filled, NOTES)])


def _line(explanation: dict) -> str:
    run, agreed, needed = explanation["result"], explanation["agreement"], explanation["needed"]["theta"]
    best = [each for each in explanation["features"] if each["effect"] is not None][:BEST]
    effects = " ".join(f"{each['feature']} {_signed(each['effect'])}" for each in best)
    seeds = f"{agreed['jaccard']:4.2f} {agreed['chance']:5.2f}" if agreed else "   -     -"
    return (
        f"{run['layer']:>2} {_name(run['method']):<13} {shortened(str(run['seed']), 4):>4} "
        f"{explanation['n_selected']:>5} {needed or '-':>4} {seeds} {effects}"
    ).rstrip()


def _name(method: str) -> str:
    """A method's name for a column of 13; of a control the end says which it is: neur:features."""
    about = method_named(method)
    return f"{about.of[: 12 - len(about.variant)]}:{about.variant}" if about.variant else shortened(method, 13)


def _signed(effect: float) -> str:
    """+.012: without the 0 that every share has."""
    return f"{effect:+.3f}".replace("0.", ".", 1)
