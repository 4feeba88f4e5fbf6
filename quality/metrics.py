"""How good an SAE is on the experiment's prompts: reconstruction, sparsity, and what splicing it in costs.

docs/quality.md defines every metric; names and definitions follow SAELens (sae_lens/evals.py)
and, but for explained_variance, SAEBench.  x [N, d_model] are vectors of the raw residual,
x_hat their reconstructions; "spliced" is x_hat in the place of x, with the answer read at
the prompt's last position.
"""

from __future__ import annotations

from dataclasses import dataclass

from decoder.activations import ActivationCache
from decoder.layers import PADDING
from imports import functional, torch
from models import Behind, Subject
from quality.names import PLACES
from saes.autoencoder import SparseAutoencoder

CHUNK = 64  # vectors encoded at once: all latents of all of them would be large
BATCH = 128  # prompts run at once
SMALLEST_COST = 1e-4  # nats that zeros must cost for a score: rounding of logits is some 1e-6


# ---------------------------------------------------------------- formulas


def reconstruction(x_ND, x_hat_ND, weight_N=None) -> dict[str, float]:
    """Means over vectors, computed in float64; weight_N: how often each vector occurs (once each by default).

    squared_error       mean |x - x_hat|^2, the original experiment's 'loss'; for a centred SAE it is the
                        same in the centred space
    explained_variance  1 - mean |x - x_hat|^2 / mean |x - mean(x)|^2; None where the vectors do not vary
    cosine              mean x . x_hat / (|x| |x_hat|)
    """
    x, x_hat = x_ND.double(), x_hat_ND.double()
    weight = torch.ones_like(x[:, 0]) if weight_N is None else weight_N.to(x)
    share = (weight / weight.sum())[:, None]
    error = float((share * (x - x_hat).square()).sum())
    variance = float((share * (x - (share * x).sum(0)).square()).sum())
    cosine = functional.cosine_similarity(x, x_hat, dim=-1)
    return {
        "squared_error": error,
        "explained_variance": 1 - error / variance if variance > 0 else None,
        "cosine": float((share[:, 0] * cosine).sum()),
    }


def answers(logits_NV, labels_N, without_NV) -> dict[str, torch.Tensor]:
    """Compute per prompt whether the label is likeliest, -ln p(label) and KL(without || with): [N] in float64.

    without_NV: logits of the model as it is.
    """
    log_p, log_without = (logits.double().log_softmax(-1) for logits in (logits_NV, without_NV))
    return {
        "accuracy": (logits_NV.argmax(-1) == labels_N).double(),
        "ce_loss": -log_p.gather(-1, labels_N[:, None])[:, 0],
        "kl_div": (log_without.exp() * (log_without - log_p)).sum(-1).clamp_min(0),  # below 0 is rounding
    }


def ce_loss_score(without: float, with_sae: float, with_ablation: float) -> float | None:
    """Return 1 where the SAE costs nothing, 0 where it costs as much as zeros; None where zeros cost nothing."""
    cost = with_ablation - without
    return (with_ablation - with_sae) / cost if abs(cost) > SMALLEST_COST else None


# ---------------------------------------------------------------- one attribute at one layer


class LayerQuality:
    """Score SAEs on the prompts of one attribute at one layer; what no SAE changes is computed once.

    The prefix is the same for all these prompts: its vectors are encoded once and count once for each
    prompt; spliced, they run through the later layers once.
    """

    def __init__(self, subject: Subject, cache: ActivationCache, layer: int, rows: list[int], labels_N, without_NV):
        """rows: prompts about one attribute; labels_N, without_NV: their labels and `own_logits`."""
        self.subject, self.layer = subject, layer
        self.labels_N, self.without_NV = labels_N, without_NV
        self.rows_N = torch.tensor(rows, device=subject.device)
        self.at_layer = subject.layer_cache(cache, layer)
        prefix = cache.prefixes[int(cache.prefix_of_R[rows[0]])]
        self.x_PD = prefix.residuals[layer]
        positions = torch.cat([cache.own_positions_RO, cache.positions_RS], dim=1)
        self.positions_NT = positions[self.rows_N]  # of the own tokens and the suffix
        own_NOD = cache.own_residuals[layer][cache.own_index_RO[self.rows_N]]
        self.at = own_NOD.shape[1]  # where the patched position is among these
        self.x_NTD = torch.cat([own_NOD, cache.residuals[layer][self.rows_N]], dim=1)
        self.end_N = self.at + cache.end_R[self.rows_N]
        self.as_it_is = _means(answers(without_NV, labels_N, without_NV))
        zeros = torch.zeros_like
        self.ablated = {
            "city": self._spliced_at_city(zeros(self.x_NTD[:, 0])),
            "all": self._spliced_everywhere(zeros(self.x_PD), zeros(self.x_NTD)),
        }

    def score(self, sae: SparseAutoencoder) -> dict[str, dict[str, float | None]]:
        """{place: {metric: value}}, the metrics as docs/quality.md defines them."""
        P, is_there = len(self.x_PD), self.positions_NT != PADDING
        is_city = torch.zeros_like(is_there)
        is_city[:, self.at] = True
        city = encode(sae, self.x_NTD[:, self.at])
        # Once each: the prefix, then every prompt's other positions.
        others = encode(sae, torch.cat([self.x_PD, self.x_NTD[is_there & ~is_city]]))
        x_hat_NTD = torch.zeros_like(self.x_NTD)
        x_hat_NTD[is_city] = city.x_hat_ND
        x_hat_NTD[is_there & ~is_city] = others.x_hat_ND[P:]
        spliced = {
            "city": self._spliced_at_city(city.x_hat_ND),
            "all": self._spliced_everywhere(others.x_hat_ND[:P], x_hat_NTD),
        }
        N, rest = len(self.rows_N), len(others.x_ND) - P
        weight = torch.cat([torch.ones(N), torch.full((P,), float(N)), torch.ones(rest)])
        seen = {"city": (city, None), "all": (_joined(city, others), weight)}
        return {place: self._result(*seen[place], spliced[place], self.ablated[place]) for place in PLACES}

    def _result(self, seen: Encoded, weight, spliced: dict, ablated: dict) -> dict[str, float | None]:
        weight = (torch.ones(len(seen.x_ND)) if weight is None else weight).double()
        share = (weight / weight.sum()).to(seen.l0_N.device)
        without, with_sae, with_ablation = (a["ce_loss"] for a in (self.as_it_is, spliced, ablated))
        return {
            **reconstruction(seen.x_ND, seen.x_hat_ND, weight),
            "l0": float((share * seen.l0_N).sum()),
            "dead_share": float((~seen.fires_F).double().mean()),
            "accuracy": spliced["accuracy"],
            "ce_loss_without_sae": without,
            "ce_loss_with_sae": with_sae,
            "ce_loss_with_ablation": with_ablation,
            "ce_loss_score": ce_loss_score(without, with_sae, with_ablation),
            "kl_div": spliced["kl_div"],
        }

    def _spliced_at_city(self, x_ND) -> dict[str, float]:
        """Average the answers with these vectors at the patched position."""
        return self._answers(lambda part: self.at_layer.run(x_ND[part], self.rows_N[part]))

    def _spliced_everywhere(self, x_PD, x_NTD) -> dict[str, float]:
        """Average the answers with these residuals at all positions: the prefix's, and every prompt's others."""
        kept: list = []
        subject, P = self.subject, len(x_PD)
        positions_1P = torch.arange(P, device=x_PD.device)[None]
        if P:
            with torch.no_grad():
                subject.run_from(self.layer, x_PD[None], positions_1P, Behind.nothing(positions_1P), kept)

        def run(part):
            n = len(self.rows_N[part])
            behind = Behind(
                positions_1P.expand(n, -1),
                lambda i: tuple(t.expand(n, -1, -1, -1) for t in kept[i - self.layer - 1]),
            )
            x_BTD = subject.run_from(self.layer, x_NTD[part], self.positions_NT[part], behind)
            return x_BTD[torch.arange(n, device=x_BTD.device), self.end_N[part]]

        return self._answers(run)

    def _answers(self, run) -> dict[str, float]:
        """Average the answers; run: slice of the prompts -> residuals [B, d_model] after the last layer."""
        found = []
        for start in range(0, len(self.rows_N), BATCH):
            part = slice(start, start + BATCH)
            with torch.no_grad():
                logits = self.subject.logits(run(part))
            found.append(answers(logits, self.labels_N[part], self.without_NV[part]))
        return _means({name: torch.cat([part[name] for part in found]) for name in found[0]})


@dataclass
class Encoded:
    """Vectors x [N, d_model] and what an SAE makes of them."""

    x_ND: torch.Tensor
    x_hat_ND: torch.Tensor
    l0_N: torch.Tensor  # latents that are not 0
    fires_F: torch.Tensor  # [n_latents] bool: on any of them


def encode(sae: SparseAutoencoder, x_ND) -> Encoded:
    """Run an SAE on vectors of the raw residual, a chunk at a time."""
    fires = torch.zeros(sae.n_latents, dtype=torch.bool, device=x_ND.device)
    x_hat, l0 = [], []
    for chunk in x_ND.split(CHUNK):
        latents, context = sae.encode(chunk)
        firing = latents != 0
        l0.append(firing.sum(-1))
        on = firing.any(0)
        # Few latents fire on a chunk, and the others add nothing: decoding from those is several times cheaper.
        x_hat.append(sae.finish(latents[:, on] @ sae.W_dec[on], context))
        fires |= on
    return Encoded(x_ND, torch.cat(x_hat), torch.cat(l0), fires)


def _joined(a: Encoded, b: Encoded) -> Encoded:
    both = (torch.cat([getattr(a, name), getattr(b, name)]) for name in ("x_ND", "x_hat_ND", "l0_N"))
    return Encoded(*both, a.fires_F | b.fires_F)


def _means(per_prompt: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: float(values.mean()) for name, values in per_prompt.items()}


def own_logits(subject: Subject, cache: ActivationCache, rows: list[int]) -> torch.Tensor:
    """Compute the unpatched model's logits [N, vocabulary] at the last position of these prompts."""
    at_layer = subject.layer_cache(cache, max(cache.residuals))  # the fewer layers are left to run
    with torch.no_grad():
        batches = torch.tensor(rows, device=subject.device).split(BATCH)
        parts = [subject.logits(at_layer.run(at_layer.residuals[batch, 0], batch)) for batch in batches]
    return torch.cat(parts)
