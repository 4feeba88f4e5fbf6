"""The command: all, layers, errors of one line, a process of its own, ctrl-C, setup.sh."""

import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from helpers_cli import finish, require_words, start
from helpers_downloads import (
    GPT2,
    MAIN,
    Bloom,
    fails,
    failures,
    place,
    publish_all,
    publish_gpt2,
    run,
    saes,
    sha256,
    some_bytes,
)
from helpers_hosts import Hosts
from huggingface_hub import try_to_load_from_cache

from common.paths import HOME
from saes.releases import RELEASES, locate


def test_all_is_everything(home, capsys, server, monkeypatch, account):
    publish_all(server, monkeypatch)
    run(capsys, "all")
    for release, published in RELEASES.items():
        assert all(locate(release, saes(home), layer, 12).exists() for layer in published.layers)
    runs = {"apollo-e2e": ["bst0prdd", "tvj2owza", "vnfh4vpi"], "apollo-e2e+ds": ["e26jflpq", "2lzle2f0", "u50mksr8"]}
    for release, names in runs.items():
        for layer, name in zip((1, 5, 9), names, strict=True):
            assert (saes(home) / release / f"layer{layer:02}" / "samples_8.pt").read_text() == name
    assert (saes(home) / "openai" / "7.pt").read_text() == "openai 7"
    last = saes(home) / "bloom" / "blocks.11.hook_resid_post" / "cfg.json"
    assert last.read_text() == "cfg.json 11"
    assert (saes(home) / "bloom" / "blocks.11.hook_resid_pre" / "cfg.json").read_text() == "cfg.json 10"
    assert (home / "data" / "ravel").exists()
    assert isinstance(try_to_load_from_cache(GPT2, "model.safetensors"), str)
    server.requests.clear()
    assert "32 of 32 are here already" in run(capsys, "all")
    assert server.requests == []


REFUSALS = [  # a part of a path, what its host answers, and how many items that concerns
    *[("/autoencoders/", status, 12) for status in (401, 403, 404, 409, 503)],
    ("/api/models/jbloom", 403, 12),
    ("/api/models/openai-community", 404, 1),
    ("/resolve/", 403, 13),  # GPT-2's bytes and Bloom's, after the hub has told what there is
    ("/graphql", 401, 6),
    ("/files/", 403, 6),
    ("/explanare/", 404, 1),
]


@pytest.mark.parametrize(("part", "status", "items"), REFUSALS)
def test_what_one_host_refuses_stops_nothing_else(home, capsys, server, monkeypatch, account, part, status, items):
    publish_all(server, monkeypatch)
    server.status[part] = status
    told = failures(capsys, "all")
    assert len(told) == len(set(told)) == items
    server.status.clear()
    server.requests.clear()
    err = run(capsys, "all")
    assert f"{32 - items} of 32 are here already" in err
    assert err.count("done: ") == items


def test_a_changed_file_stops_nothing_else(home, capsys, server, monkeypatch, account):
    publish_all(server, monkeypatch)
    run(capsys, "openai", "--layers", "3")
    (saes(home) / "openai" / "3.pt").write_bytes(b"other")
    [line] = failures(capsys, "all")
    require_words(line, ["3.pt has changed", "remove it"])
    assert (saes(home) / "openai" / "4.pt").exists()


def test_a_damaged_manifest_is_told_once(home, capsys, server, monkeypatch, account):
    publish_all(server, monkeypatch)
    (saes(home) / "manifest.json").write_text("{")
    [line] = failures(capsys, "all")
    require_words(line, ["saes/manifest.json is damaged"])
    assert (home / "data" / "ravel").exists()


def test_layers_of_all_are_those_that_there_are(home, capsys, server, monkeypatch, account):
    publish_all(server, monkeypatch)
    run(capsys, "all", "--layers", "2")
    there = {str(path.relative_to(saes(home))) for path in saes(home).glob("*/*")}
    assert there == {"openai/2.pt", "bloom/blocks.3.hook_resid_pre"}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], ["WORD", "--help"]),
        (["gemma"], ["unknown word 'gemma'", "data, model, openai, bloom, apollo, all"]),
        (["openai", "--layers", "12"], ["--layers 12", "0 to 11"]),
        (["openai", "--layers", "-1"], ["--layers"]),
        (["openai", "--layers", "one"], ["--layers one", "0 to 11"]),
        (["apollo", "--layers", "2"], ["apollo-e2e has no SAE at layer 2", "1 5 9"]),
        (["apollo", "openai", "--layers", "1", "2"], ["apollo-e2e has no SAE at layer 2", "1 5 9"]),
        (["apollo", "--mirror", "--layers", "9"], ["the mirror of apollo-e2e", "layer 9", "1 5"]),
        (["model", "--layers", "1"], ["--layers is for SAEs"]),
        (["openai", "--mirror"], ["--mirror is for Apollo's"]),
        (["openai", "--folder", "x"], ["--folder"]),
    ],
)
def test_a_wrong_command_is_an_error_of_one_line(home, capsys, server, argv, words):
    require_words(fails(capsys, *argv), words)
    assert server.requests == []


# ---------------------------------------------------------------- processes


def process(home: Path, server: Hosts, *argv: str, code: str = ""):
    """The command in a process of its own, with nothing changed but what has to lead to the server."""
    code = f"""
import sys
from pathlib import Path
from common import paths
paths.HOME = Path({str(home)!r})
from downloads import __main__ as download
{code}
try:
    sys.exit(download.main(sys.argv[1:]))
finally:
    heavy = {{"torch", "numpy", "safetensors", "tqdm", "wandb", "huggingface_hub", "blobfile", "requests"}}
    print("loaded:", *sorted(heavy & set(sys.modules)))
"""
    return start(*argv, code=code, HF_ENDPOINT=server.url, HF_HOME=home / "hf", HF_HUB_CACHE=None)


def test_help_loads_no_library(home, server):
    code, out, err = finish(process(home, server, "--help"))
    assert (code, err) == (0, "")
    assert out.endswith("loaded:\n")
    for word in ("data", "model", "openai", "bloom", "apollo", "all", "--layers", "--mirror"):
        assert f"\n  {word} " in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_process_of_its_own_needs_no_torch(home, server, monkeypatch):
    """Nor does it lean on what other tests have imported."""
    weights = some_bytes(2)
    publish_gpt2(server, monkeypatch, weights)
    Bloom().publish(server, weights)
    done = process(
        home,
        server,
        "model",
        *Bloom.words,
        code=f"from downloads import items; items.GPT2_SHA256 = {sha256(weights)!r}",
    )
    code, out, err = finish(done)
    assert code == 0, err
    assert "torch" not in out
    [found] = (home / "hf").rglob(f"snapshots/{MAIN}/model.safetensors")
    assert found.read_bytes() == weights


def test_ctrl_c_keeps_what_has_arrived(home, capsys, server):
    content = some_bytes(5)
    Bloom().publish(server, content)
    server.stalls[content] = 9000
    running = process(home, server, *Bloom.words)
    deadline = time.monotonic() + 60
    while not server.asked("GET", "/cdn/" + sha256(content)):
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.3)  # for the bytes to arrive
    running.send_signal(signal.SIGINT)
    code, _, err = finish(running)
    assert code == 130, err
    assert err.splitlines()[-1].startswith("interrupted: what has arrived is kept")
    assert "Traceback" not in err
    assert not place(home, Bloom()).exists()
    server.stalls.clear()
    run(capsys, *Bloom.words)
    assert (saes(home) / Bloom.weights).read_bytes() == content
    assert server.asked("GET", "/cdn/" + sha256(content))[-1] == "bytes=9000-"


def test_setup_hands_its_words_on(tmp_path):
    home = HOME
    shutil.copy(home / "setup.sh", tmp_path)
    shutil.copy(home / "requirements.txt", tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(home / "requirements.txt", tmp_path / ".venv" / "installed-requirements.txt")
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text('#!/bin/sh\n[ "$2" = pip ] || { pwd; echo "$@"; }\n')
    python.chmod(0o755)

    def setup(*words: str) -> tuple[int, str, str]:
        done = subprocess.run([tmp_path / "setup.sh", *words], capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    assert setup() == (0, "", "")
    given = ("openai", "apollo", "--layers", "1", "5", "--mirror")
    assert setup(*given) == (0, f"{tmp_path}\n-m downloads {' '.join(given)}\n", "")
    code, out, err = setup("data", "gemma")
    assert (code, out) == (2, "")
    require_words(err, ["error: unknown word 'gemma'", "tests data model openai apollo bloom all"])
    code, out, err = setup("--help")
    assert (code, err) == (0, "")
    require_words(out, ["./setup.sh tests", "./setup.sh data", "--mirror", "--layers"])
