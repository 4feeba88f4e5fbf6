"""Featurizers: the features that a mask selects from; and the registry of methods.

A featurizer turns the residual x at the city's position into features and back.
With the residuals of base and source and a mask m over features, the patch is

    x_base  <-  decode((1 - m) * encode(x_base) + m * encode(x_source))

Each featurizer says this twice: `patch`, the formula as it stands, on any
vectors; and `freeze`, the same on a fixed table of vectors with everything
computed once that does not depend on mask or rotation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from autoencoder import SparseAutoencoder
from imports import torch
from products import Layer, form_for
from rotation import Reach, Turn, kept_skew
from saelens import is_own
from saes import RELEASES

CHUNK = 64  # vectors encoded at once: all latents of all of them would be large


class Neuron:
    """The residual's own coordinates: encode and decode are the identity."""

    def __init__(self, d_model: int):
        self.n_features = d_model
        self.parameters: list[torch.Tensor] = []

    def encode(self, x):
        return x, None

    def decode(self, features, context):
        return features

    def patch(self, x_base, x_source, mask):
        """x_base, x_source [B, d_model], mask [n_features] -> the patched vectors [B, d_model]."""
        f_base, context = self.encode(x_base)
        f_source, _ = self.encode(x_source)
        return self.decode((1 - mask) * f_base + mask * f_source, context)

    def freeze(self, x_RD) -> Frozen:
        """Bind to a table of vectors [R, d_model]; the result patches rows of it."""

        def patch(base, source, mask):
            return x_RD[base] + mask * (x_RD[source] - x_RD[base])

        return Frozen(patch, None)

    def l0(self, x_RD) -> float | None:
        """Mean number of latents that fire on a vector; None where features are not sparse."""
        return None


class Das(Neuron):
    """Distributed alignment search: features are x @ R with R orthogonal and trained.

    R = R0 expm(A), A skew-symmetric: the map of torch.nn.utils.parametrizations.orthogonal
    with matrix_exp and its trivialisation at R0 (Lezcano-Casado 2019), whose parameter is
    the lower triangle of ours, which is all of A and stays skew (`rotation.kept_skew`).  R0
    is a random orthogonal matrix drawn from the seed, A starts at 0.

    Geiger et al. 2023, "Finding Alignments Between Interpretable Causal Variables
    and Distributed Neural Representations".
    """

    def __init__(self, d_model: int, seed: int, device: str = "cpu"):
        generator = torch.Generator().manual_seed(seed)
        start = torch.empty(d_model, d_model, dtype=torch.float64)
        torch.nn.init.orthogonal_(start, generator=generator)
        self.n_features = d_model
        self.start = start.float().to(device)  # R0
        self.A = torch.zeros(d_model, d_model, device=device, requires_grad=True)
        self.parameters = [self.A]
        self.reach = Reach(device)

    def skew(self):
        return kept_skew(self.A)

    def move_to(self, lower_DD):
        """Let A be the skew matrix with this lower triangle, whatever stands on its diagonal and above."""
        kept = lower_DD.tril(-1)
        with torch.no_grad():
            self.A.copy_(kept - kept.T)

    def rotation(self):
        """R [d_model, n_features]."""
        return self.start @ torch.matrix_exp(self.skew())

    def encode(self, x):
        rotation = self.rotation()
        return x @ rotation, rotation

    def decode(self, features, rotation):
        return features @ rotation.T

    def freeze(self, x_RD) -> Frozen:
        turned = x_RD @ self.start
        turned_back = Layer(form_for("fp32", x_RD.device.type)(self.start.T.contiguous()), None)

        def patch(base, source, mask):
            # Only the masked difference is ever rotated, and expm(A) is never formed.
            masked = Turn(self.skew(), self.reach).masked(turned[source] - turned[base], mask)
            return x_RD[base] + turned_back(masked)

        return Frozen(patch, None)

    def saved(self) -> dict[str, torch.Tensor]:
        """Tensors beside theta that the features depend on."""
        with torch.no_grad():  # in float64: the saved rotation is orthogonal to fp32's last digits
            return {"rotation": (self.start.cpu().double() @ torch.matrix_exp(self.A.cpu().double())).float()}


class Sae(Neuron):
    """The latents of a frozen SAE.

    The decoded vector replaces x_base, reconstruction error and all, as in the
    original experiment; with error_term the error of x_base is added back.
    """

    def __init__(self, sae: SparseAutoencoder, error_term: bool = False):
        self.sae = sae
        self.error_term = error_term
        self.n_features = sae.n_latents
        self.parameters = []

    def encode(self, x):
        latents, context = self.sae.encode(x)
        error = x - self.sae.decode(latents, context) if self.error_term else None
        return latents, (context, error)

    def decode(self, features, context):
        context, error = context
        x_hat = self.sae.decode(features, context)
        return x_hat if error is None else x_hat + error

    def l0(self, x_RD) -> float:
        with torch.no_grad():
            counts = [(self.sae.encode(chunk)[0] != 0).sum(-1) for chunk in x_RD.split(CHUNK)]
        return round(torch.cat(counts).cpu().double().mean().item(), 3)

    def freeze(self, x_RD) -> Frozen:
        """Keeps only the latents that fire on some vector of the table, and nothing of the SAE but their decoder rows.

        This is exact: a latent that never fires contributes nothing, its gradient
        is always 0, and Adam does not move from zero moments.
        """
        with torch.no_grad():
            alive, latents_RF = self._alive_latents(x_RD)
            _, context = self.sae.prepare(x_RD)
            matrix = form_for("fp32", x_RD.device.type)(self.sae.W_dec[alive].contiguous())
            decode = Layer(matrix, self.sae.b_dec.clone())
            errors = x_RD - context.restore(decode(latents_RF)) if self.error_term else None

        def patch(base, source, mask):  # refers to no SAE: the whole one can be let go
            f_base, f_source = latents_RF[base], latents_RF[source]
            x_hat = context.rows(base).restore(decode(f_base + mask * (f_source - f_base)))
            return x_hat if errors is None else x_hat + errors[base]

        return Frozen(patch, alive)

    def _alive_latents(self, x_RD):
        """Which latents fire on some vector [R, d_model], ascending, and their values [R, n_alive]."""
        found = []  # (latents, values) of each chunk: the latents that fire in it
        for chunk in x_RD.split(CHUNK):
            latents, _ = self.sae.encode(chunk)
            fires = (latents != 0).any(0).nonzero()[:, 0]
            found.append((fires, latents[:, fires]))
        alive = torch.cat([fires for fires, _ in found]).unique()
        latents_RF = x_RD.new_zeros(len(x_RD), len(alive))
        for rows, (fires, values) in zip(latents_RF.split(CHUNK), found, strict=True):
            rows[:, torch.searchsorted(alive, fires)] = values
        return alive, latents_RF


@dataclass
class Frozen:
    """A featurizer bound to a table of vectors.

    patch: function of base rows [B], source rows [B] and mask [n_active] -> [B, d_model].
    alive: which features those are, [n_active] int64; None for all.
    """

    patch: Callable
    alive: torch.Tensor | None

    def widen(self, values, n_features: int):
        """[n_active] -> [n_features], 0 for what is not alive (theta starts at 0 and stays there)."""
        if self.alive is None:
            return values
        return torch.zeros(n_features, dtype=values.dtype, device=values.device).scatter(0, self.alive, values)


# ---------------------------------------------------------------- the registry of methods


@dataclass(frozen=True)
class Ingredients:
    """What a method may build its featurizer from."""

    d_model: int
    seed: int
    device: str = "cpu"
    sae: SparseAutoencoder | None = None
    error_term: bool = False


@dataclass(frozen=True)
class Method:
    """One way to choose features.

    build: Ingredients -> featurizer.
    release: which SAEs it needs, a name for saes.release_named, if any.
    fixed_mask: the mask of a method that is not trained, 0 or 1; None if it is.
    """

    build: Callable[[Ingredients], Neuron]
    release: str | None = None
    fixed_mask: float | None = None


def _build_sae(need: Ingredients) -> Sae:
    return Sae(need.sae, need.error_term)


METHODS: dict[str, Method] = {
    "none": Method(lambda need: Neuron(need.d_model), fixed_mask=0.0),  # nothing is patched
    "full": Method(lambda need: Neuron(need.d_model), fixed_mask=1.0),  # the whole vector is
    "neuron": Method(lambda need: Neuron(need.d_model)),
    "das": Method(lambda need: Das(need.d_model, need.seed, need.device)),
    **{release: Method(_build_sae, release=release) for release in RELEASES},
}


def method_named(name: str) -> Method:
    """A method by its name; also of sae:FOLDER, a user's own SAE."""
    return Method(_build_sae, release=name) if is_own(name) else METHODS[name]
