"""Time a neuron step on any decoder against the plain way with hooks, and tell the head's share of it.

    python benchmarks/decoder.py saved_models/smollm2 --layers 0 10 20 28 --wanted 12 15 30 80
    python benchmarks/decoder.py FOLDER --layers 8 --wanted-share .25

naive: both forward passes in full, by hooks, padded on the left, cross-entropy over the full vocabulary, backward,
Adam; lean: the same with `logits_to_keep=1`, one step a layer.  The head's share is its time alone, forward and
backward, over a whole step's, for one run and for four together.
"""

import argparse
import statistics
import time
from collections import Counter
from pathlib import Path

from fixtures import gflops, training_pairs
from machine import HOME
from step import SCHEDULE, Stepper, steppers_of
from turns import BATCH_SIZE, in_turns, one_thread, ratios, shown, spread, timed, verdict

from common.command import peak_gb
from data.batches import PairBatch
from data.facts import read_cities
from data.prompts import Prompts, build_prompts, known_facts
from decoder.activations import ActivationCache
from imports import functional, torch
from masks.scores import soft_mask
from models import Subject, load_subject

CITIES = HOME / "data" / "cities.csv"
JOINT = 4  # runs that step together
HEAD_TURNS = 15


def padded(prompts: Prompts, rows: torch.Tensor, device: str) -> tuple[dict, torch.Tensor]:
    """The model's inputs, padded on the left, and where the patched token of each is."""
    chosen = [prompts.rows[row] for row in rows]
    missing = torch.tensor([prompts.longest() - len(prompt.tokens) for prompt in chosen])
    slots = torch.arange(prompts.longest()) - missing[:, None]
    tokens = [(0,) * int(n) + prompt.tokens for n, prompt in zip(missing, chosen, strict=True)]
    inputs = {"input_ids": torch.tensor(tokens), "attention_mask": (slots >= 0).long()}
    inputs["position_ids"] = slots.clamp_min(0)
    at = missing + torch.tensor([prompt.at for prompt in chosen])
    return {name: value.to(device) for name, value in inputs.items()}, at.to(device)


class Naive:
    """A step with two full forward passes.  keep: arguments for both."""

    def __init__(self, subject: Subject, prompts: Prompts, layer: int, theta, **keep):
        self.subject, self.prompts, self.layer, self.keep = subject, prompts, subject.layers.modules[layer], keep
        self.start, self.theta = theta, theta.clone().requires_grad_()
        self.optimizer = torch.optim.Adam([self.theta], lr=SCHEDULE.lr, fused=True)

    def logits(self, pairs: PairBatch):
        device, has_tuple, seen = self.subject.device, self.subject.layers.returns_tuple, []
        (source, at_source), (base, at_base) = (
            padded(self.prompts, rows, device) for rows in (pairs.source, pairs.base)
        )
        rows = torch.arange(len(pairs), device=device)

        def read(_module, _args, output):
            seen.append((output[0] if has_tuple else output)[rows, at_source])

        def patch(_module, _args, output):
            x_BTD = output[0] if has_tuple else output
            x_base = x_BTD[rows, at_base]
            new = x_base + soft_mask(self.theta, 1.0) * (seen[0] - x_base)
            x_BTD = x_BTD.index_put((rows, at_base), new.to(x_BTD.dtype))
            return (x_BTD, *output[1:]) if has_tuple else x_BTD

        with self.layer.register_forward_hook(read), torch.no_grad():
            self.subject.model(**source, **self.keep)
        with self.layer.register_forward_hook(patch):
            return self.subject.model(**base, **self.keep).logits[:, -1]

    def step(self, pairs: PairBatch) -> float:
        with torch.no_grad():
            self.theta.copy_(self.start)
        return timed(lambda: self.take(pairs))

    def take(self, pairs: PairBatch) -> None:
        self.optimizer.zero_grad()
        answer = self.logits(pairs)
        functional.cross_entropy(answer, pairs.label.to(answer.device)).backward()
        self.optimizer.step()
        self.answer = answer.detach()


def differences(fast: Stepper, naive: Naive) -> str:
    """After a step of both on one batch: of the logits, and of theta's gradient over its largest entry."""
    batch, wanted = fast.batch(), naive.theta
    fast(), naive.step(batch)
    logits = (fast.logits(batch) - naive.answer).abs().max()
    gradient = (fast.steps.runs[0].theta.grad - wanted.grad).abs().max() / wanted.grad.abs().max()
    return f"{logits:.1e} of {naive.answer.abs().max():.0f}   {gradient:.1e}"


def head_step(subject: Subject, cache: ActivationCache, layer: int, pairs: PairBatch) -> float:
    """Milliseconds of the head alone for these pairs."""
    at_layer, form = subject.layer_cache(cache, layer), subject.form()
    with torch.no_grad():
        x_BD = at_layer.run(at_layer.residuals[pairs.source, 0], pairs.base, form)
    x_BD.requires_grad_()
    return timed(lambda: subject.loss_and_best(x_BD, pairs.label, form)[0].mean().backward())


def head_shares(subject: Subject, cache: ActivationCache, layer: int, pairs: PairBatch) -> list[list[float]]:
    """Prints rows; returns the shares for one run and for several together."""
    found = []
    for n_runs in (1, JOINT):
        step = steppers_of(subject, cache, layer, "neuron", pairs, ("fast",), n_runs)["fast"]
        batch = pairs[torch.randperm(len(pairs))[: n_runs * BATCH_SIZE]]
        times = in_turns(HEAD_TURNS, step, lambda batch=batch: head_step(subject, cache, layer, batch))
        found.append(ratios(times[1], times[0]))
        print(f"{layer:2} {n_runs * BATCH_SIZE:5} {shown(times)} {spread(found[-1])}", flush=True)
    layers, head = gflops(subject, layer, cache.positions_RS.shape[1])
    share = f"{head:.1f} / ({layers:.1f} of the layers + {head:.1f}) GFLOP = {head / (layers + head):.2f}"
    print(f"{layer:2}    16   by FLOPs: {share}", flush=True)
    return found


def load(folder: str, layers: list[int]) -> tuple[Subject, ActivationCache]:
    """The model, and what is kept of the cities that it knows; says what they are and how long that took."""
    subject = load_subject(folder)
    everyone, n_words = build_prompts(read_cities(CITIES), subject.tokenizer), subject.structure.head.out_features
    kind = f"{Path(folder).resolve().name} ({subject.model.config.model_type}, attention {subject.attention})"
    print(f"{kind}: {subject.n_layers} layers, d_model {subject.d_model}, vocabulary {n_words:,}")
    began = time.process_time()
    cache = subject.harvest(everyone, layers, progress=False)
    print(f"harvest of {len(everyone.rows)} prompts: {time.process_time() - began:.1f} s")
    cache = cache.keep(known_facts(everyone, cache.best_R)[0])
    prompts = cache.prompts
    sizes = Counter(prompts.tokens_of(city) for city in range(len(prompts)))
    print(f"{len(prompts)} of {len(everyone)} cities known, by tokens: {dict(sorted(sizes.items()))}; prompts of up to")
    print(f"{prompts.longest()} tokens, {cache.positions_RS.shape[1]} from the patched one on", flush=True)
    return subject, cache


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", help="a checkpoint")
    parser.add_argument("--layers", type=int, nargs="+", required=True, metavar="L")
    parser.add_argument("--turns", type=int, default=3, metavar="N", help="of fast and naive (3)")
    parser.add_argument("--wanted", type=float, nargs="+", default=[], help="naive / fast at least, layer by layer")
    parser.add_argument("--wanted-share", type=float, help="the head's of a step at most, at every layer")
    arguments = parser.parse_args()
    one_thread()
    subject, cache = load(arguments.folder, arguments.layers)
    pairs, verdicts = training_pairs(cache.prompts, "strict", "cities"), []
    print(
        "\n          ms, medians     head / step, fast\n L  rows     step     head   median     min     max", flush=True
    )
    for layer in arguments.layers:
        for n, shares in zip((1, JOINT), head_shares(subject, cache, layer, pairs), strict=True):
            if arguments.wanted_share is not None:
                what = f"head's share at L = {layer}, {n * BATCH_SIZE} rows,"
                verdicts.append(verdict(what, shares, most=arguments.wanted_share))
    print(f"\npeak memory {peak_gb():.2f} GB so far: the fast path alone, all layers in one process\n")
    print("        ms a step          naive / fast            lean   / fast   logits differ  gradient, of largest")
    print(" L    naive     fast   median     min     max        ms", flush=True)
    for i, layer in enumerate(arguments.layers):
        fast = steppers_of(subject, cache, layer, "neuron", pairs, ("fast",))["fast"]
        naive, lean = (Naive(subject, cache.prompts, layer, fast.theta, **keep) for keep in ({}, {"logits_to_keep": 1}))
        apart = differences(fast, naive)  # warms up too
        times = in_turns(arguments.turns, lambda naive=naive, fast=fast: naive.step(fast.batch()), fast, warm_up=0)
        found, less = ratios(*times), lean.step(fast.batch())
        less = f"{less:8.0f} {less / statistics.median(times[1]):8.1f}"
        print(f"{layer:2} {shown(times)} {spread(found)}  {less}   {apart}", flush=True)
        if i < len(arguments.wanted):
            verdicts.append(verdict(f"naive / fast at L = {layer}", found, least=arguments.wanted[i]))
    print(f"\npeak memory {peak_gb():.2f} GB with the naive way")
    print(*verdicts, sep="\n")


if __name__ == "__main__":
    main()
