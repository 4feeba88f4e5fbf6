"""The features of a run: what its mask selects from, and which of them are patched where no mask is trained."""

from featurizers.base import Featurizer
from featurizers.builders import Ingredients
from featurizers.examples import Examples
from featurizers.linear import chosen_by_l1
from featurizers.methods import Method, method_named
from grid.inputs import Inputs
from grid.settings import Settings
from grid.spec import is_original
from imports import torch
from masks.training import fixed_theta
from results.run import Run
from saes.autoencoder import SparseAutoencoder


def build_featurizer(
    run: Run,
    inputs: Inputs,
    settings: Settings,
    rotation_DD: torch.Tensor | None = None,
    examples: Examples | None = None,
) -> tuple[Featurizer, SparseAutoencoder | None]:
    """The featurizer of a run's method at its layer, and the SAE in it, if any.

    rotation_DD: one that was trained, for methods which take another's; examples: for methods which use them.
    """
    method = method_named(run.method)
    sae = inputs.load_sae(method.release, run.layer, True if is_original(run) else None) if method.release else None
    x_RD = inputs.activations([run.layer]).residuals[run.layer][:, 0]
    d_model, device = inputs.subject.d_model, settings.device
    needs = Ingredients(d_model, run.seed, device, sae, settings.error_term, x_RD, rotation_DD, method.size, examples)
    return method.build(needs), sae


def theta_of_size(method: Method, featurizer: Featurizer, examples: Examples | None) -> torch.Tensor:
    """The fixed theta [n_features] of a method with a size: all its features, or those that a classifier chooses."""
    if not method.is_chosen:
        return fixed_theta(torch.ones(featurizer.n_features, dtype=torch.bool))
    with torch.no_grad():
        features_CF, _ = featurizer.encode(examples.source_CD)
    return fixed_theta(chosen_by_l1(features_CF, examples.class_C, method.size))
