"""The recipe of docs/recompute.md gives the saved score: it is run as it stands there, but for the two paths."""

import contextlib
import io
import json
import re

import pytest
from safetensors.torch import load_file

import main
from common.paths import HOME


@pytest.mark.parametrize("method", ["das", "neuron", "das@8", "pca:cause"])
def test_the_recipe_gives_the_saved_score(toy_world, tmp_path, method):
    flags = ["--model", "toy", "--layers", "2", "--methods", method, "--targets", "country", "--max-pairs", "40"]
    assert main.main([*flags, "--epochs", "4", "--output", str(tmp_path)]) == 0
    file = tmp_path / "toy" / "country" / method / "layer02-seed0.json"
    text = (HOME / "docs" / "recompute.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for there, here in (
        ("saved_models/toy", toy_world),
        ("saved_models/results/toy/country/das/layer02-seed0.json", file),
    ):
        assert code.count(f'"{there}"') == 1
        code = code.replace(f'"{there}"', repr(str(here)))
    scope: dict = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(code, scope)  # noqa: S102 - our own page
    saved = json.loads(file.read_text())["test"]["hard"]
    assert 0 < saved["cause"] <= 1
    assert scope["scores"] == {kind: pytest.approx(saved[kind], abs=1e-12) for kind in ("cause", "isolation")}
    hits = [*scope["hits"]["cause"], *scope["hits"]["isolation"]]
    assert hits == load_file(file.with_suffix(".safetensors"))["outcome_hard"].tolist()
