"""The self-check of a grid: done once for a model, a device and this code, kept in OUTPUT/MODEL/verified.json."""

import contextlib
import hashlib
import json
import sys

from common.errors import UserError
from common.files import write_json
from common.paths import HOME
from common.text import filled
from grid.devices import device_name
from grid.inputs import Inputs, read_inputs, set_up
from grid.settings import Settings
from results.provenance import versions
from results.shapes import fault, is_a, is_amount, number
from results.store import Store
from verify.check import CHECKS, Verified, self_check
from verify.sample import Sample

COMPUTES = ("decoder", "featurizers", "masks", "models.py", "verify")  # what a change in would void a self-check
WHATS = [what for check in CHECKS for what in check.whats]


def is_figures(value) -> bool:
    return isinstance(value, dict) and all(what in WHATS and is_amount(its) for what, its in value.items())


SHAPE = {
    "key": is_a(dict),
    "figures": is_figures,
    "limits": is_figures,
    "layers": [number(0, 999, int)],
    "ways": {"packed": is_a(bool), "graphed": is_a(bool), "joint": is_a(bool)},
    "seconds": is_amount,
}


def verified(settings: Settings, inputs: Inputs, store: Store, device: str) -> Verified | None:
    """What the self-check says: as kept, or measured now; None for a model of one layer, where nothing is trained.

    device: its name.  Nothing is written: see `keep`.  Raises UserError as `verify.check.self_check` does.
    """
    if inputs.subject.n_layers < 2:
        return None
    before = kept(store)
    if before is not None and before.pop("key") == _key(settings, inputs, device):
        return Verified.of_json(before)
    found = measured(settings, inputs)
    print(filled(in_words(found)), file=sys.stderr)
    return found


def measured(settings: Settings, inputs: Inputs) -> Verified:
    return self_check(Sample.of(inputs.subject, inputs.prompts, settings.engine, settings.precision))


def print_verified(settings: Settings, store: Store) -> None:
    """Do the self-check anew, keep it and print it.  Raises UserError if it fails."""
    device = device_name(settings.device)
    set_up(settings)
    inputs = read_inputs(settings, [])
    if inputs.subject.n_layers < 2:
        raise UserError(f"{settings.model} has one layer: nothing can be trained after it, so nothing is verified")
    found = measured(settings, inputs)
    store.prepare()
    keep(found, settings, inputs, store, device)
    how = f"{settings.dtype}, {inputs.subject.attention} attention, {settings.engine} engine, {settings.precision}"
    print(f"{settings.model} on {device}: {how}")
    print(table(found))


def keep(found: Verified, settings: Settings, inputs: Inputs, store: Store, device: str) -> None:
    write_json(_path(store), {"key": _key(settings, inputs, device), **found.as_json()})


def in_words(found: Verified) -> str:
    worst = max(found.figures, key=lambda what: found.figures[what] / found.limits[what])
    layers = " ".join(map(str, found.layers))
    nearest = f"{worst}, {found.figures[worst]:.1e} of {found.limits[worst]:.0e}"
    return f"self-check passed at layers {layers}; nearest its limit: {nearest} ({found.seconds} s)"


def table(found: Verified) -> str:
    """What was compared with what, how far apart it is and may be."""
    compared = {what: check.compared for check in CHECKS for what in check.whats if what in found.figures}
    rows = [f"{what:<21}{found.figures[what]:8.1e} {found.limits[what]:7.0e}  {compared[what]}" for what in compared]
    left_out = [way for way, used in vars(found.ways).items() if not used]
    return "\n".join(
        [
            f"layers {' '.join(map(str, found.layers))}, {found.seconds} s",
            "compared              differs at most  with",
            *rows,
            f"left out: {', '.join(left_out) or 'nothing'}",
        ]
    )


def _key(settings: Settings, inputs: Inputs, device: str) -> dict:
    """All that a self-check depends on."""
    subject = inputs.subject
    return {
        "model": inputs.model_digest,
        "prompts": inputs.prompts.digest(),
        "device": device,
        "attention": subject.attention,
        **{name: getattr(settings, name) for name in ("dtype", "engine", "precision", "spread")},
        "versions": versions(),
        "code": _code_digest(),
    }


def _code_digest() -> str:
    """A fingerprint of the files that compute."""
    total = hashlib.sha256()
    for name in COMPUTES:
        for path in sorted((HOME / name).rglob("*.py") if (HOME / name).is_dir() else [HOME / name]):
            total.update(path.read_bytes())
    return total.hexdigest()[:16]


def kept(store: Store) -> dict | None:
    """What an earlier self-check left, if that is sound."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        content = json.loads(_path(store).read_text(encoding="utf-8"))
        if fault(content, SHAPE) is None:
            return content
    return None


def _path(store: Store):
    return store.root / "verified.json"
