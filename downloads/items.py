"""What can be downloaded, SAEs, GPT-2 small, RAVEL's cities: where each lies and what it must hold; and doing it.

What is pinned: Bloom's SAEs and RAVEL's archive to a commit; GPT-2's weights to their sha256, at
the commit of the branch main, as that is what main.py loads (607a30d from 2024 to 2026).  No
commit of the mirrors is known: it is asked for once, noted in the manifest and used from then
on.  Azure and wandb have no commits; an object of Azure is held to one etag.

Unverified, as no host could be reached where this was written: that the addresses still hold
these files, where in RAVEL's archive its files lie (so any folder will do), and that the mirrors
hold the very weights of the runs that they are named after.
"""

import gzip
import io
import os
import shutil
import tarfile
import zlib
from argparse import Namespace
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from common.errors import UserError
from common.paths import HOME
from common.progress import bar, say
from downloads.fetching import Item, Manifest, record_of, require_whole
from downloads.hosts import RemoteFile, at_commit, errors_of, files_at
from grid.profiles import DEFAULT_MODEL
from imports import hub_constants, hub_utils, huggingface_hub
from saes.places import locate
from saes.releases import N_LAYERS, RELEASES

# https://github.com/explanare/ravel
RAVEL = "https://raw.githubusercontent.com/explanare/ravel/09a36919cf02f27d75c5702d09d201bc2e9237d9/data.tgz"
RAVEL_CITIES = "ravel_city_entity_attributes.json"
RAVEL_SHA256 = "c3568f424f4c4349b85404be17f7671c36fd54945f4759ae533079cba9cd54fd"  # of the copy this was built with
# Of https://huggingface.co/openai-community/gpt2
GPT2_SHA256 = "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707"  # of model.safetensors
GPT2_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt")

# The files of one SAE that is a folder.
SAE_FILES = {
    "apollo": ("final_config.yaml", "samples_*.pt"),
    "apollo's mirror": ("cfg.json", "sae_weights.safetensors"),
    "bloom": ("cfg.json", "sae_weights.safetensors", "sparsity.safetensors"),
}


def download(args: Namespace) -> None:
    """Fetch what is not there yet.  Raises UserError, before the first byte where that can be seen."""
    items = [item for word in args.words for item in items_of(word, args)]
    todo = []
    for item in bar(items, desc="look what is here"):
        if not item.is_here():
            todo.append((item, item.missing(item.ask())))
    if len(todo) < len(items):
        say(f"{len(items) - len(todo)} of {len(items)} are here already")
    _require_room([(item, item.bytes_left(remotes)) for item, remotes in todo])
    for item, remotes in todo:
        item.download(remotes)
        say(f"done: {item.label}, {item.path}")


def _require_room(todo: list[tuple[Item, int]]) -> None:
    """Say how much is to come, and raise UserError if a disk has no room for it."""
    needs: dict[int, list[tuple[Path, int]]] = {}
    for item, size in todo:
        folder = next(parent for parent in item.path.parents if parent.exists())
        needs.setdefault(os.stat(folder).st_dev, []).append((folder, size))
    for needed in needs.values():
        folder, size = needed[0][0], sum(size for _, size in needed)
        free = shutil.disk_usage(folder).free
        say(f"{len(needed)} to download, {_gb(size)}; the disk of {folder} has {_gb(free)} free")
        if size > free:
            raise UserError(
                f"{_gb(size)} are needed and {_gb(free)} are free on the disk of {folder}; make room, or ask for less"
            )


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e7 else f"{size / 1e6:.2f} MB"


def items_of(word: str, args: Namespace) -> Iterator[Item]:
    """What a word of the command line asks for.  Raises UserError for a layer that a family of SAEs lacks."""
    if word == "data":
        path = HOME / "data" / "ravel"
        yield Ravel("RAVEL's cities", path, Manifest(path, path / "manifest.json"), (RAVEL_CITIES,), RAVEL)
    elif word == "model":
        cache = Path(hub_constants.HF_HUB_CACHE)
        manifest = Manifest(cache, HOME / "saved_models" / "models.json")
        path = cache / f"models--{DEFAULT_MODEL.replace('/', '--')}"
        names = tuple(f"snapshots/*/{name}" for name in GPT2_FILES)
        yield Gpt2("GPT-2 small", path, manifest, names, f"hf://{DEFAULT_MODEL}")
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
    for layer in args.layers or ():
        if layer not in has and not args.everything:
            what = f"the mirror of {name}" if from_mirror else name
            raise UserError(
                f"{what} has no SAE at layer {layer} (it has {' '.join(map(str, has))}); leave it out of --layers"
            )
    wanted = [layer for layer in release.layers if args.layers is None or layer in args.layers]
    lacking = [str(layer) for layer in wanted if layer not in has]
    if lacking:
        say(f"note: {name} has no mirror at layer {' '.join(lacking)}; that run is at wandb.ai alone")
    for layer in filter(has.__contains__, wanted):
        label, path = f"{name} layer {layer}", locate(name, manifest.root, layer, N_LAYERS)
        address = release.address_of(layer, N_LAYERS)
        if from_mirror and any(path.glob("samples_*.pt")):
            say(f"note: {label}: Apollo's own run is here and goes before its mirror")
        elif from_mirror:
            copy = release.address_of(layer, N_LAYERS, mirror=True)
            yield Mirror(label, path, manifest, SAE_FILES["apollo's mirror"], copy, mirror_of=address)
        elif release.family in SAE_FILES:
            yield Item(label, path, manifest, SAE_FILES[release.family], address)
        else:
            yield Item(label, path, manifest, (path.name,), address, single=True)


class Mirror(Item):
    """A copy of one of Apollo's SAEs on the hub."""

    def ask(self) -> dict[str, RemoteFile]:
        """The mirror's files, at the commit that was its last when it was first asked for."""
        repository = "/".join(self.address.partition("://")[2].split("/")[:2])
        commit = self.manifest.read()["revisions"].get(repository, "main")
        files = files_at(at_commit(self.address, commit), self.names)
        self.manifest.add("revisions", {repository: next(iter(files.values())).revision})
        say(
            f"note: {self.label} comes from the mirror {self.address}, not from Apollo's own {self.mirror_of}; that "
            "both hold the same weights is not verified"
        )
        return files


# ---------------------------------------------------------------- GPT-2


class Gpt2(Item):
    """GPT-2 small in the hub's cache, where main.py looks for it.

    The hub's own download cannot be continued after a break.  So the weights are fetched
    here and laid where its cache keeps them, under their sha256; snapshot_download then
    finds them there and adds what is small.
    """

    def ask(self) -> dict[str, RemoteFile]:
        if (self.path / "blobs" / GPT2_SHA256).exists():
            return {}
        files = files_at(self.address, ("model.safetensors",))
        algorithm, found = files["model.safetensors"].digest
        if (algorithm, found) != ("sha256", GPT2_SHA256):
            raise UserError(
                f"{self.address} has other weights than GPT-2 small's: {algorithm} {found[:16]}, expected "
                f"{GPT2_SHA256[:16]}; name a checkpoint that you trust with ./run.sh --model"
            )
        return files

    def is_here(self) -> bool:
        return (self.path / "refs" / "main").exists() and super().is_here()

    def finish(self, records: dict[str, dict]) -> dict[Path, dict]:
        if records:
            (self.path / "blobs").mkdir(parents=True, exist_ok=True)
            os.replace(self.stage / "model.safetensors", self.path / "blobs" / GPT2_SHA256)
        shutil.rmtree(self.stage, ignore_errors=True)
        with errors_of(self.address):
            hub_utils.disable_progress_bars()
            commit = huggingface_hub.HfApi().resolve_revision(DEFAULT_MODEL, revision="main")
            folder = Path(huggingface_hub.snapshot_download(DEFAULT_MODEL, revision=commit, allow_patterns=GPT2_FILES))
        noted = {}
        for name, remote in files_at(at_commit(self.address, commit.resolved), GPT2_FILES).items():
            require_whole(remote, (folder / name).resolve())  # else the hub would link the same blob again
            noted[self.path / "snapshots" / folder.name / name] = record_of(
                folder / name, remote.address, remote.revision
            )
        return noted


# ---------------------------------------------------------------- RAVEL


class Ravel(Item):
    """RAVEL's city files, taken out of its archive."""

    def ask(self) -> dict[str, RemoteFile]:
        return files_at(RAVEL, ("data.tgz",))

    def missing(self, remotes: dict[str, RemoteFile]) -> dict[str, RemoteFile]:
        return remotes

    def finish(self, records: dict[str, dict]) -> dict[Path, dict]:
        """Raises UserError if the archive is damaged or has no city table."""
        [(archive, record)] = records.items()
        try:
            content = gzip.decompress((self.stage / archive).read_bytes())  # all of it, so its check sum counts
            with tarfile.open(fileobj=io.BytesIO(content)) as tar:
                members = {Path(member.name).name: member for member in tar if member.isfile()}
                names = [name for name in members if fnmatchcase(name, "ravel_city_*.json")]
                texts = {name: tar.extractfile(members[name]).read() for name in names}
        except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
            (self.stage / archive).unlink()
            raise UserError(
                f"{RAVEL} is no whole archive ({error}); it was removed, run the same command again"
            ) from None
        if RAVEL_CITIES not in texts:
            raise UserError(f"{RAVEL} holds no {RAVEL_CITIES}; its authors may have moved it, look for it by hand")
        for name, text in texts.items():
            (self.stage / name).write_bytes(text)
        about = (record["address"], record["revision"])
        records = {name: record_of(self.stage / name, *about) for name in texts}
        if (found := records[RAVEL_CITIES]["sha256"]) != RAVEL_SHA256:
            say(f"note: {RAVEL_CITIES} is another version than this was built with: sha256 {found[:16]}")
        return super().finish(records)
