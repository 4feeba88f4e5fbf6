"""Time the scoring of SAEs, by eval_sae.py's way and by a full forward pass per splice, side by side.

    python benchmarks/quality.py --layers 0 5 11    some minutes; all 12 without

GPT-2 small's shape with random weights, the paper's 80 prompts, an SAE of OpenAI's width and one of Bloom's at each
layer.  plain: a forward pass of all prompts with the SAE spliced in at the city's position and one at all positions,
by a forward hook, the last position's logits only; per layer likewise two with zeros.
"""

import argparse

from fixtures import build_subject, random_sae
from turns import one_thread, timed

from data.names import PAPER
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


def score_all(by_attribute: dict, sae) -> dict:
    return {attribute: its.score(sae) for attribute, its in by_attribute.items()}


def difference(fast: dict, plain: dict) -> float:
    """The largest between two sets of scores."""
    places = [(fast[a][place], plain[a][place]) for a in PAPER for place in PLACES]
    return max(abs(ours[SCORES[name]] - theirs[name]) for ours, theirs in places for name in SCORES)


def in_seconds(work, *arguments) -> tuple:
    """What it returns, and how long it took."""
    kept: list = []
    return kept, timed(lambda: kept.append(work(*arguments))) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--layers", type=int, nargs="+", default=list(range(12)), choices=range(12), metavar="L")
    layers = parser.parse_args().layers
    one_thread()
    subject, prompts = build_subject()
    cache, labels = subject.harvest(prompts, layers, progress=False), prompts.labels()
    rows = {a: prompts.rows_about(a) for a in PAPER}
    own = {a: own_logits(subject, cache, rows[a]) for a in PAPER}

    def fast(layer: int) -> dict:
        return {a: LayerQuality(subject, cache, layer, rows[a], labels[rows[a]], own[a]) for a in PAPER}

    def plain(layer: int) -> dict:
        return {a: Plain(subject, prompts, a, layer) for a in PAPER}

    print(" L  SAE       fast s   plain s   plain / fast   scores differ", flush=True)
    totals = []
    for layer in layers:
        ((ours,), ours_s), ((theirs,), theirs_s) = in_seconds(fast, layer), in_seconds(plain, layer)
        found = [("zeros", ours_s, theirs_s, "")]
        for release in ("openai", "bloom"):
            sae = random_sae(release, cache.residuals[layer][:, 0], layer)
            ((a,), a_s), ((b,), b_s) = in_seconds(score_all, ours, sae), in_seconds(score_all, theirs, sae)
            found.append((release, a_s, b_s, f"{difference(a, b):.1e}"))
        for name, a_s, b_s, apart in found:
            print(f"{layer:2}  {name:<8}{a_s:8.2f}  {b_s:8.1f}   {b_s / a_s:12.1f}   {apart:>13}", flush=True)
            totals.append((a_s, b_s))
    ours_s, theirs_s = (sum(column) for column in zip(*totals, strict=True))
    print(f"\nall of it: fast {ours_s:.1f} s, plain {theirs_s:.1f} s, {theirs_s / ours_s:.1f} times")


if __name__ == "__main__":
    main()
