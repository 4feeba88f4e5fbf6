"""The plan of the house: which file may import which, read from the files themselves."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from common.paths import HOME

# A package imports only what stands before it.
ORDER = [
    *("imports", "common", "data", "decoder", "models", "saes", "featurizers", "masks", "toy", "grid", "quality"),
    *("downloads", "drawing", "main", "eval_sae", "visualisation"),
]
TOP = {"imports.py", "models.py", "main.py", "eval_sae.py", "visualisation.py"}
AGAINST_THE_ORDER = {("decoder.loading", "models")}  # until decoder/ is rebuilt
LIGHT = [
    ("grid.settings", "import grid.settings"),
    ("saes", "import saes"),
    ("main.py", "import main; main.main(['--help'])"),
    ("eval_sae.py", "import eval_sae; eval_sae.main(['--help'])"),
    ("visualisation.py", "import visualisation; visualisation.main(['--help'])"),
    ("downloads", "from downloads.__main__ import main; main(['--help'])"),
]


def product_files() -> dict[str, Path]:
    """Module name -> file, of all that is neither test nor benchmark."""
    paths = [*HOME.glob("*.py"), *(path for package in ORDER for path in (HOME / package).rglob("*.py"))]
    names = {".".join(path.relative_to(HOME).with_suffix("").parts): path for path in paths}
    return {name.removesuffix(".__init__"): path for name, path in names.items()}


FILES = product_files()


def imported(path: Path) -> set[str]:
    """The modules that a file imports anywhere in it, in functions too: of our own files, or a library's outermost."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in whole if name in FILES} or {node.module}
    return {name if name in FILES else name.partition(".")[0] for name in found}


GRAPH = {name: imported(path) for name, path in FILES.items()}


def package_of(name: str) -> str:
    return name.partition(".")[0]


def test_no_other_file_stands_at_the_top():
    assert {path.name for path in HOME.glob("*.py")} == TOP


def test_every_folder_of_python_files_has_its_place():
    folders = {path.parent.name for path in HOME.glob("*/*.py")} - {"tests", "benchmarks"}
    assert folders == {name for name in ORDER if f"{name}.py" not in TOP}


@pytest.mark.parametrize("name", FILES)
def test_a_file_imports_only_packages_before_its_own(name):
    place = ORDER.index(package_of(name))
    later = {
        other
        for other in GRAPH[name]
        if other in FILES and ORDER.index(package_of(other)) > place and (name, other) not in AGAINST_THE_ORDER
    }
    assert not later


def test_the_exceptions_are_needed():
    assert all(other in GRAPH[name] for name, other in AGAINST_THE_ORDER)


def test_no_files_import_each_other_in_a_circle():
    left = {name: {other for other in others if other in FILES} for name, others in GRAPH.items()}
    for name, other in AGAINST_THE_ORDER:
        left[name].discard(other)
    while free := {name for name, others in left.items() if not others}:
        left = {name: others - free for name, others in left.items() if name not in free}
    assert not left


def test_only_imports_py_names_a_library():
    own = {package_of(name) for name in FILES}
    found = {
        (name, other)
        for name, others in GRAPH.items()
        for other in others
        if name != "imports" and other not in own | sys.stdlib_module_names and other not in FILES
    }
    assert not found


@pytest.mark.parametrize(("what", "code"), LIGHT, ids=[what for what, _ in LIGHT])
def test_what_reads_the_command_line_loads_nothing_heavy(what, code):
    script = f"""
import sys
try:
    {code}
except SystemExit:
    pass
print("loaded:", sorted({{"torch", "numpy", "transformers"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=HOME, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded: []"


def test_what_saes_offers_is_there():
    import saes

    for name, module in saes.OFFERED.items():
        assert getattr(saes, name) is getattr(importlib.import_module(module), name)
    with pytest.raises(ImportError, match="nothing"):
        from saes import nothing  # noqa: F401
