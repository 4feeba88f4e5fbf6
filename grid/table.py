"""The table of results, as text of 80 columns."""

from __future__ import annotations

from common.text import shortened
from data.names import ATTRIBUTES
from featurizers.methods import BASELINES
from masks.names import SCORES

WIDTH = 79
HEAD = (
    "                       hard mask                    soft mask\n"
    "method            cause isol.  dis. [95 % cities]  cause isol.  dis.   selected"
)


def table(results: list[dict], order: list[str]) -> str:
    """All results as text of at most 80 columns: per target and layer, the baselines first.

    order: methods in the order of rows.  Scores are of the test pairs, means over
    seeds; the interval is the mean of the seeds' intervals.
    """
    lines = []
    names = _labels(order, 17)
    for target in _targets(results):
        of_target = [r for r in results if r["target"] == target]
        seeds = sorted({r["seed"] for r in of_target})
        mode = ", ".join(sorted({f"mode {r['mode']}, split by {r['split']}" for r in of_target}))
        model = of_target[0]["model"]
        lines += ["", f"{target}: {shortened(model, 26)}, {mode}, {len(seeds)} seed{'s' * (len(seeds) > 1)}", HEAD]
        for layer in sorted({r["layer"] for r in of_target}):
            here = [r for r in of_target if r["layer"] == layer]
            note = ", the last block: nothing can be learned here" if here[0]["last_block"] else ""
            lines.append(f"-- layer {layer}{note} ".ljust(WIDTH, "-"))
            for name in BASELINES:  # they stand beside every score, asked for or not
                own = [r for r in here if r["method"] == name]
                if own:
                    lines.append(_method_row(name, own))
                else:
                    lines.append(_row(name, *2 * [[r["baselines"][name] for r in here]]))
            for method in order:
                found = [r for r in here if r["method"] == method and method not in BASELINES]
                if found:
                    lines.append(_method_row(names[method], found))
                if found and found[0]["baselines"]["reconstruction"]:
                    spliced = [r["baselines"]["reconstruction"] for r in found]
                    lines.append(
                        _row("  reconstruction", spliced, spliced, f"l0 {_mean([r['l0'] for r in found]):.1f}")
                    )
    return "\n".join(lines)


def summary(results: list[dict], order: list[str]) -> str:
    """Disentangle with the hard mask, methods down and layers across: the table at a glance."""
    lines = []
    layers = sorted({r["layer"] for r in results})
    for target in _targets(results):
        lines += ["", f"{target}: disentangle, hard mask, test pairs, by layer"]
        for start in range(0, len(layers), 12):  # so many fit in a line
            lines += _summary_rows(results, order, target, layers[start : start + 12])
    return "\n".join(lines)


def _summary_rows(results: list[dict], order: list[str], target: str, layers: list[int]) -> list[str]:
    lines = [f"{'layer':<14}" + "".join(f"{layer:>5}" for layer in layers)]
    names = _labels(order, 14)
    for method in order:
        cells = []
        for layer in layers:
            here = [r for r in results if (r["target"], r["layer"]) == (target, layer)]
            scores = [r["test"]["hard"]["disentangle"] for r in here if r["method"] == method]
            if not scores and method in BASELINES:
                scores = [r["baselines"][method]["disentangle"] for r in here]
            cells.append(f"{_mean(scores):5.2f}" if scores else "    -")
        if any(cell != "    -" for cell in cells):
            lines.append(f"{names[method]:<14}" + "".join(cells))
    return lines


def _labels(names: list[str], width: int) -> dict[str, str]:
    """Methods' names for a column; where two long ones end alike, with their numbers in this order."""
    short = {name: shortened(name, width) for name in names}
    alike = [name for name in names if list(short.values()).count(short[name]) > 1]
    return short | {name: f"{shortened(name, width - 3)} #{i}" for i, name in enumerate(alike, 1)}


def _targets(results: list[dict]) -> list[str]:
    return sorted({r["target"] for r in results}, key=ATTRIBUTES.index)


def _mean(values: list) -> float:
    return sum(values) / len(values)


def _method_row(method: str, found: list[dict]) -> str:
    count = f"{_mean([r['n_selected'] for r in found]):.0f}/{found[0]['n_features']}"
    return _row(method, [r["test"]["hard"] for r in found], [r["test"]["soft"] for r in found], count)


def _row(name: str, hard: list[dict], soft: list[dict], last: str = "") -> str:
    def three(scores: list[dict]) -> str:
        return " ".join(f"{_mean([s[key] for s in scores]):5.3f}" for key in SCORES)

    interval = ""
    if all("interval95" in s for s in hard):
        low, high = (_mean([s["interval95"]["disentangle"][i] for s in hard]) for i in (0, 1))
        interval = f"[{low:.3f} {high:.3f}]"
    return f"{name:<17} {three(hard)} {interval:<13}  {three(soft)} {last:>11}".rstrip()
