"""The table of SAE scores, for a terminal of 80 columns, for a README and for a paper."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from common.text import shortened
from data.names import ATTRIBUTES
from quality.names import PLACES


@dataclass(frozen=True)
class Column:
    """A metric: its key in a result, its short head, how its numbers are written, its head in LaTeX."""

    key: str
    short: str
    format: str
    latex: str

    def text(self, value: float | None) -> str:
        return "-" if value is None else format(value, self.format)


COLUMNS = (
    Column("squared_error", "sq.err", ".4g", r"$\|x-\hat x\|^2$"),
    Column("explained_variance", "EV", ".3f", "expl. var."),
    Column("cosine", "cos", ".3f", "cosine"),
    Column("l0", "l0", ".1f", "$L_0$"),
    Column("dead_share", "dead", ".2f", "dead"),
    Column("accuracy", "acc", ".2f", "acc."),
    Column("ce_loss_with_sae", "CE", ".2f", "CE"),
    Column("ce_loss_with_ablation", "CE0", ".2f", "CE (zeros)"),
    Column("ce_loss_score", "score", ".2f", "CE score"),
    Column("kl_div", "KL", ".2f", "KL"),
)
WIDTHS = (8, 8, 6, 6, 5, 5, 6, 6, 6, 6)  # of the columns in a terminal
NAME = 14


def _blocks(rows: list[dict]) -> Iterator[tuple[str, str, list[dict]]]:
    """(attribute, place, rows) for each part of the table; a row is {"method", "layer", "raw_residual", metrics}."""
    for attribute in ATTRIBUTES:
        of_attribute = [row for row in rows if row["attribute"] == attribute]
        for place in PLACES:
            if of_attribute:
                yield attribute, place, [row | row[place] for row in of_attribute]


def _by_method(rows: list[dict]) -> list[dict]:
    """Method after method, its layers in order, without centring right below the same SAE with."""
    order = list(dict.fromkeys(row["method"] for row in rows))
    return sorted(rows, key=lambda row: (order.index(row["method"]), row["layer"], row["raw_residual"]))


def _name(row: dict) -> str:
    return row["method"] + (" (raw)" if row["raw_residual"] else "")


def _as_it_is(row: dict) -> str:
    """What the SAEs of a block are to be held against."""
    return f"without an SAE CE is {row['ce_loss_without_sae']:.2f}"


def terminal(model: str, n_cities: int, rows: list[dict]) -> str:
    """Text of at most 80 columns."""
    model, lines = shortened(model, 26), []
    for attribute, place, found in _blocks(rows):
        lines += ["", f"{attribute}, {PLACES[place]}: {model}, {n_cities} cities; {_as_it_is(found[0])}"]
        heads = "".join(f"{c.short:>{w}}" for c, w in zip(COLUMNS, WIDTHS, strict=True))
        lines.append(f"{'method':<{NAME}} L{heads}")
        for row in _by_method(found):
            name = "  raw residual" if row["raw_residual"] else row["method"]
            cells = "".join(f"{c.text(row[c.key]):>{w}}" for c, w in zip(COLUMNS, WIDTHS, strict=True))
            lines.append(f"{shortened(name, NAME):<{NAME}}{row['layer']:>2}{cells}")
    return "\n".join(lines)


def markdown(model: str, n_cities: int, rows: list[dict]) -> str:
    """A table per attribute and place, as GitHub reads it."""
    lines = []
    for attribute, place, found in _blocks(rows):
        lines += [f"**{attribute}, {PLACES[place]}** ({model}, {n_cities} cities; {_as_it_is(found[0])})", ""]
        lines.append("| method | layer | " + " | ".join(column.key for column in COLUMNS) + " |")
        lines.append("|---|" + "---:|" * (1 + len(COLUMNS)))
        for row in _by_method(found):
            cells = [_name(row).replace("|", r"\|"), str(row["layer"]), *(c.text(row[c.key]) for c in COLUMNS)]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines).rstrip()


def latex(model: str, n_cities: int, rows: list[dict]) -> str:
    """A tabular per attribute and place; needs the package booktabs."""
    lines = []
    for attribute, place, found in _blocks(rows):
        lines += [
            f"% {attribute}, {PLACES[place]}: {model}, {n_cities} cities; {_as_it_is(found[0])}",
            rf"\begin{{tabular}}{{lr{'r' * len(COLUMNS)}}}",
            r"\toprule",
            " & ".join(["method", "$L$", *(column.latex for column in COLUMNS)]) + r" \\",
            r"\midrule",
        ]
        for row in _by_method(found):
            numbers = [c.text(row[c.key]) for c in COLUMNS]
            numbers = [f"${n}$" if n.startswith("-") and n != "-" else n for n in numbers]  # a minus, not a hyphen
            lines.append(" & ".join([_escaped(_name(row)), str(row["layer"]), *numbers]) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}", ""]
    return "\n".join(lines).rstrip()


def _escaped(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(c, "\\" + c if c in "&%$#_{}" else c) for c in text)


@dataclass(frozen=True)
class Style:
    text: str  # for --help
    write: Callable[[str, int, list[dict]], str]


STYLES = {
    "terminal": Style("text of 80 columns", terminal),
    "markdown": Style("print the table as markdown, for a README", markdown),
    "latex": Style("print the table as LaTeX, for a paper", latex),
}
