"""What builds a method's featurizer; torch and the featurizers are imported only when one is built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featurizers.base import Featurizer
    from featurizers.examples import Examples
    from imports import torch
    from saes.autoencoder import SparseAutoencoder


@dataclass(frozen=True)
class Ingredients:
    """What a method may build its featurizer from.

    x_RD: the vectors that it will patch; rotation_DD: one that was trained; size: of a subspace; examples: the vectors
    of the training pairs.
    """

    d_model: int
    seed: int
    device: str = "cpu"
    sae: SparseAutoencoder | None = None
    error_term: bool = False
    x_RD: torch.Tensor | None = None
    rotation_DD: torch.Tensor | None = None
    size: int | None = None
    examples: Examples | None = None


def neuron(need: Ingredients) -> Featurizer:
    from featurizers.neuron import Neuron

    return Neuron(need.d_model)


def das(need: Ingredients) -> Featurizer:
    from featurizers.das import Das

    return Das(need.d_model, need.seed, need.device)


def low_rank_das(need: Ingredients) -> Featurizer:
    from featurizers.das import LowRankDas

    return LowRankDas(need.d_model, need.size, need.seed, need.device)


def pca(need: Ingredients) -> Featurizer:
    from featurizers.directions import FixedDirections
    from featurizers.linear import principal_directions

    return FixedDirections(principal_directions(need.examples.x_ND).to(need.device))


def probe(need: Ingredients) -> Featurizer:
    from featurizers.directions import FixedDirections
    from featurizers.linear import probe_directions

    examples = need.examples
    return FixedDirections(probe_directions(examples.source_CD, examples.class_C, need.size).to(need.device))


def sae(need: Ingredients) -> Featurizer:
    from featurizers.sae import Sae

    return Sae(need.sae, need.error_term)


# ---------------------------------------------------------------- controls


def random_rotation(need: Ingredients) -> Featurizer:
    """Of `size` dimensions the first ones, with which DAS of that size and seed begins."""
    from featurizers.das import random_rotation
    from featurizers.directions import FixedDirections

    rotation_DD = random_rotation(need.d_model, need.seed).to(need.device)
    return FixedDirections(rotation_DD[:, : need.size].contiguous())


def trained_rotation(need: Ingredients) -> Featurizer:
    from featurizers.directions import FixedDirections

    return FixedDirections(need.rotation_DD.to(need.device))


def permuted_sae(need: Ingredients) -> Featurizer:
    from featurizers.controls import permutation
    from featurizers.sae import Sae

    return Sae(need.sae, need.error_term, permutation(need.sae.n_latents, need.seed))


def random_sae(need: Ingredients) -> Featurizer:
    from featurizers.controls import random_sae
    from featurizers.sae import Sae

    return Sae(random_sae(need.sae, need.x_RD, Sae(need.sae).l0(need.x_RD), need.seed), need.error_term)
