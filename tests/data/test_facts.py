"""The tables of cities: ours, RAVEL's and the toy world's."""

from collections import Counter

import pytest
from conftest import HOME, SHARED
from helpers_data import paper_cities

from common.errors import UserError
from data.facts import City, read_cities
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
    assert {cities[name].country for name in ("Windsor", "Cornwall", "Brandon", "Churchill")} == {"Canada"}
    assert cities["Istanbul"].continent == "Asia"


def test_toy_cities_are_balanced():
    cities = toy.toy_cities()
    assert Counter(c.country for c in cities) == dict.fromkeys({c.country for c in cities}, 6)
    assert sorted(Counter(c.continent for c in cities).values()) == [24] * 5
    assert len({c.name for c in cities}) == 120
    assert len({c.country.split()[0] for c in cities}) == 20  # no two countries share a label
    assert not {"Toronto", "Beijing", "Miami", "Santiago", "London"} & {c.name for c in cities}


def test_read_cities_counts_a_repeated_row_once(tmp_path):
    file = tmp_path / "c.csv"
    file.write_text("\ufeffcontinent,city,population,country\nEurope,Paris,2,France\nEurope,Paris,3,France\n")
    assert read_cities(file) == [City("Paris", "France", "Europe")]


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
