"""Features that are the residual's own coordinates."""

from featurizers.base import BoundFeaturizer, Featurizer
from imports import torch


class Neuron(Featurizer):
    """The residual's own coordinates: encode and decode are the identity."""

    def __init__(self, d_model: int):
        super().__init__(d_model)

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        return x, None

    def decode(self, features: torch.Tensor, context: None) -> torch.Tensor:
        return features

    def freeze(self, x_RD: torch.Tensor) -> BoundFeaturizer:
        def patch(base, source, mask):
            return x_RD[base] + mask * (x_RD[source] - x_RD[base])

        return BoundFeaturizer(patch, None, x_RD)
