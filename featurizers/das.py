"""Features along the axes of a trained rotation, all of them or the first few."""

from decoder.products import Product, form_for
from featurizers.base import BoundFeaturizer
from featurizers.directions import Directions
from featurizers.rotation import NormBound, SkewExp, keep_skew
from featurizers.skew import Blocks
from imports import functional, torch


def random_rotation(d_model: int, seed: int) -> torch.Tensor:
    """[d_model, d_model] float32, orthogonal, drawn evenly by the seed."""
    start = torch.empty(d_model, d_model, dtype=torch.float64)
    torch.nn.init.orthogonal_(start, generator=torch.Generator().manual_seed(seed))
    return start.float()


class TrainedDirections(Directions):
    """The first n_features columns of R = R0 expm(A), A skew-symmetric.

    R0 is a random orthogonal matrix drawn from the seed.  Of A a subclass says what its parameters are, which start
    at 0.
    """

    def __init__(self, d_model: int, n_features: int, seed: int, device: str = "cpu"):
        super().__init__(n_features)
        self.register_buffer("start", random_rotation(d_model, seed).to(device))  # R0
        self.norm_bound = NormBound(device)

    def skew(self) -> torch.Tensor:
        """A [d_model, d_model]."""
        raise NotImplementedError

    def exp(self) -> SkewExp:
        """expm(A), as what is applied to rows."""
        return SkewExp(self.skew(), self.norm_bound)

    def rotation(self) -> torch.Tensor:
        return (self.start @ torch.matrix_exp(self.skew()))[:, : self.n_features]

    def freeze(self, x_RD: torch.Tensor) -> BoundFeaturizer:
        turned = x_RD @ self.start
        turned_back = Product(form_for("fp32", x_RD.device.type)(self.start.T.contiguous()))
        n_left = len(self.start) - self.n_features

        def patch(base, source, mask):
            # Only the masked difference is ever rotated, and expm(A) is never formed.
            mask = functional.pad(mask, (0, n_left)) if n_left else mask
            masked = self.exp().masked(turned[source] - turned[base], mask)
            return x_RD[base] + turned_back(masked)

        return BoundFeaturizer(patch, None)

    def saved(self) -> dict[str, torch.Tensor]:
        with torch.no_grad():  # in float64: the saved rotation is orthogonal to fp32's last digits
            rotation_DD = self.start.cpu().double() @ torch.matrix_exp(self.skew().cpu().double())
            return {"rotation": rotation_DD[:, : self.n_features].float()}


class Das(TrainedDirections):
    """Distributed alignment search: features are x @ R with R orthogonal and trained, all d_model of them.

    R = R0 expm(A): the map of torch.nn.utils.parametrizations.orthogonal with matrix_exp and its trivialisation at R0
    (Lezcano-Casado 2019), whose parameter is the lower triangle of ours, which is all of A and stays skew
    (`rotation.keep_skew`).

    Geiger et al. 2023, "Finding Alignments Between Interpretable Causal Variables
    and Distributed Neural Representations".
    """

    def __init__(self, d_model: int, seed: int, device: str = "cpu"):
        super().__init__(d_model, d_model, seed, device)
        self.A = torch.nn.Parameter(torch.zeros(d_model, d_model, device=device))

    def skew(self) -> torch.Tensor:
        return keep_skew(self.A)

    def move_to(self, lower_DD: torch.Tensor) -> None:
        """Let A be the skew matrix with this lower triangle, whatever stands on its diagonal and above."""
        kept = lower_DD.tril(-1)
        with torch.no_grad():
            self.A.copy_(kept - kept.T)


class LowRankDas(TrainedDirections):
    """DAS of a given size: K orthonormal directions are trained, and all of them are patched.

    The patch depends on the subspace alone that they span.  With

        A = [[0, -B^T], [B, 0]],    B [d_model - K, K],

    the first K columns of R0 expm(A) span any subspace of K dimensions for some B: the curves s -> R0 expm(s A) are the
    geodesics of the Grassmann manifold (Edelman, Arias & Smith 1998, "The geometry of algorithms with orthogonality
    constraints", section 2.5).  So B has as many entries as there are degrees of freedom, K (d_model - K).
    """

    def __init__(self, d_model: int, size: int, seed: int, device: str = "cpu"):
        super().__init__(d_model, size, seed, device)
        self.B = torch.nn.Parameter(torch.zeros(d_model - size, size, device=device))

    def skew(self) -> torch.Tensor:
        below = functional.pad(self.B, (0, len(self.B), self.n_features, 0))  # B in its place, [d_model, d_model]
        return below - below.T

    def exp(self) -> SkewExp:
        return SkewExp(self.B, self.norm_bound, Blocks)
