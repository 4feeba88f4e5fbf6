"""Scores as csv and parquet: every number comes back exactly."""

import csv
import json
import sys

import pytest
from helpers_cli import error_line, require_words
from helpers_results import result, small_grid, write

import main
from results.collecting import read_finished
from results.estimates import Grid
from results.rows import COLUMNS, score_rows

ODD = 'sae:runs/a, "b";\tc'


@pytest.fixture
def made(tmp_path):
    """Scores of thirds and the like, a name that csv has to quote, a label that is no ASCII."""
    small_grid(tmp_path, seeds=(0, 1, 2))
    write(tmp_path, result("country", ODD, 1, hard=(1 / 3, 0.1), soft=(2 / 7, 1 / 9)))
    (tmp_path / "toy" / "labels.json").write_text(json.dumps({ODD: 'Zürich 日本 "x"'}))
    return tmp_path


def exported(root, name: str, place: str):
    assert main.main(["--model", "toy", "--output", str(root), "--export", name]) == 0
    return root / "toy" / "export" / place


def rows_of(root) -> list:
    found = read_finished(root / "toy")
    return score_rows(Grid(found.results, "country", found.labels))


def test_csv_gives_every_number_back_exactly(made):
    with open(exported(made, "csv", "scores.csv"), newline="", encoding="utf-8") as file:
        head, *lines = csv.reader(file)
    rows = rows_of(made)
    assert head == list(COLUMNS)
    assert len(lines) == len(rows) > 300
    readers = {"int": int, "float": float, "bool": lambda text: {"True": True, "False": False}[text], "str": str}
    for line, row in zip(lines, rows, strict=True):
        for name, text in zip(head, line, strict=True):
            value = getattr(row, name)
            assert text == "" if value is None else readers[type(value).__name__](text) == value, (name, text, value)
    values = {float(line[head.index("value")]).hex() for line in lines}
    assert (533 / 1600).hex() in values  # a third, of 1,600 pairs
    assert {line[head.index("label")] for line in lines if line[head.index("method")] == ODD} == {'Zürich 日本 "x"'}


def test_parquet_gives_every_value_back_exactly(made):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(exported(made, "parquet", "scores.parquet"))
    assert table.column_names == list(COLUMNS)
    assert table.to_pylist() == [vars(row) for row in rows_of(made)]
    assert str(table.schema.field("layer").type) == "int64"


def test_without_pyarrow_parquet_is_an_error_of_one_line(made, monkeypatch, capsys):
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    assert main.main(["--model", "toy", "--output", str(made), "--export", "parquet"]) == 2
    require_words(error_line(capsys.readouterr().err), ["optional library pyarrow", "pip install pyarrow==26.0.1"])
    assert not list((made / "toy").rglob("*.parquet*"))


def test_to_names_another_file_and_flags_choose(made, tmp_path):
    argv = ["--model", "toy", "--output", str(made), "--export", "csv", "--to", str(tmp_path / "new" / "my.csv")]
    assert main.main([*argv, "--methods", "das", "--seeds", "1", "--targets", "continent", "--layers", "0"]) == 0
    with open(tmp_path / "new" / "my.csv", newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert {(r["target"], r["layer"], r["seed"]) for r in found} == {("continent", "0", "1"), ("continent", "0", "all")}
    assert {r["method"] for r in found} == {"none", "full", "das"}
    assert not (made / "toy" / "export").exists()
