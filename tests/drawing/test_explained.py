"""Figures and table of what masks selected, from explanations written by hand."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from helpers_results import N_FEATURES, fingerprint, small_grid
from test_visualisation import require_legible, run, texts

from data.names import PAPER
from drawing import figures, report_figures
from drawing.canvas import look
from drawing.collect import collect
from drawing.latents import Pick, latents_by_city, picks
from drawing.needed import score_against_kept
from drawing.report_features import selected_features
from grid.profiles import TOY_NOTICE
from results.estimates import Grid
from results.run import Run

N_SELECTED = 30
K = [1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 30]
PAGE = "https://www.neuronpedia.org/gpt2-small/2-res-jb/7"


def three(value: float) -> dict:
    return {"cause": value, "isolation": value, "disentangle": value}


def explanation(root: Path, run: Run, n_cities: int = 120, long: bool = False, **changes) -> dict:
    """Of a result that small_grid wrote; features 0, 7, 14, ...; long: names and numbers as long as they come."""
    result = json.loads((root / f"{run}.json").read_text())
    are_latents = run.method not in N_FEATURES
    rng = np.random.default_rng(run.layer)
    value_FC = rng.random((24, n_cities)).round(3) * (rng.random((24, n_cities)) < 0.4 if are_latents else 1)
    change = {**three(-0.125 if long else 0.25), "low": -0.5, "high": 0.75, "p": 0.5, "nats": 0.01}
    features = [
        {
            "feature": 40_000 + i if long else 7 * i,
            "theta": 1 - i / 100,
            "effect": (0.25 - i / 100) if i < 24 else None,
            "lost": change if i < 24 else None,
            "gained": change if i < 24 else None,
            "n_fires": 12 if are_latents else None,
            "strongest": [["city 1", 2.5]] if are_latents else None,
            "values": [["country 3", 1.5], ["country 1", 0.5]],
            "explained": {"country": 0.75, "continent": None},
            "page": PAGE if i == 1 else None,
        }
        for i in range(N_SELECTED)
    ]
    curve = {"k": K, **{name: [k / 40 for k in K] for name in ("cause", "isolation", "disentangle")}}
    name = "Saint Vincent and the Grenadines {}" if long else "country {}"
    content = {
        "result": {"target": run.target, "method": run.method, "layer": run.layer, "seed": run.seed},
        "made_from": {"format": 1, "result": result["digest"], "top": 24, "unit": "country"},
        "notice": result["notice"],
        "are_latents": are_latents,
        **{"n_features": 256, "n_active": 100, "n_selected": N_SELECTED},
        "scores": dict.fromkeys(("mask", "empty", "none", "full"), three(0.5)),
        "gain": {**three(0.25), "low": 0.125, "high": 0.5, "p": 0.01},
        "features": features,
        "curves": {"theta": curve, "effect": curve},
        "needed": {"theta": 16, "effect": None},
        "cities": [
            {"name": f"city {i}", "country": name.format(i // 4), "continent": f"continent {i // 24}"}
            for i in reversed(range(n_cities))
        ],
        "activations": value_FC.tolist(),
        "overlaps": [],
        "agreement": {"seeds": [0, 1], "n_pairs": 1, **dict.fromkeys(("jaccard", "lowest", "highest"), 0.625)}
        | {"chance": 0.125, "chance_sd": 0.05},
        **changes,
    }
    return {**content, "digest": fingerprint(content)}


def write(root: Path, content: dict) -> Path:
    path = root / "explain" / f"{Run(**content['result'])}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def root(tmp_path) -> Path:
    """OUTPUT/toy with results of layers 0 to 2, explained at layers 0 and 1."""
    found = small_grid(tmp_path / "results") / "toy"
    for method in ("neuron", "das", "openai"):
        for target in PAPER:
            for layer in (0, 1):
                write(found, explanation(found, Run(target, method, layer, 0)))
    return found


def test_figures_are_drawn_where_explanations_are(root, tmp_path, capsys):
    code, _, err = run(capsys, "--results", root.parent, "--output", tmp_path / "fig", "--report")
    assert code == 0
    assert "skipped" not in err
    names = {f"needed_{target}" for target in PAPER}
    names |= {f"latents_{target}_{method}" for target in PAPER for method in ("neuron", "das", "openai")}
    assert names <= {path.stem for path in (tmp_path / "fig").glob("*.svg")}
    page = (tmp_path / "fig" / "report.html").read_text()
    assert all(f'<figure id="{name}">' in page for name in names)
    assert page.count('id="selected-table"') == 1
    row = '<td class="text">country</td><td>1</td><th scope="row">openai</th><td>0</td><td>30</td>'
    row += f'<td>16</td><td>0.62</td><td>0.12</td><td class="text">0 (+0.250, country 3), <a href="{PAGE}">7</a>'
    assert row in page


def test_lines_and_rings_are_the_numbers_of_the_files(root):
    collection = collect(root)
    grid = Grid(collection.results)
    with look():
        figure = score_against_kept(grid, collection.explanations, "country").figure
    assert len(figure.axes) == 2
    for ax in figure.axes:
        found = {line.get_gid(): line for line in ax.lines}
        assert found["kept-das"].get_xdata().tolist() == K
        assert found["kept-das"].get_ydata() == pytest.approx([k / 40 for k in K])
        assert (*found["needed-das"].get_xdata(), *found["needed-das"].get_ydata()) == (16, 0.4)
        assert list(found["line-none"].get_ydata()) == [0.5, 0.5]
        assert list(found["line-full"].get_ydata()) == [0.53125, 0.53125]


def test_scores_link_to_the_features_behind_them(root, tmp_path, drawn):
    """From each explained cell at a glance and among all scores, to the first row of its target, layer and method."""
    page = drawn(root.parent, tmp_path / "fig").read_text()
    wanted = {(target, method, layer) for target in PAPER for method in ("neuron", "das", "openai") for layer in (0, 1)}
    rows = re.findall(
        r'<tr id="(selected-[^"]+)" tabindex="-1"><td class="text">(\w+)</td><td>(\d)</td>'
        r'<th scope="row">(\w+)</th>',
        page,
    )
    place = {(target, method, int(layer)): name for name, target, layer, method in rows}
    assert place.keys() == wanted
    assert len(set(place.values())) == len(wanted)
    links = re.findall(
        r'data-target="(\w+)" data-layer="(\d)" data-method="(\w+)"><th scope="row">'
        r'<a href="#([^"]+)">\w+</a>',
        page,
    )
    assert {(target, method, int(layer)): name for target, layer, method, name in links} == place
    assert len(links) == len(wanted)
    glance = page.partition('id="glance-country"')[2].partition("</table>")[0]
    assert re.findall(r'href="#([^"]+)"', glance) == [
        place["country", method, layer] for method in ("neuron", "das", "openai") for layer in (0, 1)
    ]


def test_a_label_stands_for_a_method(root):
    collection, names = collect(root), {"openai": "my SAE"}
    grid, of = Grid(collection.results, labels=names), Run("country", "openai", 0, 0)
    with look():
        needed = score_against_kept(grid, collection.explanations, "country")
        assert "my SAE" in texts(needed.figure)
        assert "openai" not in texts(needed.figure) + needed.summary
        inputs = figures.Inputs(collection, grid, "hard", "neuron", None)
        (latents,) = [entry for entry in figures.FIGURES if entry.name == "latents_{}"]
        assert "What the mask selected: my SAE" in texts(latents.draw(inputs, Pick(of)).figure)
    row = selected_features({of: collection.explanations[of]}, {}, names)
    assert '<th scope="row">my SAE</th>' in row


def test_cities_stand_by_value_and_features_by_their_own_scale(root):
    explanations = collect(root).explanations
    content = explanations[Run("country", "openai", 1, 0)]
    with look():
        drawing = latents_by_city(content, Run("country", "openai", 1, 0), "toy")
    ax, _ = drawing.figure.axes
    shown = ax.images[0].get_array()
    assert shown.shape == (120, 24)
    value_CF = np.array(content["activations"]).T
    rows = {tuple(city[k] for k in ("continent", "country", "name")): i for i, city in enumerate(content["cities"])}
    assert [tick.get_text() for tick in ax.get_yticklabels()] == list(dict.fromkeys(key[1] for key in sorted(rows)))
    assert np.allclose(shown, value_CF[[rows[key] for key in sorted(rows)]] / value_CF.max(0))
    assert [tick.get_text() for tick in ax.get_xticklabels()][:2] == ["0\n+0.250", "7\n+0.240"]
    with look():
        drawing = latents_by_city(explanations[Run("country", "das", 1, 0)], Run("country", "das", 1, 0), "toy")
    centred = drawing.figure.axes[0].images[0].get_array()
    assert np.allclose(centred.mean(0), 0)
    assert np.allclose(abs(centred).max(0), 1)


def test_the_layer_that_is_drawn_is_best_on_validation(root):
    """Of neurons' scores, which rise with the layer; layer 2 is the last and not explained."""
    collection = collect(root)
    found = picks(Grid(collection.results), collection.explanations)
    assert Pick(Run("country", "neuron", 1, 0)) in found
    assert Pick(Run("country", "neuron", 0, 0)) not in found
    assert str(Pick(Run("country", "sae:/far/../away", 1, 0))) == "country_sae--far-..-away"


def test_nothing_overlaps_and_nothing_is_cut_off(root):
    collection = collect(root)
    for method, n_cities, long in (("openai", 2, False), ("das", 120, False), ("openai", 400, True)):
        of = Run("country", method, 1, 0)
        with look():
            drawing = latents_by_city(explanation(root, of, n_cities, long), of, "openai-community/gpt2")
        require_legible(drawing.figure)
        assert TOY_NOTICE in texts(drawing.figure)
    with look():
        require_legible(score_against_kept(Grid(collection.results), collection.explanations, "country").figure)


def test_a_strangers_explanations_are_named_in_a_line_and_left_out(root, tmp_path, capsys, monkeypatch):
    shown = []
    monkeypatch.setattr(figures, "save", lambda *about, **_: shown.append(about[2]))
    monkeypatch.setattr(report_figures, "parts", lambda _: (b"", None))
    first = explanation(root, Run("country", "das", 0, 0))
    cut = write(root, first)
    cut.write_text(cut.read_text()[:500])
    write(root, {**explanation(root, Run("country", "das", 1, 0)), "n_active": 99})
    stale = explanation(root, Run("country", "neuron", 0, 0), made_from={**first["made_from"], "result": "older"})
    write(root, stale)
    evil = explanation(root, Run("country", "neuron", 1, 0))
    evil["features"][0]["page"] = 'https://www.neuronpedia.org/" onclick="x'
    write(root, {**evil, "digest": fingerprint(evil)})
    odd = explanation(root, Run("country", "openai", 1, 0))
    odd["features"][0]["values"] = [["<script>", 1.0]]
    write(root, {**odd, "digest": fingerprint(odd)})
    code, _, err = run(capsys, "--results", root.parent, "--output", tmp_path / "fig", "--report")
    assert code == 0
    skipped = err.splitlines()[0]
    for words in (
        "das/layer00-seed0.json (no json)",
        "das/layer01-seed0.json (was altered",
        "neuron/layer00-seed0.json (its result is another by now; run --explain again)",
        "neuron/layer01-seed0.json (features[0].page is",
    ):
        assert words in skipped
    page = (tmp_path / "fig" / "report.html").read_text()
    assert "onclick" not in page.replace("&quot;", '"').partition('id="unmeasured"')[0]
    assert page.count("<script") == 1
    assert "&lt;script&gt;" in page
    assert "latents_continent_das" in shown
    assert "latents_country_das" not in shown


@pytest.mark.parametrize("target", ["country", "continent", "language"])
def test_cities_stand_by_the_targets_value(tmp_path, target):
    """Countries of a continent together, where both are known: country 10 and 11 are of continent 1, 12 to 17 of 2."""
    root, run = small_grid(tmp_path) / "toy", Run("country", "das", 1, 0)
    content = explanation(root, run, n_cities=72)
    if target == "language":
        content["cities"] = [{"name": c["name"], "language": c["country"]} for c in content["cities"]]
    drawing = latents_by_city(content, Run(target, "das", 1, 0), "toy")
    found = [label.get_text() for label in drawing.figure.axes[0].get_yticklabels()]
    countries = [f"country {i}" for i in range(18)]
    wanted = {
        "country": [c for i in range(3) for c in sorted(countries[6 * i : 6 * i + 6])],
        "continent": [f"continent {i}" for i in range(3)],
        "language": sorted(countries),
    }
    assert found == wanted[target]
    assert ("Countries of a continent stand together" in texts(drawing.figure)) == (target == "country")
