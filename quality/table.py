"""The table of SAE scores, for a terminal of 80 columns, for a README and for a paper."""

from collections.abc import Iterator
from dataclasses import dataclass

from common.markup import latex_text, markdown_text
from common.text import shortened
from data.names import in_order
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


def _parts(n_cities: int, rows: list[dict]) -> Iterator[tuple[str, str, list[tuple[dict, list[str]]]]]:
    """Split rows {"method", "layer", "raw_residual", metrics at each place} into the parts of a table.

    Method after method, its layers in order, without centring right below the same SAE with.
    """
    for attribute in in_order(row["attribute"] for row in rows):
        found = [row for row in rows if row["attribute"] == attribute]
        order = [row["method"] for row in found]
        found.sort(key=lambda row: (order.index(row["method"]), row["layer"], row["raw_residual"]))
        for place in PLACES if found else ():
            about, without = f"{n_cities} cities", found[0][place].get("ce_loss_without_sae")
            about += "" if without is None else f"; without an SAE CE is {without:.2f}"
            lines = [(row, [column.text(row[place].get(column.key)) for column in COLUMNS]) for row in found]
            yield f"{attribute}, {PLACES[place]}", about, lines


def _name(row: dict) -> str:
    return row["method"] + (" (raw)" if row["raw_residual"] else "")


def terminal(model: str, n_cities: int, rows: list[dict]) -> str:
    """Write the table as text of at most 80 columns."""

    def columns(texts) -> str:
        return "".join(f"{text:>{width}}" for text, width in zip(texts, WIDTHS, strict=True))

    lines = []
    for what, about, parts in _parts(n_cities, rows):
        lines += ["", f"{what}: {shortened(model, 26)}, {about}"]
        lines.append(f"{'method':<{NAME}} L{columns(column.short for column in COLUMNS)}")
        for row, numbers in parts:
            name = "  raw residual" if row["raw_residual"] else row["method"]
            lines.append(f"{shortened(name, NAME):<{NAME}}{row['layer']:>2}{columns(numbers)}")
    return "\n".join(lines)


def markdown(model: str, n_cities: int, rows: list[dict]) -> str:
    """Write the table as markdown, for a README."""
    lines = []
    for what, about, parts in _parts(n_cities, rows):
        lines += [f"**{what}** ({model}, {about})", ""]
        lines.append("| method | layer | " + " | ".join(column.key for column in COLUMNS) + " |")
        lines.append("|---|" + "---:|" * (1 + len(COLUMNS)))
        for row, numbers in parts:
            lines.append("| " + " | ".join([markdown_text(_name(row)), str(row["layer"]), *numbers]) + " |")
        lines.append("")
    return "\n".join(lines).rstrip()


def latex(model: str, n_cities: int, rows: list[dict]) -> str:
    """Write the table as LaTeX, for a paper (with the package booktabs)."""
    lines = []
    for what, about, parts in _parts(n_cities, rows):
        lines += [f"% {what}: {model}, {about}", rf"\begin{{tabular}}{{lr{'r' * len(COLUMNS)}}}", r"\toprule"]
        lines += [" & ".join(["method", "$L$", *(column.latex for column in COLUMNS)]) + r" \\", r"\midrule"]
        for row, numbers in parts:
            numbers = [f"${n}$" if n.startswith("-") and n != "-" else n for n in numbers]  # a minus, not a hyphen
            lines.append(" & ".join([latex_text(_name(row)), str(row["layer"]), *numbers]) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}", ""]
    return "\n".join(lines).rstrip()


STYLES = {"terminal": terminal, "markdown": markdown, "latex": latex}
