"""What can be downloaded, SAEs, GPT-2 small, RAVEL's cities: where each lies and what it must hold; and doing it.

What is pinned: Bloom's SAEs and RAVEL's archive to a commit; GPT-2's weights to their sha256, at
the commit of the branch main, as that is what main.py loads (607a30d from 2024 to 2026).  No
commit of the mirrors is known: it is asked for once, noted in the manifest and used from then
on.  Azure and wandb have no commits; an object of Azure is held to one etag.

Unverified, as no host could be reached where this was written: that the addresses still hold
these files, where in RAVEL's archive its files lie (so any folder will do), and that the mirrors
hold the very weights of the runs that they are named after.
"""

import contextlib
import fnmatch
import gzip
import hashlib
import io
import os
import tarfile
import zlib
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from common.errors import UserError
from common.files import write_atomically
from common.paths import HOME
from common.progress import bar, say
from data.ravel import FILES
from downloads.fetching import Item, Manifest, gb, require_room
from downloads.hosts import AGAIN, BY_HAND, NeedsLogin, RemoteFile, look
from grid.profiles import DEFAULT_MODEL
from imports import hub_constants
from saes.releases import N_LAYERS, RELEASES, locate

# https://github.com/explanare/ravel
RAVEL = "https://raw.githubusercontent.com/explanare/ravel/09a36919cf02f27d75c5702d09d201bc2e9237d9/data.tgz"
RAVEL_CITIES = "ravel_city_entity_attributes.json"
RAVEL_SHA256 = "c3568f424f4c4349b85404be17f7671c36fd54945f4759ae533079cba9cd54fd"  # of the copy this was built with
# Of https://huggingface.co/openai-community/gpt2
GPT2_SHA256 = "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707"  # of model.safetensors
GPT2_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt")

MIRROR_FILES = ("cfg.json", "sae_weights.safetensors")
SAE_FILES = {  # of one SAE that is a folder
    "apollo": ("final_config.yaml", "samples_*.pt"),
    "bloom": (*MIRROR_FILES, "sparsity.safetensors"),
}


def download(args: Namespace) -> None:
    """Fetch what is not there yet.

    Raises UserError, before the first byte where that can be seen.  What one host refuses stops
    no other item: it is told at the end, in a line for each.
    """
    items = [item for word in args.words for item in items_of(word, args)]
    failures: dict[str, None] = {}  # each line once
    todo: list[tuple[Item, dict[str, RemoteFile]]] = []
    here = 0
    for item in bar(items, desc="look what is here"):
        with _collecting(failures):
            if item.is_here():
                here += 1
            else:
                todo.append((item, item.missing(item.ask())))
    if here:
        say(f"{here} of {len(items)} are here already")
    with _collecting(failures):
        _require_room(todo)
        for item, remotes in todo:
            with _collecting(failures):
                item.download(remotes)
                say(f"done: {item.label}, {item.path}")
    if failures:
        *others, last = failures
        for line in others:
            say(f"error: {line}")
        raise UserError(last)


@contextlib.contextmanager
def _collecting(failures: dict[str, None]) -> Iterator[None]:
    """Keep what went wrong, for later; a login that is lacking is better told at once."""
    try:
        yield
    except NeedsLogin:
        raise
    except UserError as error:
        failures[str(error)] = None


def _require_room(todo: list[tuple[Item, dict[str, RemoteFile]]]) -> None:
    """Say how much is to come, and raise UserError if a disk has no room for it."""
    disks: dict[int, tuple[Path, list[int]]] = {}
    for item, remotes in todo:
        folder = next(parent for parent in item.path.parents if parent.exists())
        disks.setdefault(os.stat(folder).st_dev, (folder, []))[1].append(item.bytes_left(remotes))
    for folder, sizes in disks.values():
        free = require_room(folder, sum(sizes), "make room, or ask for less")
        say(f"{len(sizes)} to download, {gb(sum(sizes))}; the disk of {folder} has {gb(free)} free")


def items_of(word: str, args: Namespace) -> Iterator[Item]:
    """What a word of the command line asks for.  Raises UserError for a layer that a family of SAEs lacks."""
    if word == "data":
        path = HOME / "data" / "ravel"
        yield Ravel("RAVEL's facts", path, Manifest(path, path / "manifest.json"), (RAVEL_CITIES,), RAVEL)
    elif word == "model":
        cache = Path(hub_constants.HF_HUB_CACHE)
        manifest = Manifest(cache, HOME / "saved_models" / "models.json")
        path = cache / f"models--{DEFAULT_MODEL.replace('/', '--')}" / "snapshots" / "*"
        yield Gpt2("GPT-2 small", path, manifest, GPT2_FILES, f"hf://{DEFAULT_MODEL}")
    root = HOME / "saved_models" / "saes"
    for name, release in RELEASES.items():
        if release.family == word:
            yield from _sae_items(name, args, Manifest(root, root / "manifest.json"))


# ---------------------------------------------------------------- SAEs


def _sae_items(name: str, args: Namespace, manifest: Manifest) -> Iterator[Item]:
    """A release's SAEs at the layers asked for.  Raises UserError for one that it lacks and that was asked for by name.

    With `all`, a layer that is lacking is no mistake.
    """
    release = RELEASES[name]
    from_mirror = args.mirror and bool(release.mirror)
    has = release.mirrored if from_mirror else release.layers
    for layer in args.layers or release.layers:
        label, path = f"{name} layer {layer}", locate(name, manifest.root, layer, N_LAYERS)
        address = release.address_of(layer, N_LAYERS) if layer in release.layers else ""
        if layer not in has and args.layers and not args.everything:
            what, there = f"the mirror of {name}" if from_mirror else name, " ".join(map(str, has))
            raise UserError(f"{what} has no SAE at layer {layer} (it has {there}); leave it out of --layers")
        if layer in has and not from_mirror:
            yield Item(label, path, manifest, SAE_FILES.get(release.family, (path.name,)), address)
        elif layer in has and any(path.glob("samples_*.pt")):
            say(f"note: {label}: Apollo's own run is here and goes before its mirror")
        elif layer in has:
            mirror = _pinned(release.address_of(layer, N_LAYERS, mirror=True), manifest)
            say(f"note: {label} comes from {mirror}; that this mirror has the weights of {address} is not verified")
            yield Item(label, path, manifest, MIRROR_FILES, mirror, mirror_of=address)
        elif layer in release.layers:
            say(f"note: {name} has no mirror at layer {layer}; that run is at wandb.ai alone")


def _pinned(address: str, manifest: Manifest) -> str:
    """A mirror's address, at the commit that its first file came from, else at the last one."""
    repository = "/".join(address.split("/")[:4])
    records = manifest.read().values()
    commits = [f"@{record['revision']}" for record in records if record["address"].startswith(f"{repository}@")]
    return address.replace(repository, repository + (commits or ["@main"])[0])


# ---------------------------------------------------------------- GPT-2


class Gpt2(Item):
    """GPT-2 small in the hub's cache, where main.py looks for it.

    The hub's own download cannot be continued after a break, so its cache is filled from here: a
    folder for the commit, which replaces the * in `path`, and a file that calls this commit main.
    """

    def ask(self) -> dict[str, RemoteFile]:
        files = super().ask()
        found = files["model.safetensors"].digests.get("sha256", "none")
        if found != GPT2_SHA256:
            raise UserError(
                f"{self.address} has other weights than GPT-2 small's: sha256 {found[:16]}, expected "
                f"{GPT2_SHA256[:16]}; name a checkpoint that you trust with ./run.sh --model"
            )
        self.path = self.path.with_name(files["model.safetensors"].revision)
        return files

    def finish(self, remotes: dict[str, RemoteFile]) -> dict[Path, RemoteFile]:
        placed = super().finish(remotes)
        main = self.path.parent.parent / "refs" / "main"
        write_atomically(main, lambda temporary: temporary.write_text(self.path.name))
        return placed


# ---------------------------------------------------------------- RAVEL


class Ravel(Item):
    """RAVEL's files of all entity types, taken out of its archive."""

    def ask(self) -> dict[str, RemoteFile]:
        return look(RAVEL)

    def missing(self, remotes: dict[str, RemoteFile]) -> dict[str, RemoteFile]:
        return remotes

    def finish(self, remotes: dict[str, RemoteFile]) -> dict[Path, RemoteFile]:
        """Raises UserError if the archive is damaged or has no city table."""
        [(name, remote)] = remotes.items()
        archive = self.part(name, remote)
        try:
            content = gzip.decompress(archive.read_bytes())  # all of it, so its check sum counts
            with tarfile.open(fileobj=io.BytesIO(content)) as tar:
                members = {Path(member.name).name: member for member in tar if member.isfile()}
                names = [name for what in FILES for name in fnmatch.filter(members, f"ravel_*_{what}.json")]
                texts = {name: tar.extractfile(members[name]).read() for name in names}
        except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
            archive.unlink()
            raise UserError(f"{RAVEL} is no whole archive ({error}); it was removed, {AGAIN}") from None
        if RAVEL_CITIES not in texts:
            raise UserError(f"{RAVEL} holds no {RAVEL_CITIES}; {BY_HAND}")
        if (found := hashlib.sha256(texts[RAVEL_CITIES]).hexdigest()) != RAVEL_SHA256:
            say(f"note: {RAVEL_CITIES} is another version than this was built with: sha256 {found[:16]}")
        for name, text in texts.items():
            self.part(name, remote).write_bytes(text)
        return super().finish(dict.fromkeys(texts, remote))
