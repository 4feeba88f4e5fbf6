"""Results that were damaged or altered: refused with a reason, never shown, never a traceback."""

import json
import random
import shutil

import numpy as np
import pytest
from helpers_results import fingerprint, result, write
from safetensors.numpy import load_file, save_file

from common.errors import UserError
from results.reading import Damaged, read_result
from results.run import Run
from results.store import Store


@pytest.fixture
def root(tmp_path):
    write(tmp_path, result("country", "neuron", 0))
    write(tmp_path, result("country", "neuron", 1, hard=(0.25, 0.5)))
    write(tmp_path, result("country", "bloom", 1))
    return tmp_path / "toy"


def damage(rng: random.Random, path, other) -> None:
    """One accident of those that befall files, to the json of a result, its tensors, or its pairs."""
    tensors, pairs = path.with_suffix(".safetensors"), next(path.parent.parent.glob("pairs-*"))
    kind = rng.choice(["value", "value", "missing", "number", "bytes", "cut", "gone", "swapped", "folder"])
    if kind in ("value", "missing", "number"):
        content = json.loads(path.read_text())
        inside = content
        key = rng.choice(list(inside))
        while isinstance(inside[key], dict | list) and inside[key] and rng.random() < 0.8:
            inside = inside[key]
            key = rng.choice(list(inside) if isinstance(inside, dict) else range(len(inside)))
        if kind == "missing":
            del inside[key]
        elif kind == "number" and isinstance(inside[key], float):
            inside[key] += rng.choice([1e-9, 0.01, -0.5, 1, float("nan"), float("inf")])
        else:
            inside[key] = rng.choice([None, True, -1, 2, 1e300, 10**400, "x", [], {}, [[]], {"a": 1}, float("nan")])
        path.write_text(json.dumps(content))
    elif kind == "swapped":
        source = rng.choice([other, other.with_suffix(".safetensors")])
        shutil.copy(source, path.with_suffix(source.suffix))
    else:
        victim = rng.choice([path, tensors, pairs])
        content = victim.read_bytes()
        victim.unlink()
        if kind == "bytes":
            at = rng.randrange(len(content))
            victim.write_bytes(content[:at] + rng.randbytes(rng.randint(1, 4)) + content[at + 1 :])
        elif kind == "cut":
            victim.write_bytes(content[: rng.randrange(len(content))])
        elif kind == "folder":
            victim.mkdir()


def without_tables(found: dict) -> dict:
    return {key: value for key, value in found.items() if key not in ("outcomes", "test_pairs")}


def test_two_thousand_damaged_results_are_refused_or_unchanged(root, tmp_path):
    path, other = root / "country" / "bloom" / "layer01-seed0.json", root / "country" / "neuron" / "layer01-seed0.json"
    sound = read_result(path, root)
    refused = 0
    for seed in range(2000):
        copy = tmp_path / "copy"
        shutil.copytree(root, copy)
        damage(random.Random(seed), copy / path.relative_to(root), copy / other.relative_to(root))
        try:
            found = read_result(copy / path.relative_to(root), copy)
        except Damaged as why:
            assert str(why)
            assert "\n" not in str(why)
            refused += 1
        else:
            assert repr(without_tables(found)) == repr(without_tables(sound)), seed
            assert all(np.array_equal(found["outcomes"][k], sound["outcomes"][k]) for k in sound["outcomes"]), seed
        shutil.rmtree(copy)
    assert refused > 1900


def test_the_store_says_so_in_one_line(root):
    run = Run("country", "bloom", 1, 0)
    store = Store(root.parent, "toy")
    assert store.read(run)["test"]["hard"]["cause"] == 0.5
    content = json.loads(store.json_path(run).read_text())
    content["test"]["hard"]["cause"] = 0.75
    store.json_path(run).write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"layer01-seed0.json: was altered after it was written; redo it with --force"):
        store.read(run)


def test_scores_that_do_not_follow_from_the_outcomes_are_refused_though_the_digest_fits(root):
    path = root / "country" / "bloom" / "layer01-seed0.json"
    content = json.loads(path.read_text())
    content["test"]["soft"]["cause"] += 1 / 1600
    content["test"]["soft"]["disentangle"] += 1 / 3200
    path.write_text(json.dumps({**content, "digest": fingerprint(content)}))
    with pytest.raises(Damaged, match="its soft scores do not follow from its outcomes"):
        read_result(path, root)


def test_tensors_of_another_run_are_refused(root):
    path = root / "country" / "bloom" / "layer01-seed0.safetensors"
    save_file(load_file(path) | {"theta": np.ones(256, np.float32)}, path)
    with pytest.raises(Damaged, match=r"layer01-seed0\.safetensors is of another run, or was altered"):
        read_result(path.with_suffix(".json"), root)


def test_a_result_in_another_place_is_refused(root):
    path = root / "country" / "bloom" / "layer01-seed0.json"
    moved = path.with_name("layer02-seed0.json")
    shutil.copy(path, moved)
    with pytest.raises(Damaged, match="it says that it is country/bloom/layer01-seed0"):
        read_result(moved, root)


def test_a_mean_that_is_none_is_refused_in_every_part(root):
    path = root / "country" / "bloom" / "layer01-seed0.json"
    content = json.loads(path.read_text())
    content["validation"]["hard"]["disentangle"] = 0.99
    path.write_text(json.dumps({**content, "digest": fingerprint(content)}))
    with pytest.raises(Damaged, match=r"validation\.hard\.disentangle is not the mean"):
        read_result(path, root)
