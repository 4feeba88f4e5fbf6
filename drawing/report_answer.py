"""The report's first screen: which method is best, by how much, how sure, and on what."""

import stats
from data.names import KINDS
from drawing.captions import MASK_WORDS, interval_words
from drawing.report_tables import NOTHING, cells, heads, interval, signed, table, text
from featurizers.methods import BASELINES
from results.estimates import Choice, Comparison, Grid, not_compared


def answer(grid: Grid, mask: str, against: str) -> str:
    """Of each target what was found, in sentences and as a table of the methods; against: what they are compared with.

    mask: 'hard' or 'soft'.
    """
    compared, controls = grid.compare(against, mask), grid.compare_controls(mask)
    parts = [_of_target(grid, target, mask, against, compared, controls) for target in grid.targets]
    about = "Each method at the layer that is best on its validation pairs, with its score on the test pairs; "
    about += f"[95 %]: {interval_words(grid)}."
    if compared:
        about += f" says: by p corrected for the {len(compared)} comparisons of this page (Holm 1979)"
        about += f", of controls for theirs, {len(controls)}." if controls else "."
    return f'<div class="answers columns">{"".join(parts)}</div><p class="soft">{about}</p>'


def _of_target(
    grid: Grid,
    target: str,
    mask: str,
    against: str,
    compared: list[Comparison],
    controls: list[Comparison],
) -> str:
    best = grid.best(target, mask)
    if best is None:
        return f"<article><h3>Target {target}</h3><p>No mask was trained.</p></article>"
    method, choice = best
    there = [c for c in compared if (c.target, c.layer) == (target, choice.layer)]
    own = [c for c in controls if (c.target, c.layer, c.method) == (target, choice.layer, method)]
    said = [_which(grid, target, method, choice, mask)]
    said.append(_against_others(grid, there, choice) if method == against else _against(grid, there, method, against))
    said.append(_by_chance(own))
    title = f"<h3>Target {target}, {MASK_WORDS[mask]}</h3>"
    return f"<article>{title}<p>{' '.join(said)}</p>{_methods(grid, target, mask, against, compared)}</article>"


def _which(grid: Grid, target: str, method: str, choice: Choice, mask: str) -> str:
    """'das is best on the validation pairs, at layer 2 of 5; on the test pairs it scores ...'."""
    beside = {name: grid.score(target, name, choice.layer, mask, "disentangle") for name in ("none", "full")}
    scores = " and ".join(f"{name} {score.mean:.3f}" for name, score in beside.items() if score)
    among = f", the best of {choice.n_layers} layers" if choice.n_layers > 1 else ""
    return (
        f"<strong>{text(grid.label(method))}</strong> is best on the validation pairs, at layer {choice.layer}{among}. "
        f"On the test pairs it scores <strong>{choice.test.mean:.3f}</strong> {interval(choice.test)}; {scores} there."
    )


def _against(grid: Grid, there: list[Comparison], method: str, against: str) -> str:
    name = text(grid.label(against))
    found = next((c for c in there if c.method == method), None)
    if found is None:
        return f"No difference from {name}: it was not run there (--against names another)."
    difference = f"<strong>{found.difference:+.3f}</strong> {signed(found)}"
    if found.verdict == stats.CANNOT_TELL:
        return f"Better than {name} there? <strong>Cannot tell</strong>: {difference}; {_detects(found)}."
    return f"It is <strong>{found.verdict}</strong> than {name} there, by {difference}."


def _against_others(grid: Grid, there: list[Comparison], choice: Choice) -> str:
    """Of the method that the others are compared with: what they are to it at its layer."""
    if not there:
        return "No other method was run there."
    said = (f"{text(grid.label(c.method))} {c.difference:+.3f} {signed(c)} {c.verdict}" for c in there)
    return f"The others are compared with it; at layer {choice.layer}: {'; '.join(said)}."


def _detects(found: Comparison) -> str:
    if found.detectable >= 1:
        return "no difference would have been found"
    return f"a difference of {found.detectable:.3f} would have been found with a chance of 0.8"


def _by_chance(controls: list[Comparison]) -> str:
    """Differences from the method's controls."""
    if not controls:
        return "None of its controls was run (--controls), so what it would score by chance is not known."
    said = (f"{c.against.rpartition(':')[2]} {c.difference:+.3f} {signed(c)} {c.verdict}" for c in controls)
    return f"Minus its controls: {'; '.join(said)}."


def _methods(grid: Grid, target: str, mask: str, against: str, compared: list[Comparison]) -> str:
    """A row for each method, at the layer that is best on its validation pairs."""
    at = {(c.method, c.layer): c for c in compared if c.target == target}
    rows = ""
    for method in grid.methods:
        choice = grid.choice(target, method, mask)
        if choice is None:
            continue
        found = at.get((method, choice.layer))
        numbers = [choice.layer, f"{choice.test.mean:.3f} {interval(choice.test)}"]
        numbers += [f"{found.difference:+.3f} {signed(found)}" if found else NOTHING]
        rows += f'<tr data-method="{text(method)}"><th scope="row">{text(grid.label(method))}</th>{cells(numbers)}'
        rows += cells([found.verdict if found else NOTHING], ' class="text"') + "</tr>"
    head = heads(["method"], "text") + heads(["layer", "score [95 %]"])
    head += heads([f"minus {text(grid.label(against))} [95 %]"]) + heads(["says"], "text")
    caption = "" if compared else f"{text(not_compared(against))}."
    return table(f"answer-{target}", caption, head, rows, f"Methods, target {target}")


# ---------------------------------------------------------------- on what


def what_was_run(grid: Grid, day: str) -> str:
    """The facts of the grid; day: when the newest file that is used was written."""
    first = grid.results[0]
    controls = [name.rpartition(":") for names in grid.controls.values() for name in names]
    facts = {
        "model": first["model"],
        grid.entities[1]: _counts(grid.n_cities) or "not recorded",
        "test pairs": _pair_counts(grid),
        "targets": ", ".join(grid.targets),
        "layers": ", ".join(map(str, grid.layers)),
        "seeds": ", ".join(map(str, grid.seeds)),
        "mode": f"{first['mode']}, split by {first['split']}",
        "methods": ", ".join(map(grid.label, grid.methods)),
        "baselines": ", ".join(BASELINES),
        "controls": ", ".join(dict.fromkeys(kind for _, _, kind in controls)) or "none were run",
        "runs": f"{len(grid.results):,}",
        "results of": day,
    }
    if grid.labels:
        facts["names of own SAEs"] = "; ".join(f"{label}: {method}" for method, label in grid.labels.items())
    if grid.warnings:
        facts["warnings"] = "; ".join(grid.warnings)
    return "<dl>" + "".join(f"<div><dt>{text(k)}</dt> <dd>{text(v)}</dd></div>" for k, v in facts.items()) + "</dl>"


def _counts(numbers: list[int]) -> str:
    return " or ".join(f"{n:,}" for n in numbers)


def _pair_counts(grid: Grid) -> str:
    parts = []
    for target in grid.targets:
        tests = [r["test"]["hard"] for r in grid.results if r["target"] == target]
        counts = [_counts(sorted({test.get(f"n_{kind}") for test in tests} - {None})) for kind in KINDS]
        if all(counts):
            parts.append(f"{target}: {counts[0]} cause, {counts[1]} isolation")
    return "; ".join(parts) or "not recorded"
