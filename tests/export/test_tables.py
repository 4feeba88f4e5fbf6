"""Tables for papers and READMEs: read by small parsers of their own, and by pdflatex where it is at hand."""

import json
import re
import shutil
import subprocess

import pytest
from helpers_results import result, small_grid, write
from hypothesis import given, settings
from hypothesis import strategies as st

from common.markup import latex_text, markdown_text
from export.tables import latex, markdown
from results.collecting import read_finished
from results.estimates import Grid

NASTY = "sae:a_b & 50% #1 {x} ~^\\ [c] $y$ <z> |w| `v` 'u' --- Zürich *日本*"


@pytest.fixture(scope="module")
def grid(tmp_path_factory) -> Grid:
    root = tmp_path_factory.mktemp("results")
    small_grid(root, seeds=(0, 1))
    falling = [{"epoch": e, "loss": 9.0 - e, "accuracy": 0.5, "temperature": 0.5} for e in range(1, 9)]
    write(root, result("country", NASTY, 1, hard=(0.25, 0.75), history=falling))
    write(root, result("country", "sae:[b]", 1, hard=(0.5, 1.0)))
    (root / "toy" / "labels.json").write_text(json.dumps({"sae:[b]": "[0pt] mine"}))
    found = read_finished(root / "toy")
    return Grid(found.results, "country", found.labels)


# ---------------------------------------------------------------- LaTeX

COMMANDS = {  # what is printed
    **{rf"\{c}": c for c in "&%$#_{}"},
    **{r"\textbackslash{}": "\\", r"\textasciitilde{}": "~", r"\textasciicircum{}": "^", r"\textbar{}": "|"},
    **{r"\textless{}": "<", r"\textgreater{}": ">", r"\textasciigrave{}": "`", r"\textquotesingle{}": "'"},
    **{"{[}": "[", "{]}": "]", "{*}": "*"},
}
TOKEN = re.compile("|".join(re.escape(c) for c in sorted(COMMANDS, key=len, reverse=True)) + r"|-\{\}|[^\\{}$&#^_%~]")


def printed(source: str) -> str:
    """What LaTeX prints of a cell; fails on anything that it would read as a command."""
    text, at = "", 0
    while at < len(source):
        token = TOKEN.match(source, at)
        assert token, f"{source[at:]!r} is no text"
        text += "-" if token[0] == "-{}" else COMMANDS.get(token[0], token[0])
        at = token.end()
    return text


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"])))
@settings(max_examples=300, deadline=None)
def test_ascii_is_printed_as_it_is(text):
    source = latex_text(text)
    assert printed(source) == text
    for ligature in ("--", "``", "''", "?`", "!`", "<<", ">>"):
        assert ligature not in source
    assert not source.startswith(("[", "*"))


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_any_text_becomes_one_line_of_ascii(text):
    source = latex_text(text)
    assert source.isascii()
    assert source.isprintable() or not source
    printed(source)


def test_accents_are_left_out_and_what_has_no_form_is_a_question_mark():
    assert latex_text("Zürich, São 日") == "Zurich, Sao ?"


def rows_of(source: str) -> list[list[str]]:
    """The cells of every row between \\endfoot and \\end{longtable}."""
    bodies = re.findall(r"\\endfoot\n(.*?)\\end\{longtable\}", source, re.DOTALL)
    lines = [line for body in bodies for line in body.splitlines() if line != r"\addlinespace"]
    assert all(line.endswith(r" \\") for line in lines)
    return [re.split(r"(?<!\\) & ", line.removesuffix(r" \\")) for line in lines]


def test_the_latex_table_has_the_numbers_and_the_names(grid):
    source = latex(grid)
    rows = rows_of(source)
    assert all(len(row) == 7 for row in rows)
    assert len(rows) == 2 * (3 * 5 + 1) + 2  # none, full, neuron, das, openai at 3 layers; apollo-e2e; two own SAEs
    mark = "$^*$"
    named = {printed(row[1].removesuffix(mark)): row for row in rows if row[0] == "1"}
    assert "sae:a_b & 50% #1 {x} ~^\\ [c] $y$ <z> |w| `v` 'u' --- Zurich *??*" in named
    nasty, labelled = named[next(n for n in named if n.startswith("sae:a_b"))], named["[0pt] mine"]
    assert nasty[2:5] == ["0.250", "0.750", "0.500"]
    assert nasty[1].endswith(mark)
    assert labelled[2:5] == ["0.500", "1.000", "0.750"]
    assert not labelled[1].endswith(mark)
    for environment in ("longtable",):
        assert source.count(rf"\begin{{{environment}}}") == source.count(rf"\end{{{environment}}}") == 2
    assert "toy world" in source
    assert "training loss still fell" in source


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")
def test_pdflatex_compiles_the_table(grid, tmp_path):
    (tmp_path / "table.tex").write_text(latex(grid), encoding="utf-8")
    packages = r"\usepackage{booktabs, longtable}"
    document = rf"\documentclass{{article}}{packages}\begin{{document}}\input{{table.tex}}\end{{document}}"
    (tmp_path / "paper.tex").write_text(document)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-1500:]
    assert (tmp_path / "paper.pdf").stat().st_size > 5000


# ---------------------------------------------------------------- markdown


def cells_of(line: str) -> list[str]:
    """The cells of a row of GitHub's tables: a bar behind an odd number of backslashes is text."""
    cells = re.split(r"(?<!\\)(?:\\\\)*\|", line)
    assert (cells[0], cells[-1]) == ("", "")
    return [re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", cell.strip()) for cell in cells[1:-1]]


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"])))
@settings(max_examples=200, deadline=None)
def test_a_name_stays_one_cell(text):
    assert cells_of(f"| {markdown_text(text)}. |") == [f"{text}.".strip()]


def test_the_markdown_table_has_the_numbers_and_the_names(grid):
    lines = markdown(grid).splitlines()
    tables = [line for line in lines if line.startswith("|")]
    assert all(len(cells_of(line)) == 7 for line in tables)
    named = {cells_of(line)[1]: cells_of(line) for line in tables if cells_of(line)[0] == "1"}
    assert named[f"{NASTY}*"][2:5] == ["0.250", "0.750", "0.500"]
    assert named["[0pt] mine"][2:5] == ["0.500", "1.000", "0.750"]
    assert sum(line.startswith("|---:") for line in lines) == 2
    assert sum("toy world" in line for line in lines) == 2
