"""The registry of methods: ways to choose the features that a mask selects from.

The command line reads the methods' names here, so torch and the featurizers are
imported only when one is built.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from saes.names import is_own
from saes.releases import RELEASES

if TYPE_CHECKING:
    from featurizers.base import Featurizer
    from saes.autoencoder import SparseAutoencoder


@dataclass(frozen=True)
class Ingredients:
    """What a method may build its featurizer from."""

    d_model: int
    seed: int
    device: str = "cpu"
    sae: SparseAutoencoder | None = None
    error_term: bool = False


def _neuron(need: Ingredients) -> Featurizer:
    from featurizers.neuron import Neuron

    return Neuron(need.d_model)


def _das(need: Ingredients) -> Featurizer:
    from featurizers.das import Das

    return Das(need.d_model, need.seed, need.device)


def _sae(need: Ingredients) -> Featurizer:
    from featurizers.sae import Sae

    return Sae(need.sae, need.error_term)


@dataclass(frozen=True)
class Method:
    """One way to choose features.

    build: makes its featurizer.
    release: which SAEs it needs, a name for saes.places.release_named, if any.
    fixed_mask: the mask of a method that is not trained, 0 or 1; None if it is.
    """

    build: Callable[[Ingredients], Featurizer]
    release: str | None = None
    fixed_mask: float | None = None


METHODS: dict[str, Method] = {
    "none": Method(_neuron, fixed_mask=0.0),  # nothing is patched
    "full": Method(_neuron, fixed_mask=1.0),  # the whole vector is
    "neuron": Method(_neuron),
    "das": Method(_das),
    **{release: Method(_sae, release=release) for release in RELEASES},
}
BASELINES = tuple(name for name, method in METHODS.items() if method.fixed_mask is not None)


def method_named(name: str) -> Method:
    """A method by its name; also of sae:FOLDER, a user's own SAE."""
    return Method(_sae, release=name) if is_own(name) else METHODS[name]
