"""GPT-2 small in the hub's cache, and RAVEL's cities out of their archive."""

import errno
import json
import os
from pathlib import Path

import pytest
from helpers_cli import require_words
from helpers_downloads import (
    CITIES,
    GPT2,
    MAIN,
    RAVEL_PATH,
    archive,
    fails,
    publish_gpt2,
    run,
    sha256,
    some_bytes,
)
from huggingface_hub import snapshot_download, try_to_load_from_cache

from data.facts import read_cities
from downloads import fetching, items


def cached(name: str) -> Path:
    return Path(try_to_load_from_cache(GPT2, name))


def test_gpt2_lands_in_the_cache(home, capsys, server, monkeypatch):
    weights = some_bytes(2)
    files = publish_gpt2(server, monkeypatch, weights)
    server.cuts[weights] = [9000]
    run(capsys, "model")
    assert {name: cached(name).read_bytes() for name in files} == files  # by the branch main, as main.py asks
    snapshot_download(GPT2, allow_patterns=list(files))  # the hub itself takes them for its own
    found = {path.name for path in (home.parent / "hub").rglob("*") if path.is_symlink() or "snapshots" in path.parts}
    assert found - set(files) <= {MAIN, "snapshots"}
    assert server.served[weights] == len(weights)
    noted = json.loads((home / "saved_models" / "models.json").read_text())["files"]
    assert {name.rpartition("/")[2]: record["sha256"] for name, record in noted.items()} == {
        name: sha256(content) for name, content in files.items()
    }
    server.requests.clear()
    run(capsys, "model")
    assert server.requests == []
    cached("model.safetensors").resolve().write_bytes(b"other")
    require_words(fails(capsys, "model"), ["model.safetensors", "has changed", sha256(b"other")[:16]])


def test_a_wrong_small_file_does_not_stay_in_the_cache(home, capsys, server, monkeypatch):
    files = publish_gpt2(server, monkeypatch, some_bytes(2))
    good = files["tokenizer.json"]
    server.wrong[good] = good[::-1]
    require_words(fails(capsys, "model"), ["tokenizer.json", "git", "removed", "again"])
    assert not (home / "saved_models" / "models.json").exists()
    del server.wrong[good]
    run(capsys, "model")
    assert cached("tokenizer.json").read_bytes() == good


def test_gpt2_goes_on_after_a_break(home, capsys, server, monkeypatch):
    monkeypatch.setattr(fetching, "TRIES", 1)
    weights = some_bytes(2)
    publish_gpt2(server, monkeypatch, weights)
    server.cuts[weights] = [9000]
    require_words(fails(capsys, "model"), ["model.safetensors", "again"])
    assert not isinstance(try_to_load_from_cache(GPT2, "model.safetensors"), str)
    run(capsys, "model")
    assert cached("model.safetensors").read_bytes() == weights
    assert server.served[weights] == len(weights)


def test_gpt2_that_was_in_the_cache_is_not_fetched_again(home, capsys, server, monkeypatch):
    weights = some_bytes(2)
    publish_gpt2(server, monkeypatch, weights)
    snapshot_download(GPT2, allow_patterns=["model.safetensors"])
    assert server.served.pop(weights) == len(weights)
    run(capsys, "model")
    assert server.served[weights] == 0


def test_a_cache_that_may_not_be_written(home, capsys, server, monkeypatch):
    publish_gpt2(server, monkeypatch, some_bytes(2))

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        require_words(fails(capsys, "model"), ["cannot", "No space left on device", "make room"])
    assert not isinstance(try_to_load_from_cache(GPT2, "model.safetensors"), str)
    run(capsys, "model")
    assert cached("model.safetensors").read_bytes() == some_bytes(2)
    assert server.served[some_bytes(2)] == len(some_bytes(2))


def test_other_weights_under_gpt2s_name_are_refused(home, capsys, server, monkeypatch):
    publish_gpt2(server, monkeypatch, some_bytes(2))
    monkeypatch.setattr(items, "GPT2_SHA256", "0" * 64)
    require_words(fails(capsys, "model"), [GPT2, sha256(some_bytes(2))[:16], "0" * 16])
    assert server.bytes_sent() == 0


# ---------------------------------------------------------------- RAVEL


def test_ravels_city_files_are_taken_out_of_their_archive(home, capsys, server):
    named = ("city_entity_attributes", "city_prompt_to_split", "verb_entity_to_split")
    cities, splits, verbs = (f"ravel_{name}.json" for name in named)
    files = {f"data/{cities}": CITIES, f"../../{splits}": b"{}", f"data/{verbs}": b"{}"}
    packed = archive(files | {"data/ravel_verb_other.json": b"{}", "data/noise": some_bytes(1)})
    server.raw[RAVEL_PATH] = packed
    server.cuts[packed] = [800]
    assert "another version" in run(capsys, "data")
    folder = home / "data" / "ravel"
    assert {path.name for path in folder.iterdir()} == {"manifest.json", cities, splits, verbs}
    assert [city.value("country") for city in read_cities(folder / "ravel_city_entity_attributes.json")] == ["France"]
    noted = json.loads((folder / "manifest.json").read_text())["files"]["ravel_city_entity_attributes.json"]
    assert (noted["sha256"], noted["address"]) == (sha256(CITIES), "https://raw.githubusercontent.com" + RAVEL_PATH)
    server.requests.clear()
    run(capsys, "data")
    assert server.requests == []


@pytest.mark.parametrize(
    ("packed", "words"),
    [
        (archive({"data/ravel_city_entity_attributes.json": CITIES})[:-9], ["no whole archive", "again"]),
        (b"<html>not here</html>", ["no whole archive", "again"]),
        (archive({"data/other.json": b"{}"}), ["holds no ravel_city_entity_attributes.json"]),
    ],
    ids=["cut", "html", "other"],
)
def test_a_bad_archive_leaves_nothing(home, capsys, server, packed, words):
    server.raw[RAVEL_PATH] = packed
    require_words(fails(capsys, "data"), words)
    assert not (home / "data" / "ravel").exists()
