"""The table of results, as text of 80 columns."""

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
        n_seeds = len({r["seed"] for r in of_target})
        mode = ", ".join(sorted({f"mode {r['mode']}, split by {r['split']}" for r in of_target}))
        model = shortened(of_target[0]["model"], 26)
        lines += ["", f"{target}: {model}, {mode}, {n_seeds} seed{'s' * (n_seeds > 1)}", HEAD]
        for layer in sorted({r["layer"] for r in of_target}):
            here = [r for r in of_target if r["layer"] == layer]
            note = ", the last block: nothing can be learned here" if here[0]["last_block"] else ""
            lines.append(f"-- layer {layer}{note} ".ljust(WIDTH, "-"))
            for method in (*BASELINES, *(name for name in order if name not in BASELINES)):
                lines += _rows(names.get(method, method), method, here)
    return "\n".join(lines)


def _rows(name: str, method: str, here: list[dict]) -> list[str]:
    """A method's row, and that of its SAE's reconstruction; none if it was not run.  here: results of one layer."""
    found = [r for r in here if r["method"] == method]
    tests = _tests(method, here)
    count = f"{_mean([r['n_selected'] for r in found]):.0f}/{found[0]['n_features']}" if found else ""
    rows = [_row(name, tests, count)] if tests else []
    if found and method not in BASELINES and found[0]["baselines"]["reconstruction"]:
        spliced = [dict.fromkeys(("hard", "soft"), r["baselines"]["reconstruction"]) for r in found]
        rows.append(_row("  reconstruction", spliced, f"l0 {_mean([r['l0'] for r in found]):.1f}"))
    return rows


def _tests(method: str, here: list[dict]) -> list[dict]:
    """Test scores by mask; baselines stand beside every score, asked for or not."""
    own = [r["test"] for r in here if r["method"] == method]
    if own or method not in BASELINES:
        return own
    return [dict.fromkeys(("hard", "soft"), r["baselines"][method]) for r in here]


def _row(name: str, tests: list[dict], last: str) -> str:
    def three(mask: str) -> str:
        return " ".join(f"{_mean([test[mask][key] for test in tests]):5.3f}" for key in SCORES)

    interval = ""
    if all("interval95" in test["hard"] for test in tests):
        low, high = (_mean([test["hard"]["interval95"]["disentangle"][i] for test in tests]) for i in (0, 1))
        interval = f"[{low:.3f} {high:.3f}]"
    return f"{name:<17} {three('hard')} {interval:<13}  {three('soft')} {last:>11}".rstrip()


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
    here = {layer: [r for r in results if (r["target"], r["layer"]) == (target, layer)] for layer in layers}
    for method in order:
        scores = [[test["hard"]["disentangle"] for test in _tests(method, here[layer])] for layer in layers]
        if any(scores):
            cells = (f"{_mean(found):5.2f}" if found else "    -" for found in scores)
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
