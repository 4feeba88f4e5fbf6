"""What a bug report needs: versions, device, fingerprints of model and SAEs, and what was verified here."""

import os
import platform

from common.errors import UserError
from common.text import filled
from grid.devices import device_name
from grid.layers import model_info, saes_of
from grid.plan import plan
from grid.selfcheck import kept, table
from grid.settings import Settings
from imports import torch
from models import load_subject
from results.provenance import provenance
from results.store import Store
from saes.loading import family_named
from saes.releases import locate, release_named
from verify.check import Verified


def print_doctor(settings: Settings, store: Store) -> None:
    """Whatever can be told is told: what is missing or damaged is named in its place."""
    about = provenance(device_name(settings.device))
    _say("versions", ", ".join(f"{name} {version}" for name, version in about["versions"].items()))
    _say("commit", about["commit"] or "no git checkout")
    size = f"{os.cpu_count()} cores, {_gb(_memory())}, {torch.get_num_threads()} threads"
    _say("machine", f"{platform.platform()}, {size}")
    _say("device", _device(settings.device))
    try:
        _print_model(settings)
    except UserError as error:
        _say("model", str(error))
    found = kept(store)
    if found is None:
        _say("verified", "nothing yet; python main.py --verify does it")
        return
    key = found.pop("key")
    _say("verified", ", ".join(f"{name} {value}" for name, value in key.items() if name != "versions"))
    print(table(Verified.of_json(found)))


def _print_model(settings: Settings) -> None:
    """The model, and the SAEs that the command line asks for.  Raises UserError."""
    subject = load_subject(settings.place.path, settings.device, settings.dtype, settings.spread)
    size = f"{subject.n_layers} layers, d_model {subject.d_model}, {settings.dtype}, {subject.attention} attention"
    _say("model", f"{settings.model}, {subject.model.config.model_type}, {size}, digest {subject.digest()}")
    for release, layer in saes_of(plan(settings, model_info(settings))):
        path = locate(release, settings.saes, layer, subject.n_layers)
        digest = family_named(release_named(release).family).digest
        _say("SAE", f"{release} layer {layer}: " + (f"digest {digest(path)}" if path.exists() else f"not at {path}"))


def _say(what: str, text: str) -> None:
    print(filled(f"{what}: {text}"))


def _device(device: str) -> str:
    if device != "cuda":
        return device
    about = torch.cuda.get_device_properties(0)
    version = f"compute capability {about.major}.{about.minor}, CUDA {torch.version.cuda}"
    return f"{about.name}, {_gb(about.total_memory)}, {version}, {torch.cuda.device_count()} visible"


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _gb(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.0f} GB"
