"""Features along the axes of a trained rotation."""

from decoder.products import Product, form_for
from featurizers.base import BoundFeaturizer, Featurizer
from featurizers.rotation import NormBound, SkewExp, keep_skew
from imports import torch


def random_rotation(d_model: int, seed: int) -> torch.Tensor:
    """[d_model, d_model] float32, orthogonal, drawn evenly by the seed."""
    start = torch.empty(d_model, d_model, dtype=torch.float64)
    torch.nn.init.orthogonal_(start, generator=torch.Generator().manual_seed(seed))
    return start.float()


class Das(Featurizer):
    """Distributed alignment search: features are x @ R with R orthogonal and trained.

    R = R0 expm(A), A skew-symmetric: the map of torch.nn.utils.parametrizations.orthogonal
    with matrix_exp and its trivialisation at R0 (Lezcano-Casado 2019), whose parameter is
    the lower triangle of ours, which is all of A and stays skew (`rotation.keep_skew`).  R0
    is a random orthogonal matrix drawn from the seed, A starts at 0.

    Geiger et al. 2023, "Finding Alignments Between Interpretable Causal Variables
    and Distributed Neural Representations".
    """

    def __init__(self, d_model: int, seed: int, device: str = "cpu"):
        super().__init__(d_model)
        self.register_buffer("start", random_rotation(d_model, seed).to(device))  # R0
        self.A = torch.nn.Parameter(torch.zeros(d_model, d_model, device=device))
        self.norm_bound = NormBound(device)

    def skew(self) -> torch.Tensor:
        return keep_skew(self.A)

    def move_to(self, lower_DD: torch.Tensor) -> None:
        """Let A be the skew matrix with this lower triangle, whatever stands on its diagonal and above."""
        kept = lower_DD.tril(-1)
        with torch.no_grad():
            self.A.copy_(kept - kept.T)

    def rotation(self) -> torch.Tensor:
        """R [d_model, n_features]."""
        return self.start @ torch.matrix_exp(self.skew())

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rotation = self.rotation()
        return x @ rotation, rotation

    def decode(self, features: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
        return features @ rotation.T

    def freeze(self, x_RD: torch.Tensor) -> BoundFeaturizer:
        turned = x_RD @ self.start
        turned_back = Product(form_for("fp32", x_RD.device.type)(self.start.T.contiguous()))

        def patch(base, source, mask):
            # Only the masked difference is ever rotated, and expm(A) is never formed.
            masked = SkewExp(self.skew(), self.norm_bound).masked(turned[source] - turned[base], mask)
            return x_RD[base] + turned_back(masked)

        return BoundFeaturizer(patch, None)

    def saved(self) -> dict[str, torch.Tensor]:
        """Tensors beside theta that the features depend on."""
        with torch.no_grad():  # in float64: the saved rotation is orthogonal to fp32's last digits
            return {"rotation": (self.start.cpu().double() @ torch.matrix_exp(self.A.cpu().double())).float()}
