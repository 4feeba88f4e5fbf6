"""Which file may import which, read from the files themselves."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from common.paths import HOME

# A package imports only what stands before it.
ORDER = [
    *("imports", "common", "stats", "data", "decoder", "models", "saes", "featurizers", "masks", "verify", "toy"),
    *("results", "export", "grid", "quality", "explain", "downloads", "drawing"),
    *("main", "eval_sae", "visualisation"),
]
TOP = {"imports.py", "models.py", "main.py", "eval_sae.py", "visualisation.py"}
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


def test_top_folder_holds_only_its_own_files():
    assert {path.name for path in HOME.glob("*.py")} == TOP


def test_order_names_every_package():
    folders = {path.parent.name for path in HOME.glob("*/*.py")} - {"tests", "benchmarks"}
    assert folders == {name for name in ORDER if f"{name}.py" not in TOP}


@pytest.mark.parametrize("name", FILES)
def test_file_imports_only_earlier_packages(name):
    place = ORDER.index(package_of(name))
    assert not {other for other in GRAPH[name] if other in FILES and ORDER.index(package_of(other)) > place}


def test_files_import_each_other_in_no_circle():
    left = {name: {other for other in others if other in FILES} for name, others in GRAPH.items()}
    while free := {name for name, others in left.items() if not others}:
        left = {name: others - free for name, others in left.items() if name not in free}
    assert not left


def test_library_is_named_in_imports_py_alone():
    own = {package_of(name) for name in FILES}
    found = {
        (name, other)
        for name, others in GRAPH.items()
        for other in others
        if name != "imports" and other not in own | sys.stdlib_module_names and other not in FILES
    }
    assert not found


@pytest.mark.parametrize(("what", "code"), LIGHT, ids=[what for what, _ in LIGHT])
def test_command_parses_without_heavy_imports(what, code):
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


def test_saes_offers_what_its_modules_have():
    import saes

    for name, module in saes.OFFERED.items():
        assert getattr(saes, name) is getattr(importlib.import_module(module), name)
    with pytest.raises(ImportError, match="nothing"):
        from saes import nothing  # noqa: F401
