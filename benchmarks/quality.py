"""Time the scoring of SAEs, by eval_sae.py's way and by a full forward pass per splice, side by side.

    python benchmarks/quality.py --layers 0 5 11    some minutes; all 12 without

GPT-2 small's shape with random weights, the paper's 80 prompts, an SAE of OpenAI's width (32,768 latents, TopK 32)
and one of Bloom's (24,576, about 100 firing) at each layer, one thread.  Both compute the same, and it is compared.

plain  a forward pass of all prompts with an SAE spliced in at the city's position and one at all positions, by a
       forward hook; per layer likewise two with zeros; the last position's logits only
fast   what eval_sae.py does (quality/metrics.py)
"""

from __future__ import annotations

import argparse

from fixtures import build_subject, random_sae
from turns import one_thread, timed

from common.command import peak_gb
from data.names import ATTRIBUTES
from imports import torch
from quality.metrics import LayerQuality, answers, own_logits
from quality.names import PLACES

RELEASES = ("openai", "bloom")


class Plain:
    """Whole prompts about one attribute through the whole model, once for each splice."""

    def __init__(self, subject, prompts, attribute: str, layer: int):
        rows = [prompts.rows[row] for row in prompts.rows_about(attribute)]
        self.model, self.layer, self.at = subject.model, subject.layers.modules[layer], rows[0].at
        self.tokens, self.labels = (torch.tensor([getattr(r, name) for r in rows]) for name in ("tokens", "label"))
        self.own = self._logits()
        self.zeros = {place: self.spliced(torch.zeros_like, place) for place in PLACES}

    def _logits(self):
        with torch.no_grad():
            return self.model(self.tokens, logits_to_keep=1).logits[:, -1]

    def spliced(self, change, place: str) -> dict[str, float]:
        def hook(_module, _args, x_NTD):
            where = slice(None) if place == "all" else slice(self.at, self.at + 1)
            x_NTD = x_NTD.clone()
            x_NTD[:, where] = change(x_NTD[:, where])
            return x_NTD

        with self.layer.register_forward_hook(hook):
            found = answers(self._logits(), self.labels, self.own)
        return {name: float(values.mean()) for name, values in found.items()}

    def score(self, sae) -> dict[str, dict[str, float]]:
        return {place: self.spliced(lambda x: sae.decode(*sae.encode(x)), place) for place in PLACES}


def difference(fast: dict, plain: dict) -> float:
    """The largest between two sets of scores."""
    names = {"accuracy": "accuracy", "ce_loss": "ce_loss_with_sae", "kl_div": "kl_div"}
    return max(abs(fast[place][ours] - plain[place][name]) for place in PLACES for name, ours in names.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--layers", type=int, nargs="+", default=list(range(12)), choices=range(12), metavar="L")
    layers = sorted(set(parser.parse_args().layers))
    one_thread()
    subject, prompts = build_subject()
    found: dict = {}

    def row(layer: int, name: str, fast, plain) -> None:
        ours, theirs = timed(fast) / 1000, timed(plain) / 1000
        apart = "".join(
            f"{difference(found['fast', a], found['plain', a]):16.1e}" for a in ATTRIBUTES if name != "zeros"
        )
        print(f"{layer:2}  {name:<8}{ours:8.2f}  {theirs:8.1f}   {theirs / ours:12.1f} {apart}", flush=True)
        totals.append((ours, theirs))

    totals = [(timed(lambda: found.update(cache=subject.harvest(prompts, layers, progress=False))) / 1000, 0.0)]
    print(f"harvest {totals[0][0]:.1f} s\n")
    print(" L  SAE       fast s   plain s   plain / fast    scores differ, of either attribute")
    rows, cache = {a: prompts.rows_about(a) for a in ATTRIBUTES}, found["cache"]
    own = {a: own_logits(subject, cache, rows[a]) for a in ATTRIBUTES}
    for layer in layers:
        fast, plain = {}, {}

        def zeros(layer=layer, fast=fast):
            labels = prompts.labels()
            fast.update({a: LayerQuality(subject, cache, layer, rows[a], labels[rows[a]], own[a]) for a in ATTRIBUTES})

        def plain_zeros(layer=layer, plain=plain):
            plain.update({a: Plain(subject, prompts, a, layer) for a in ATTRIBUTES})

        row(layer, "zeros", zeros, plain_zeros)
        for release in RELEASES:
            sae = random_sae(release, cache.residuals[layer][:, 0], layer)
            ways = [
                lambda name=name, its=its, sae=sae: found.update({(name, a): its[a].score(sae) for a in ATTRIBUTES})
                for name, its in (("fast", fast), ("plain", plain))
            ]
            row(layer, release, *ways)
    ours, theirs = (sum(column) for column in zip(*totals, strict=True))
    print(f"\nall of it: fast {ours:.1f} s, plain {theirs:.1f} s, {theirs / ours:.1f} times")
    print(f"peak memory {peak_gb():.2f} GB (both ways in one process)")


if __name__ == "__main__":
    main()
