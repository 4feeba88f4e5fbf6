"""A featurizer turns the residual x at the city's position into features and back.

With the residuals of base and source and a mask m over features, the patch is

    x_base  <-  decode((1 - m) * encode(x_base) + m * encode(x_source))

Each featurizer says this twice: `patch`, the formula as it stands, on any
vectors; and `freeze`, the same on a fixed table of vectors with everything
computed once that does not depend on mask or rotation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from imports import torch


class Featurizer(torch.nn.Module):
    """encode, decode, and the patch made of both.  n_features: of a vector; `parameters()` are trained beside theta."""

    def __init__(self, n_features: int):
        super().__init__()
        self.n_features = n_features

    @property
    def is_trained(self) -> bool:
        return any(True for _ in self.parameters())

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """x [..., d_model] -> features [..., n_features], and what decode needs to undo it."""
        raise NotImplementedError

    def decode(self, features: torch.Tensor, context: Any) -> torch.Tensor:
        """features [..., n_features] -> [..., d_model]; context: that of the vector which the result replaces."""
        raise NotImplementedError

    def patch(self, x_base: torch.Tensor, x_source: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """x_base, x_source [B, d_model], mask [n_features] -> the patched vectors [B, d_model]."""
        f_base, context = self.encode(x_base)
        f_source, _ = self.encode(x_source)
        return self.decode((1 - mask) * f_base + mask * f_source, context)

    def freeze(self, x_RD: torch.Tensor) -> BoundFeaturizer:
        """Bind to a table of vectors [R, d_model]; the result patches rows of it."""
        raise NotImplementedError

    def saved(self) -> dict[str, torch.Tensor]:
        """Tensors that a result keeps beside theta, on which the features depend."""
        return {}

    def l0(self, x_RD: torch.Tensor) -> float | None:
        """Mean number of latents that fire on a vector; None where features are not sparse."""
        return None


@dataclass
class BoundFeaturizer:
    """A featurizer bound to a table of vectors.

    patch: function of base rows [B], source rows [B] and mask, [n_active] or a row for each pair [B, n_active]
    (without a trained rotation) -> [B, d_model].
    alive: which features those are, [n_active] int64; None for all.
    features_RF: the features of the table [R, n_active]; None where a rotation is trained.
    """

    patch: Callable
    alive: torch.Tensor | None
    features_RF: torch.Tensor | None = None

    def widen(self, values: torch.Tensor, n_features: int) -> torch.Tensor:
        """[n_active] -> [n_features], 0 for what is not alive (theta starts at 0 and stays there)."""
        if self.alive is None:
            return values
        return torch.zeros(n_features, dtype=values.dtype, device=values.device).scatter(0, self.alive, values)
