"""Features along orthonormal directions: one for every dimension, or fewer."""

from decoder.products import Product, form_for
from featurizers.base import BoundFeaturizer, Featurizer
from imports import torch


class Directions(Featurizer):
    """Features are x @ R, the columns of R orthonormal.  With n_features < d_model what lies outside them stays:

    x_base  <-  x_base + mask * ((x_source - x_base) @ R) @ R^T

    So a mask of 0 changes nothing, to the last bit, and a mask of 1 over d_model directions patches the whole vector.
    """

    def rotation(self) -> torch.Tensor:
        """R [d_model, n_features]."""
        raise NotImplementedError

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, tuple]:
        rotation = self.rotation()
        features = x @ rotation
        return features, (x, features, rotation)

    def decode(self, features: torch.Tensor, context: tuple) -> torch.Tensor:
        x, own, rotation = context
        return x + (features - own) @ rotation.T


class FixedDirections(Directions):
    """Directions [d_model, n_features] that are not trained by intervention."""

    def __init__(self, directions_DF: torch.Tensor):
        super().__init__(directions_DF.shape[1])
        self.register_buffer("directions", directions_DF)

    def rotation(self) -> torch.Tensor:
        return self.directions

    def freeze(self, x_RD: torch.Tensor) -> BoundFeaturizer:
        turned_RF = x_RD @ self.directions
        turned_back = Product(form_for("fp32", x_RD.device.type)(self.directions.T.contiguous()))

        def patch(base, source, mask):
            return x_RD[base] + turned_back(mask * (turned_RF[source] - turned_RF[base]))

        return BoundFeaturizer(patch, None, turned_RF)

    def saved(self) -> dict[str, torch.Tensor]:
        return {"rotation": self.directions}
