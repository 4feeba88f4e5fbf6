"""What can be downloaded: SAEs, GPT-2 small, RAVEL's cities; where each lies and what it must hold.

What is pinned: Bloom's SAEs and RAVEL's archive to a commit; GPT-2's weights to their sha256, at
the commit of the branch main, as that is what main.py loads (607a30d from 2024 to 2026).  No
commit of the mirrors is known: it is asked for once, noted in the manifest and used from then
on.  Azure and wandb have no commits; an object of Azure is held to one etag.

Unverified, as no host could be reached where this was written: that the addresses still hold
these files, where in RAVEL's archive its files lie (so any folder will do), and that the mirrors
hold the very weights of the runs that they are named after.
"""

from __future__ import annotations

import functools
import gzip
import io
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from common.errors import UserError
from common.paths import HOME
from common.progress import say
from downloads.arguments import N_LAYERS, SOURCES, Wanted
from downloads.fetching import Item, Manifest, record_of, require_whole
from downloads.hosts import RemoteFile, at_commit, errors_of, look
from grid.profiles import DEFAULT_MODEL
from imports import hub_constants, hub_utils, huggingface_hub
from saes.places import locate
from saes.releases import RELEASES

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


def files_at(address: str, names: tuple[str, ...]) -> dict[str, RemoteFile]:
    """The files of these names (patterns) at an address.  Raises UserError if one is not there."""
    found = look(address)
    for name in names:
        if not any(fnmatchcase(file, name) for file in found):
            raise UserError(f"{address} has no {name}; its publisher may have moved it, look for it by hand")
    return {file: remote for file, remote in found.items() if any(fnmatchcase(file, name) for name in names)}


def items_of(word: str, wanted: Wanted) -> Iterator[Item]:
    """What a word of the command line asks for."""
    if word == "data":
        return ravel_items()
    return gpt2_items() if word == "model" else sae_items(SOURCES[word].releases, wanted)


# ---------------------------------------------------------------- SAEs


def sae_items(releases: tuple[str, ...], wanted: Wanted) -> Iterator[Item]:
    """These releases' SAEs.  Raises UserError for a layer that one of them lacks."""
    root = HOME / "saved_models" / "saes"
    manifest = Manifest(root, root / "manifest.json")
    for name in releases:
        for layer in _layers_of(name, wanted):
            mirror = wanted.mirror and bool(RELEASES[name].mirror)
            if mirror and any(locate(name, root, layer, N_LAYERS).glob("samples_*.pt")):
                say(f"note: {name} layer {layer}: Apollo's own run is here and goes before its mirror")
            else:
                yield _sae_item(name, layer, mirror, manifest)


def _layers_of(name: str, wanted: Wanted) -> list[int]:
    """Those asked for that there are.  Raises UserError for one that is not, but was asked for by name."""
    release = RELEASES[name]
    is_mirror = wanted.mirror and bool(release.mirror)
    has = release.mirrored if is_mirror else release.layers
    for layer in wanted.layers or ():
        if layer not in has and not wanted.everything:
            what = f"the mirror of {name}" if is_mirror else name
            raise UserError(
                f"{what} has no SAE at layer {layer} (it has {' '.join(map(str, has))}); leave it out of --layers"
            )
    lacking = [str(n) for n in release.layers if n not in has and (wanted.layers is None or n in wanted.layers)]
    if lacking:
        say(f"note: {name} has no mirror at layer {' '.join(lacking)}; that run is at wandb.ai alone")
    return [layer for layer in has if wanted.layers is None or layer in wanted.layers]


def _sae_item(name: str, layer: int, mirror: bool, manifest: Manifest) -> Item:
    release = RELEASES[name]
    label = f"{name} layer {layer}"
    path = locate(name, manifest.root, layer, N_LAYERS)
    address = release.address_of(layer, N_LAYERS)
    if mirror:
        copy = release.address_of(layer, N_LAYERS, mirror=True)
        names = SAE_FILES["apollo's mirror"]
        ask = functools.partial(_ask_mirror, copy, names, manifest, label, address)
        return Item(label, path, manifest, names, ask, mirror_of=address)
    if release.family in SAE_FILES:
        names = SAE_FILES[release.family]
        return Item(label, path, manifest, names, functools.partial(files_at, address, names))
    return Item(label, path, manifest, (path.name,), functools.partial(files_at, address, (path.name,)), single=True)


def _ask_mirror(copy: str, names: tuple[str, ...], manifest: Manifest, label: str, address: str) -> dict:
    """The mirror's files, at the commit that was its last when it was first asked for."""
    repository = "/".join(copy.partition("://")[2].split("/")[:2])
    commit = manifest.read()["revisions"].get(repository, "main")
    files = files_at(at_commit(copy, commit), names)
    manifest.add("revisions", {repository: next(iter(files.values())).revision})
    say(
        f"note: {label} comes from the mirror {copy}, not from Apollo's own {address}; that both hold the same "
        "weights is not verified"
    )
    return files


# ---------------------------------------------------------------- GPT-2


class Gpt2(Item):
    """GPT-2 small in the hub's cache, where main.py looks for it.

    The hub's own download cannot be continued after a break.  So the weights are fetched
    here and laid where its cache keeps them, under their sha256; snapshot_download then
    finds them there and adds what is small.
    """

    def is_here(self) -> bool:
        return (self.path / "refs" / "main").exists() and super().is_here()

    def finish(self, records: dict[str, dict]) -> dict[Path, dict]:
        if records:
            (self.path / "blobs").mkdir(parents=True, exist_ok=True)
            os.replace(self.stage / "model.safetensors", self.path / "blobs" / GPT2_SHA256)
        shutil.rmtree(self.stage, ignore_errors=True)
        address = f"hf://{DEFAULT_MODEL}"
        with errors_of(address):
            hub_utils.disable_progress_bars()
            commit = huggingface_hub.HfApi().resolve_revision(DEFAULT_MODEL, revision="main")
            folder = Path(huggingface_hub.snapshot_download(DEFAULT_MODEL, revision=commit, allow_patterns=GPT2_FILES))
        noted = {}
        for name, remote in files_at(at_commit(address, commit.resolved), GPT2_FILES).items():
            require_whole(remote, (folder / name).resolve())  # else the hub would link the same blob again
            noted[self.path / "snapshots" / folder.name / name] = record_of(
                folder / name, remote.address, remote.revision
            )
        return noted


def gpt2_items() -> Iterator[Item]:
    cache = Path(hub_constants.HF_HUB_CACHE)
    manifest = Manifest(cache, HOME / "saved_models" / "models.json")
    path = cache / f"models--{DEFAULT_MODEL.replace('/', '--')}"
    names = tuple(f"snapshots/*/{name}" for name in GPT2_FILES)
    yield Gpt2("GPT-2 small", path, manifest, names, functools.partial(_ask_weights, path / "blobs" / GPT2_SHA256))


def _ask_weights(blob: Path) -> dict[str, RemoteFile]:
    if blob.exists():
        return {}
    files = files_at(f"hf://{DEFAULT_MODEL}", ("model.safetensors",))
    algorithm, found = files["model.safetensors"].digest
    if (algorithm, found) != ("sha256", GPT2_SHA256):
        raise UserError(
            f"hf://{DEFAULT_MODEL} has other weights than GPT-2 small's: {algorithm} {found[:16]}, expected "
            f"{GPT2_SHA256[:16]}; name a checkpoint that you trust with ./run.sh --model"
        )
    return files


# ---------------------------------------------------------------- RAVEL


class Ravel(Item):
    """RAVEL's city files, taken out of its archive."""

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


def ravel_items() -> Iterator[Item]:
    path = HOME / "data" / "ravel"
    ask = functools.partial(files_at, RAVEL, ("data.tgz",))
    yield Ravel("RAVEL's cities", path, Manifest(path, path / "manifest.json"), (RAVEL_CITIES,), ask)
