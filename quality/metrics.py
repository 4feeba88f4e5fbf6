"""How good an SAE is on the experiment's prompts: reconstruction, sparsity, and what splicing it in costs.

Names and definitions follow SAELens (sae_lens/evals.py) and SAEBench (its core
evaluation), on vectors x [N, d_model] of the raw residual and reconstructions x_hat:

    squared_error       mean over vectors of  |x - x_hat|^2  (the original experiment's 'loss')
    explained_variance  1 - mean |x - x_hat|^2 / mean |x - mean(x)|^2
    cosine              mean of  x . x_hat / (|x| |x_hat|)
    l0                  mean number of latents that fire: are not 0 (some of SAELens's are signed)
    dead_share          share of latents that fire on none of these vectors

With x_hat in the place of x, at the prompt's last position, where the answer is given:

    accuracy            share of prompts whose likeliest next token is the label
    ce_loss_with_sae    mean of  -ln p(label), in nats; ce_loss_without_sae: in the model as it is;
                        ce_loss_with_ablation: with 0 in the place of x
    ce_loss_score       (ablation - with_sae) / (ablation - without_sae): 1 nothing is lost, 0 as bad as zeros
    kl_div              mean of  KL(p_without || p_with), in nats

SAELens takes cross-entropy and KL over all positions of a text; here the answer is the
one position that asks for something.  The squared error and explained variance are in
the raw residual's space; for a centred SAE the error is the same in the centred one.
"""

from __future__ import annotations

from dataclasses import dataclass

from imports import functional, torch
from models import Harvest, Subject
from quality.names import PLACES
from saes.autoencoder import SparseAutoencoder

CHUNK = 64  # vectors encoded at once: all latents of all of them would be large
BATCH = 128  # prompts run at once
SMALLEST_COST = 1e-4  # nats that zeros must cost for a score: rounding of logits is some 1e-6


# ---------------------------------------------------------------- formulas


def reconstruction(x_ND, x_hat_ND, weight_N=None) -> dict[str, float]:
    """squared_error, explained_variance and cosine, computed in float64.

    weight_N: how often each vector occurs (once each by default).
    explained_variance is None where the vectors do not vary.
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
    """Per prompt: is it right, -ln p(label) and KL(without || with), [N] in float64.

    without_NV: logits of the model as it is.
    """
    log_p, log_without = (logits.double().log_softmax(-1) for logits in (logits_NV, without_NV))
    return {
        "accuracy": (logits_NV.argmax(-1) == labels_N).double(),
        "ce_loss": -log_p.gather(-1, labels_N[:, None])[:, 0],
        "kl_div": (log_without.exp() * (log_without - log_p)).sum(-1).clamp_min(0),  # below 0 is rounding
    }


def ce_loss_score(without: float, with_sae: float, with_ablation: float) -> float | None:
    """1 where the SAE costs nothing, 0 where it costs as much as zeros; None where zeros cost nothing."""
    cost = with_ablation - without
    return (with_ablation - with_sae) / cost if abs(cost) > SMALLEST_COST else None


# ---------------------------------------------------------------- one attribute at one layer


class LayerQuality:
    """Scores SAEs on the prompts of one attribute at one layer; what no SAE changes is computed once.

    What stands before the city is the same for all these prompts: its vectors are
    encoded once and count once for each prompt; spliced, they run through the later
    blocks once.  Only the last S positions differ by prompt (see models.py).
    """

    def __init__(self, subject: Subject, harvest: Harvest, layer: int, rows: list[int], labels_N, without_NV):
        """rows: prompt rows of the harvest behind one prefix; labels_N, without_NV: their labels and `own_logits`."""
        (prefix,) = {harvest.prefix_of[row] for row in rows}
        self.subject = subject
        self.layer = layer
        self.labels_N = labels_N
        self.without_NV = without_NV
        self.x_NSD = harvest.residuals[layer][rows]
        self.x_PD = harvest.prefix_residuals[layer][prefix]
        self.prefix = harvest.prefixes[prefix]
        self.as_it_is = _means(answers(without_NV, labels_N, without_NV))
        zeros = torch.zeros_like
        self.ablated = {
            "city": self._spliced_at_city(zeros(self.x_NSD[:, 0])),
            # The city is gone too, so all prompts are one.
            "all": self._answers(zeros(self.x_NSD[:1]), self.subject.prefix_after(self.layer, zeros(self.x_PD))),
        }

    def score(self, sae: SparseAutoencoder) -> dict[str, dict[str, float | None]]:
        """{place: {metric: value}}, the metrics as this file's first lines define them."""
        N, S, D = self.x_NSD.shape
        P = len(self.x_PD)
        city = encode(sae, self.x_NSD[:, 0])
        # Once each: the positions before the city, then those after it in every prompt.
        others = encode(sae, torch.cat([self.x_PD, self.x_NSD[:, 1:].reshape(-1, D)]))
        after_city = others.x_hat_ND[P:].view(N, S - 1, D)
        x_hat_NSD = torch.cat([city.x_hat_ND[:, None], after_city], dim=1)
        spliced = {
            "city": self._spliced_at_city(city.x_hat_ND),
            "all": self._answers(x_hat_NSD, self.subject.prefix_after(self.layer, others.x_hat_ND[:P])),
        }
        seen = {"city": (city, None), "all": (_joined(city, others), self._weights(N, S, P))}
        return {place: self._result(*seen[place], spliced[place], self.ablated[place]) for place in PLACES}

    def _weights(self, N: int, S: int, P: int):
        """[N + P + N (S - 1)]: how many prompts each encoded vector stands for."""
        return torch.cat([torch.ones(N), torch.full((P,), float(N)), torch.ones(N * (S - 1))])

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
        return self._answers(torch.cat([x_ND[:, None], self.x_NSD[:, 1:]], dim=1), self.prefix)

    def _answers(self, x_NSD, prefix) -> dict[str, float]:
        """Mean answers of the prompts with these residuals; of one row in the place of all, if there is one."""
        found = []
        for start in range(0, len(self.x_NSD), BATCH):
            chosen = slice(start, start + BATCH)
            if start == 0 or len(x_NSD) > 1:
                x_BSD = x_NSD[chosen]
                logits = self.subject.suffix_logits(x_BSD, self.layer, prefix)
            without = self.without_NV[chosen]
            found.append(answers(logits.expand(len(without), -1), self.labels_N[chosen], without))
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


def own_logits(subject: Subject, harvest: Harvest, rows: list[int]) -> torch.Tensor:
    """[N, vocabulary]: the model's own logits for the answers to these prompt rows, which stand behind one prefix."""
    layer = max(harvest.residuals)  # the fewer blocks are left to run
    prefix = harvest.prefixes[harvest.prefix_of[rows[0]]]
    with torch.no_grad():
        batches = harvest.residuals[layer][rows].split(BATCH)
        parts = [subject.suffix_logits(x_BSD, layer, prefix) for x_BSD in batches]
    return torch.cat(parts)
