"""One file or folder of each host: it arrives whole, goes on after a break, and is checked; what is there is kept."""

import errno
import hashlib
import io
import os
import random
import shutil
import time
from argparse import Namespace
from collections import namedtuple
from pathlib import Path

import pytest
from helpers_cli import require_words, snapshot
from helpers_downloads import (
    BLOOM,
    BLOOM_COMMIT,
    Apollo,
    Bloom,
    OpenAI,
    fails,
    manifest,
    place,
    run,
    saes,
    sha256,
    some_bytes,
)

from common.leases import Lease
from downloads import fetching, items
from downloads import hosts as product_hosts


def test_a_whole_file_arrives_and_is_noted(home, capsys, kind, content, server):
    err = run(capsys, *kind.words)
    assert (saes(home) / kind.weights).read_bytes() == content
    noted = manifest(home)["files"][kind.weights]
    assert (noted["size"], noted["sha256"], noted["address"]) == (20_000, sha256(content), kind.address)
    assert noted["date"] == time.strftime("%Y-%m-%d", time.gmtime())
    assert "mirror_of" not in noted
    require_words(err, ["0.02 MB", "free", "done: " + kind.release])
    assert not list(home.rglob("*.part"))
    assert server.served[content] == len(content)


def test_the_second_run_asks_for_nothing(home, capsys, kind, content, server):
    run(capsys, *kind.words)
    before = snapshot(home)
    server.requests.clear()
    err = run(capsys, *kind.words)
    assert server.requests == []
    assert snapshot(home) == before
    assert "here already" in err


# ---------------------------------------------------------------- breaks


@pytest.mark.parametrize("seed", range(4))
def test_an_interrupted_download_goes_on_from_the_bytes_that_are_there(
    home, capsys, kind, content, server, monkeypatch, seed
):
    cut = random.Random(seed).randrange(1, len(content))
    monkeypatch.setattr(fetching, "TRIES", 1)  # each break ends the command
    server.cuts[content] = [cut]
    line = fails(capsys, *kind.words)
    require_words(line, [kind.address.removesuffix("/5.pt"), "run the same command again"])
    assert not place(home, kind).exists()
    [part] = saes(home).rglob(f"{Path(kind.weights).name}.*.part")
    have = part.read_bytes()
    assert content.startswith(have)
    assert len(have) == cut
    server.requests.clear()
    run(capsys, *kind.words)
    assert (saes(home) / kind.weights).read_bytes() == content
    first = next(span for _, _, span in server.requests if span)
    assert first.startswith(f"bytes={len(have)}-")
    assert server.served[content] <= len(content) + cut - len(have)


def test_a_break_is_mended_at_once(home, capsys, kind, content, server):
    server.cuts[content] = [300, 400]
    run(capsys, *kind.words)
    assert (saes(home) / kind.weights).read_bytes() == content


def test_a_server_without_ranges_is_read_from_the_start(home, capsys, server, monkeypatch):
    content = some_bytes(5)
    Bloom().publish(server, content)
    server.cuts[content], server.ignores_ranges = [7000], True
    run(capsys, *Bloom.words)
    assert (saes(home) / Bloom.weights).read_bytes() == content


def test_a_truncated_file_never_gets_its_name(home, capsys, kind, content, server):
    server.wrong[content] = content[:7000]
    server.sizes[content] = len(content)
    line = fails(capsys, *kind.words)
    require_words(line, ["run the same command again"])
    assert not place(home, kind).exists()
    assert kind.weights not in str(manifest(home) if (saes(home) / "manifest.json").exists() else "")


def test_a_wrong_digest_never_gets_its_name(home, capsys, kind, content, server):
    wrong = some_bytes(6)
    server.wrong[content] = wrong
    line = fails(capsys, *kind.words)
    algorithm = "sha256" if isinstance(kind, Bloom) else "md5"
    expected = hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()[:16]
    found = hashlib.new(algorithm, wrong, usedforsecurity=False).hexdigest()[:16]
    require_words(line, [algorithm, expected, found, "removed", "again"])
    assert not place(home, kind).exists()
    del server.wrong[content]
    run(capsys, *kind.words)
    assert (saes(home) / kind.weights).read_bytes() == content


def test_bytes_of_an_older_version_are_not_continued(home, capsys, kind, content, server, monkeypatch):
    monkeypatch.setattr(fetching, "TRIES", 1)
    server.cuts[content] = [3000]
    fails(capsys, *kind.words)
    newer = some_bytes(9, size=len(content) + 1)
    kind.publish(server, newer)
    run(capsys, *kind.words)
    assert (saes(home) / kind.weights).read_bytes() == newer
    assert not list(home.rglob("*.part"))


def test_a_small_file_of_an_older_version_is_not_kept(home, capsys, server, account, monkeypatch):
    monkeypatch.setattr(fetching, "TRIES", 1)
    content = some_bytes(5)
    Apollo().publish(server, content)
    server.cuts[content] = [3000]
    fails(capsys, *Apollo.words)  # by then its settings have arrived
    server.runs["sparsify/gpt2/tvj2owza"]["final_config.yaml"] = b"saes: {new: true}"
    run(capsys, *Apollo.words)
    assert (saes(home) / "apollo-e2e" / "layer05" / "final_config.yaml").read_bytes() == b"saes: {new: true}"
    assert server.served[content] == len(content)


def test_two_downloads_of_one_file_do_not_mix(home, capsys, server):
    content = some_bytes(5)
    Bloom().publish(server, content)
    remote = product_hosts.look(f"hf://{BLOOM}@{BLOOM_COMMIT}/blocks.6.hook_resid_pre")["sae_weights.safetensors"]
    [item, *_] = items.items_of("bloom", Namespace(layers=[5], mirror=False, everything=False))
    part = item.part("sae_weights.safetensors", remote)
    part.parent.mkdir(parents=True)
    with Lease.take(fetching.lease_of(part)):
        require_words(fails(capsys, *Bloom.words), ["another process is downloading", "wait for it"])


# ---------------------------------------------------------------- room


def test_no_room_is_said_before_the_first_byte(home, capsys, kind, content, server, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(0, 0, 12_345))
    line = fails(capsys, *kind.words)
    require_words(line, ["0.02 MB are needed", "0.01 MB are free", "make room"])
    assert server.served[content] == 0
    assert not place(home, kind).exists()


def small_disk(room: int):
    """An `open` whose files take so many bytes in all, as a full disk does."""
    left = [room]

    class File(io.FileIO):
        def write(self, content: bytes) -> int:
            taken = super().write(content[: left[0]])
            left[0] -= taken
            if taken < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return taken

    return lambda path, mode="r", **options: File(path, "ab") if mode == "ab" else open(path, mode, **options)


def test_a_disk_that_fills_up_keeps_what_has_arrived(home, capsys, kind, content, server, monkeypatch):
    monkeypatch.setattr(fetching, "open", small_disk(8000), raising=False)
    line = fails(capsys, *kind.words)
    require_words(line, ["cannot write", "No space left on device", "make room", "kept"])
    assert not place(home, kind).exists()
    monkeypatch.delattr(fetching, "open")
    run(capsys, *kind.words)
    assert (saes(home) / kind.weights).read_bytes() == content
    assert server.served[content] < 2 * len(content)


# ---------------------------------------------------------------- what is there already


def test_a_changed_file_is_caught(home, capsys, kind, content, server):
    run(capsys, *kind.words)
    path = saes(home) / kind.weights
    changed = content[:-1] + bytes([content[-1] ^ 1])
    path.write_bytes(changed)
    server.requests.clear()
    line = fails(capsys, *kind.words)
    require_words(line, [path, "has changed", sha256(changed)[:16], sha256(content)[:16], "remove it"])
    assert server.requests == []
    path.unlink()
    run(capsys, *kind.words)  # as the line says
    assert path.read_bytes() == content


def test_a_file_put_there_by_hand_is_taken_if_it_is_the_publishers(home, capsys, kind, content, server):
    path = saes(home) / kind.weights
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    run(capsys, *kind.words)
    assert server.served[content] == 0
    assert manifest(home)["files"][kind.weights]["sha256"] == sha256(content)


def test_another_file_under_that_name_is_left_alone(home, capsys, kind, content, server):
    path = saes(home) / kind.weights
    path.parent.mkdir(parents=True, exist_ok=True)
    other = some_bytes(8)
    path.write_bytes(other)
    line = fails(capsys, *kind.words)
    require_words(line, [path, "is not", "move it away"])
    assert path.read_bytes() == other
    assert server.served[content] == 0


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"files": 3}', '{"files": {"a": {}}}', '{"revisions": 1}'])
def test_a_damaged_manifest_is_an_error(home, capsys, server, text):
    (saes(home) / "manifest.json").write_text(text)
    require_words(fails(capsys, *OpenAI.words), ["manifest.json is damaged", "remove it"])
    assert server.requests == []
