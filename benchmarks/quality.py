"""Time the scoring of SAEs, by eval_sae.py's way and by a full forward pass per splice, side by side.

    python benchmarks/quality.py --layers 0 5 11    some minutes; all 12 without

GPT-2 small's shape with random weights, the paper's 80 prompts, an SAE of OpenAI's width and one of Bloom's at each
layer.  plain: a forward pass of all prompts with the SAE spliced in at the city's position and one at all positions,
by a forward hook, the last position's logits only; per layer likewise two with zeros.
"""

from __future__ import annotations

import argparse

from fixtures import build_subject, random_sae
from turns import one_thread, timed

from data.names import ATTRIBUTES
from imports import torch
from quality.metrics import LayerQuality, answers, own_logits
from quality.names import PLACES

SCORES = {"accuracy": "accuracy", "ce_loss": "ce_loss_with_sae", "kl_div": "kl_div"}  # compared; eval_sae.py's names


class Plain:
    """Whole prompts about one attribute through the whole model, once for each splice."""

    def __init__(self, subject, prompts, attribute: str, layer: int):
        rows = [prompts.rows[row] for row in prompts.rows_about(attribute)]
        self.model, self.layer, self.at = subject.model, subject.layers.modules[layer], rows[0].at
        self.tokens, self.labels = (torch.tensor([getattr(r, name) for r in rows]) for name in ("tokens", "label"))
        self.own = self._logits()
        self.zeros = {place: self._spliced(torch.zeros_like, place) for place in PLACES}

    def _logits(self):
        with torch.no_grad():
            return self.model(self.tokens, logits_to_keep=1).logits[:, -1]

    def _spliced(self, change, place: str) -> dict[str, float]:
        def hook(_module, _args, x_NTD):
            where = slice(None) if place == "all" else [self.at]
            x_NTD = x_NTD.clone()
            x_NTD[:, where] = change(x_NTD[:, where])
            return x_NTD

        with self.layer.register_forward_hook(hook):
            found = answers(self._logits(), self.labels, self.own)
        return {name: float(values.mean()) for name, values in found.items()}

    def score(self, sae) -> dict[str, dict[str, float]]:
        return {place: self._spliced(lambda x: sae.decode(*sae.encode(x)), place) for place in PLACES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--layers", type=int, nargs="+", default=list(range(12)), choices=range(12), metavar="L")
    layers = parser.parse_args().layers
    one_thread()
    subject, prompts = build_subject()
    cache, labels = subject.harvest(prompts, layers, progress=False), prompts.labels()
    rows = {a: prompts.rows_about(a) for a in ATTRIBUTES}
    own = {a: own_logits(subject, cache, rows[a]) for a in ATTRIBUTES}
    totals = [0.0, 0.0]
    print(" L  SAE       fast s   plain s   plain / fast   scores differ", flush=True)
    for layer in layers:
        build = (
            lambda a, layer=layer: LayerQuality(subject, cache, layer, rows[a], labels[rows[a]], own[a]),
            lambda a, layer=layer: Plain(subject, prompts, a, layer),
        )
        at_layer: list[dict] = [{}, {}]
        for name in ("zeros", "openai", "bloom"):
            sae = None if name == "zeros" else random_sae(name, cache.residuals[layer][:, 0], layer)
            seconds, scores = [], []
            for its, make in zip(at_layer, build, strict=True):
                found: dict = {}
                work = (lambda a, make=make: make(a)) if sae is None else (lambda a, its=its, sae=sae: its[a].score(sae))
                seconds.append(timed(lambda f=found, work=work: f.update({a: work(a) for a in ATTRIBUTES})) / 1000)
                its.update({} if sae else found)
                scores.append(found)
            totals = [sum(pair) for pair in zip(totals, seconds, strict=True)]
            fast, plain = scores
            apart = [abs(fast[a][p][ours] - plain[a][p][name]) for a in ATTRIBUTES for p in PLACES for name, ours in SCORES.items()] if sae else []
            print(f"{layer:2}  {name:<8}{seconds[0]:8.2f}  {seconds[1]:8.1f}   {seconds[1] / seconds[0]:12.1f}" + f"{max(apart):16.1e}" * bool(sae), flush=True)
    print(f"\nall of it: fast {totals[0]:.1f} s, plain {totals[1]:.1f} s, {totals[1] / totals[0]:.1f} times")


if __name__ == "__main__":
    main()
