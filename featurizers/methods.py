"""The registry of methods: ways to choose the features that a mask selects from.

The command line reads the methods' names here, so torch and the featurizers are
imported only when one is built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from saes.names import is_own
from saes.releases import RELEASES

if TYPE_CHECKING:
    from featurizers.base import Featurizer
    from imports import torch
    from saes.autoencoder import SparseAutoencoder


@dataclass(frozen=True)
class Ingredients:
    """What a method may build its featurizer from.

    x_RD: the vectors that it will patch; rotation_DD: one that was trained.
    """

    d_model: int
    seed: int
    device: str = "cpu"
    sae: SparseAutoencoder | None = None
    error_term: bool = False
    x_RD: torch.Tensor | None = None
    rotation_DD: torch.Tensor | None = None


def _neuron(need: Ingredients) -> Featurizer:
    from featurizers.neuron import Neuron

    return Neuron(need.d_model)


def _das(need: Ingredients) -> Featurizer:
    from featurizers.das import Das

    return Das(need.d_model, need.seed, need.device)


def _sae(need: Ingredients) -> Featurizer:
    from featurizers.sae import Sae

    return Sae(need.sae, need.error_term)


def _random_rotation(need: Ingredients) -> Featurizer:
    from featurizers.controls import FixedRotation
    from featurizers.das import random_rotation

    return FixedRotation(random_rotation(need.d_model, need.seed).to(need.device))


def _trained_rotation(need: Ingredients) -> Featurizer:
    from featurizers.controls import FixedRotation

    return FixedRotation(need.rotation_DD.to(need.device))


def _permuted_sae(need: Ingredients) -> Featurizer:
    from featurizers.controls import permutation
    from featurizers.sae import Sae

    return Sae(need.sae, need.error_term, permutation(need.sae.n_latents, need.seed))


def _random_sae(need: Ingredients) -> Featurizer:
    from featurizers.controls import random_sae
    from featurizers.sae import Sae

    return Sae(random_sae(need.sae, need.x_RD, Sae(need.sae).l0(need.x_RD), need.seed), need.error_term)


@dataclass(frozen=True)
class Method:
    """One way to choose features.

    build: makes its featurizer.
    release: which SAEs it needs, a name for saes.releases.release_named, if any.
    fixed_mask: the mask of a method that is not trained, 0 or 1; None if it is, or if its mask follows from another's.
    control, of: which control it is (see CONTROLS), and of which method.
    """

    build: Callable[[Ingredients], Featurizer]
    release: str | None = None
    fixed_mask: float | None = None
    control: str | None = None
    of: str | None = None


METHODS: dict[str, Method] = {
    "none": Method(_neuron, fixed_mask=0.0),  # nothing is patched
    "full": Method(_neuron, fixed_mask=1.0),  # the whole vector is
    "neuron": Method(_neuron),
    "das": Method(_das),
    **{release: Method(_sae, release=release) for release in RELEASES},
}
BASELINES = tuple(name for name, method in METHODS.items() if method.fixed_mask is not None)
# Of a method, METHOD:CONTROL is what its score would be by chance; featurizers/controls.py says how each is made.
CONTROLS = {
    "neuron": {"features": _neuron, "shuffled": _neuron},
    "das": {"random": _random_rotation, "features": _trained_rotation, "shuffled": _das},
    "sae": {"random": _random_sae, "permuted": _permuted_sae, "features": _sae, "shuffled": _sae},
}
# No chance: METHOD:original is an SAE of these families as the paper's code ran it, without our corrections (raw
# residual, decoder as stored).
ORIGINAL, CORRECTED = "original", ("apollo", "bloom")


def controls_of(name: str) -> list[str]:
    """The controls of a method by name; a baseline and a control have none."""
    method = method_named(name)
    if method.control or name in BASELINES:
        return []
    return [f"{name}:{control}" for control in CONTROLS["sae" if method.release else name]]


def originals_of(name: str) -> list[str]:
    """An SAE as the paper's code ran it, if that is not how it is run here."""
    is_corrected = name in RELEASES and RELEASES[name].family in CORRECTED
    return [f"{name}:{ORIGINAL}"] if is_corrected else []


def is_method(name: object) -> bool:
    """Whether something is the name of a method."""
    if not isinstance(name, str):
        return False
    base, colon, _ = name.rpartition(":")
    variants = [*controls_of(base), *originals_of(base)] if colon and base in METHODS else []
    return name in METHODS or is_own(name) or name in variants


def ordered(names: Iterable[str]) -> list[str]:
    """Methods, each once: the known ones in their order, then users' own SAEs by name; controls behind their method."""
    found, known = set(names), list(METHODS)

    def place(name: str) -> tuple:
        base = method_named(name).of or name
        return known.index(base) if base in METHODS else len(known), base, name != base, name

    return sorted(found, key=place)


def method_named(name: str) -> Method:
    """A method by its name; also of sae:FOLDER, a user's own SAE, and of METHOD:CONTROL."""
    if name in METHODS:
        return METHODS[name]
    base, _, control = name.rpartition(":")
    if base in METHODS or is_own(base):
        release = METHODS[base].release if base in METHODS else base
        builders = CONTROLS.get("sae" if release else base, {})
        if name in originals_of(base):
            builders = {ORIGINAL: _sae}
        if control in builders:
            return Method(builders[control], release, control=control, of=base)
    return Method(_sae, release=name)
