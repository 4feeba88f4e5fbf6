"""The tables of cities: ours, RAVEL's and the toy world's."""

import codecs
import csv
import io
from collections import Counter
from pathlib import Path

import pytest
from helpers_data import SHARED, make_city, paper_cities

from common.errors import UserError
from common.paths import HOME
from data.facts import read_cities
from toy import world as toy


def test_read_cities_agrees_with_ravel():
    """Every fact is RAVEL's too, so the default table finds the same known cities as RAVEL's would."""
    file = SHARED / "ravel" / "ravel_city_entity_attributes.json"
    if not file.exists():
        pytest.skip("RAVEL's table is not at hand")
    ravel = {city.name: city for city in read_cities(file)}
    assert len(ravel) == 3552
    ours = read_cities(HOME / "data" / "cities.csv")
    assert len(ours) > 200
    assert [city for city in ours if ravel.get(city.name) != city] == []


def test_read_cities_has_the_papers_forty():
    cities = {city.name: city for city in paper_cities()}
    assert len(cities) == 40
    assert {cities[name].value("country") for name in ("Windsor", "Cornwall", "Brandon", "Churchill")} == {"Canada"}
    assert cities["Istanbul"].value("continent") == "Asia"


def test_toy_cities_are_balanced():
    cities = toy.toy_cities()
    assert Counter(c.value("country") for c in cities) == dict.fromkeys({c.value("country") for c in cities}, 6)
    assert sorted(Counter(c.value("continent") for c in cities).values()) == [24] * 5
    assert len({c.name for c in cities}) == 120
    assert len({c.value("country").split()[0] for c in cities}) == 20  # no two countries share a label
    assert not {"Toronto", "Beijing", "Miami", "Santiago", "London"} & {c.name for c in cities}


def test_read_cities_counts_a_repeated_row_once(tmp_path):
    file = tmp_path / "c.csv"
    file.write_text("\ufeffcontinent,city,population,country\nEurope,Paris,2,France\nEurope,Paris,3,France\n")
    assert read_cities(file) == [make_city("Paris", "France", "Europe")]


@pytest.mark.parametrize("same", [True, False], ids=["alike", "differing"])
def test_read_cities_repeated_key_in_json(tmp_path, same):
    """json's own reader would keep the last and say nothing."""
    path = tmp_path / "cities.json"
    second = "Canada" if same else "England"
    path.write_text(
        '{"Windsor": {"Country": "Canada", "Continent": "North America"}, '
        f'"Windsor": {{"Country": "{second}", "Continent": "North America"}}}}'
    )
    if same:
        assert len(read_cities(path)) == 1
    else:
        with pytest.raises(UserError, match=r"cities\.json: 'Windsor' occurs twice with different content"):
            read_cities(path)


# ---------------------------------------------------------------- as a spreadsheet saves it

TABLE = [["Paris", "France", "Europe"], ["Washington, D.C.; USA", "United States", "North America"], ["Köln", "D", "E"]]
HEADS = [["city", "country", "continent"], ["City", "Country", "Continent"], [" CITY ", "country\u00a0", " ConTinent"]]
ENCODINGS = {"utf-8": "UTF-8", "utf-8-sig": "UTF-8", "utf-16": "UTF-16", "utf-16-be with a mark": "UTF-16"}


def saved(path: Path, head: list[str], delimiter: str, encoding: str) -> Path:
    """With a column of others, CRLF, and quotes where they are needed."""
    with io.StringIO(newline="") as text:
        csv.writer(text, delimiter=delimiter).writerows([[*head, "Notes"], *([*row, "1,5"] for row in TABLE)])
        content = text.getvalue()
    if encoding == "utf-16-be with a mark":
        path.write_bytes(codecs.BOM_UTF16_BE + content.encode("utf-16-be"))
    else:
        path.write_bytes(content.encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("delimiter", [",", ";", "\t"], ids=["commas", "semicolons", "tabs"])
@pytest.mark.parametrize("head", HEADS, ids=["plain", "titled", "blanks"])
def test_read_cities_as_a_spreadsheet_saves_them(tmp_path, capsys, head, delimiter, encoding):
    path = saved(tmp_path / "cities.csv", head, delimiter, encoding)
    assert read_cities(path) == read_cities(path) == [make_city(*row) for row in TABLE]
    said = capsys.readouterr().err.splitlines()
    if (head, delimiter, ENCODINGS[encoding]) == (HEADS[0], ",", "UTF-8"):
        assert said == []
    else:  # once, though the table was read twice
        words = {",": "commas", ";": "semicolons", "\t": "tabs"}[delimiter]
        assert said == [
            f"note: {path} is read as {ENCODINGS[encoding]} with {words}, its columns as "
            + ", ".join(["city", "country", "continent", "Notes" if head == HEADS[0] else "notes"])
        ]


def test_read_cities_json_in_utf_16(tmp_path):
    path = tmp_path / "cities.json"
    path.write_text('{"Köln": {"Country": "Germany", "Continent": "Europe"}}', encoding="utf-16")
    assert read_cities(path) == [make_city("Köln", "Germany", "Europe")]


HEAD = "city,country,continent\n"
UNCLEAR = {
    # content -> what the error names
    "another delimiter": (
        HEAD.replace(",", "|").encode(),
        ["no column city, country, continent", "semicolons or tabs"],
    ),
    "one column with it": (b"city;country,continent\n", ["no column city, country", "UTF-8 with commas"]),
    "a column twice": (b"City,city,Country,continent\n", ["two columns of one name"]),
    "the same column twice": (b"city,city,country,continent\n", ["two columns of one name"]),
    "latin-1": (f"{HEAD}Köln,D,E\n".encode("latin-1"), ["not UTF-8 text"]),
    "utf-16 without a mark": (HEAD.encode("utf-16-le"), ["encoding", "UTF-8"]),
    "utf-16-be without a mark": (HEAD.encode("utf-16-be"), ["encoding", "UTF-8"]),
    "utf-32": (HEAD.encode("utf-32"), ["encoding", "UTF-8"]),
    "utf-16 cut off": (HEAD.encode("utf-16")[:-1], ["not UTF-16 text"]),
    "open quote": (b'"city,country,continent\n', ["line 1", "city,country,continent"]),
}


@pytest.mark.parametrize("case", UNCLEAR)
def test_read_cities_says_what_it_cannot_tell(tmp_path, case):
    content, words = UNCLEAR[case]
    (tmp_path / "c.csv").write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_cities(tmp_path / "c.csv")
    message = str(caught.value)
    assert message.count("\n") == 0
    assert [word for word in (str(tmp_path / "c.csv"), *words) if word not in message] == []
