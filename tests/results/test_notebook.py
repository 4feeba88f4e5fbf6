"""The example notebook: its code cells run one after the other on small made results, as Jupyter would run them."""

import contextlib
import io
import json
import sys

import numpy as np
import pytest
from helpers_results import small_grid

from common.paths import HOME

NOTEBOOK = HOME / "docs" / "example.ipynb"


def cells(kind: str) -> list[str]:
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert content["nbformat"] == 4
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == kind]


def test_the_notebook_runs_and_recomputes_what_it_loaded(tmp_path, monkeypatch):
    pytest.importorskip("pandas")
    small_grid(tmp_path / "saved_models" / "results", seeds=(0, 1, 2))
    (tmp_path / "main.py").touch()  # by this it finds its folder
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path / "docs")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "main", __import__("main"))
    scope: dict = {}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for source in cells("code"):
            exec(compile(source, str(NOTEBOOK), "exec"), scope)  # noqa: S102 - our own page
    assert scope["status"] == 0
    assert scope["table"].loc[("country", "das"), 1] == pytest.approx(np.mean([(1.875 + s / 64) / 2 for s in range(3)]))
    assert scope["recomputed"] == pytest.approx(scope["row"].value, abs=1e-12)
    assert scope["recomputed"] == 0.9375
    assert len(scope["ax"].containers) == scope["chosen"].query("target == 'country'").label.nunique() == 6
    text = printed.getvalue()
    assert "0.937500 recomputed, 0.937500 in the table" in text
    assert "country: disentangle minus that of neuron" in text
    assert text.count("toy world") == 2  # beside the table and the comparison


def test_it_holds_no_outputs_and_names_only_pages_that_exist():
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert all(cell["outputs"] == [] for cell in content["cells"] if cell["cell_type"] == "code")
    assert 8 <= len(content["cells"]) <= 14
    text = "\n".join(cells("markdown"))
    assert "no finding" in text
    for page in ("export.md", "recompute.md"):
        assert f"({page})" in text
        assert (HOME / "docs" / page).exists()
