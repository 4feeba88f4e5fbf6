"""Time the scoring of SAEs, by eval_sae.py's way and by a full forward pass per splice, side by side.

    python benchmarks/quality.py                    all 12 layers: a quarter of an hour or more
    python benchmarks/quality.py --layers 0 5 11    some minutes

GPT-2 small's shape with random weights, the paper's 80 prompts (40 cities, two facts),
an SAE of OpenAI's width (32,768 latents, TopK 32) and one of Bloom's (24,576, about 100
firing) at each layer, one CPU thread.  Both ways compute the same numbers, which are compared.

plain: for each SAE a forward pass of all prompts with it spliced in at the city's
position and one with it at all positions, by a forward hook; per layer likewise two with
zeros; once the model as it is.  The logits of the last position only, which is the plain
way's due.  Its SAE reads every vector of every prompt.
fast: what eval_sae.py does (quality/metrics.py), the harvest included.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import time

from fixtures import N_CITIES, build_subject, random_sae
from machine import machine

from common.command import peak_gb
from data.ravel_data_prep import ATTRIBUTES, Prompts
from imports import torch, transformers
from models import Subject
from quality.metrics import LayerQuality, answers, ce_loss_score, own_logits, reconstruction
from quality.names import PLACES
from saes.autoencoder import SparseAutoencoder

WIDTHS = {"openai": 32_768, "bloom": 24_576}


# ---------------------------------------------------------------- the plain way


class Plain:
    """Whole prompts through the whole model, once for each splice."""

    def __init__(self, subject: Subject, prompts: Prompts):
        self.subject = subject
        self.prompts = prompts
        self.at = -prompts.suffix
        self.own = {a: self._forward(a, 0, None)[1] for a in ATTRIBUTES}

    def _forward(self, attribute: str, layer: int, change):
        """(what `change` returned beside the new residuals, last logits [N, V])."""
        kept = []

        def hook(_module, _args, x_NLD):
            x_NLD, extra = change(x_NLD)
            kept.append(extra)
            return x_NLD

        handle = self.subject.blocks[layer].register_forward_hook(hook) if change else None
        with torch.no_grad():
            logits = self.subject.model(self.prompts.tokens[attribute], logits_to_keep=1).logits[:, -1]
        if handle:
            handle.remove()
        return kept, logits

    def _at(self, x_NLD, place: str):
        return x_NLD[:, self.at, None] if place == "city" else x_NLD

    def _into(self, x_NLD, new, place: str):
        if place == "all":
            return new
        x_NLD = x_NLD.clone()
        x_NLD[:, self.at] = new[:, 0]
        return x_NLD

    def zeros(self, attribute: str, layer: int, place: str) -> dict:
        def change(x_NLD):
            return self._into(x_NLD, torch.zeros_like(self._at(x_NLD, place)), place), None

        return self._answers(attribute, self._forward(attribute, layer, change)[1])

    def score(self, sae: SparseAutoencoder, attribute: str, layer: int, place: str, zeros: dict) -> dict:
        def change(x_NLD):
            x = self._at(x_NLD, place)
            latents, context = sae.encode(x)
            x_hat = sae.decode(latents, context)
            fires = latents > 0
            sparsity = float(fires.sum(-1).double().mean()), float((~fires.flatten(0, 1).any(0)).double().mean())
            return self._into(x_NLD, x_hat, place), (x.flatten(0, 1), x_hat.flatten(0, 1), sparsity)

        ((x, x_hat, (l0, dead_share)),), logits = self._forward(attribute, layer, change)
        own = self._answers(attribute, self.own[attribute])
        spliced = self._answers(attribute, logits)
        return {
            **reconstruction(x, x_hat),
            **{"l0": l0, "dead_share": dead_share, "accuracy": spliced["accuracy"], "kl_div": spliced["kl_div"]},
            "ce_loss_without_sae": own["ce_loss"],
            "ce_loss_with_sae": spliced["ce_loss"],
            "ce_loss_with_ablation": zeros["ce_loss"],
            "ce_loss_score": ce_loss_score(*(found["ce_loss"] for found in (own, spliced, zeros))),
        }

    def _answers(self, attribute: str, logits) -> dict[str, float]:
        found = answers(logits, self.prompts.labels[attribute], self.own[attribute])
        return {name: float(values.mean()) for name, values in found.items()}


# ---------------------------------------------------------------- both, layer by layer


def difference(fast: dict, plain: dict) -> float:
    """The largest between two sets of scores, relative where a score is above 1 (ce_loss_score: see the losses)."""
    found = [0.0]
    for place in PLACES:
        for name, value in plain[place].items():
            if name != "ce_loss_score":
                found.append(abs(fast[place][name] - value) / max(1.0, abs(value)))
    return max(found)


def measure(subject: Subject, prompts: Prompts, layers: list[int]) -> None:
    n = len(prompts)
    rows_of = {a: [prompts.row(a, i) for i in range(n)] for a in ATTRIBUTES}
    began = time.perf_counter()
    harvest = subject.harvest(prompts, layers, progress=False)
    own = {a: own_logits(subject, harvest, rows) for a, rows in rows_of.items()}
    harvested = time.perf_counter() - began
    began = time.perf_counter()
    plain = Plain(subject, prompts)
    fast_total, plain_total = harvested, time.perf_counter() - began
    print(f"once: harvest {harvested:.1f} s (fast), the model as it is {plain_total:.1f} s (plain)\n")
    print(" L  SAE       fast s   plain s   plain / fast   scores differ", flush=True)
    for layer in layers:
        began = time.perf_counter()
        at_layer = {
            a: LayerQuality(subject, harvest, layer, rows, prompts.labels[a], own[a]) for a, rows in rows_of.items()
        }
        fast_zeros = time.perf_counter() - began
        began = time.perf_counter()
        zeros = {(a, place): plain.zeros(a, layer, place) for a in ATTRIBUTES for place in PLACES}
        plain_zeros = time.perf_counter() - began
        fast_total, plain_total = fast_total + fast_zeros, plain_total + plain_zeros
        print(
            f"{layer:2}  zeros   {fast_zeros:8.2f}  {plain_zeros:8.1f}   {plain_zeros / fast_zeros:12.1f}", flush=True
        )
        for method in WIDTHS:
            sae = random_sae(method, WIDTHS[method], harvest.residuals[layer][:, 0], layer)
            began = time.perf_counter()
            fast = {a: at_layer[a].score(sae) for a in ATTRIBUTES}
            fast_seconds = time.perf_counter() - began
            began = time.perf_counter()
            slow = {
                a: {place: plain.score(sae, a, layer, place, zeros[a, place]) for place in PLACES} for a in ATTRIBUTES
            }
            plain_seconds = time.perf_counter() - began
            fast_total, plain_total = fast_total + fast_seconds, plain_total + plain_seconds
            differ = max(difference(fast[a], slow[a]) for a in ATTRIBUTES)
            ratio = plain_seconds / fast_seconds
            print(
                f"{layer:2}  {method:<8}{fast_seconds:8.2f}  {plain_seconds:8.1f}   {ratio:12.1f}         {differ:.1e}"
            )
            sys.stdout.flush()
    print(f"\nall of it: fast {fast_total:.1f} s, plain {plain_total:.1f} s, {plain_total / fast_total:.1f} times")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--layers", type=int, nargs="+", default=list(range(12)), choices=range(12), metavar="L")
    layers = sorted(set(parser.parse_args().layers))
    torch.set_num_threads(1)
    print(f"{datetime.date.today()}, {machine()}, 1 thread")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {N_CITIES} cities, random weights")
    measure(*build_subject(), layers)
    print(f"peak memory {peak_gb():.2f} GB (both ways in one process)")


if __name__ == "__main__":
    main()
