"""Time the parts of a step that are written out here against the library's own, side by side.

    python benchmarks/parts.py       some minutes

At a joint batch's 64 rows of GPT-2 small's shape (few, das: 16), forward and backward, in turns; both sides
compute the same, and how far they differ is printed.

  products   a layer's four products, on 8 positions of each row, packed for oneDNN (decoder/products.py), against
             the layer's own modules; few: of 16 rows
  step       a neuron's whole step at L = 5 with packed products against plain ones
  head       loss, gradient and likeliest token a part of the vocabulary at a time (decoder/head.py), against whole
             logits, cross_entropy and argmax
  das        (x expm(A) * mask) expm(-A) for a norm of 2.8 (featurizers/rotation.py), against torch.matrix_exp
  bf16       a step of four neuron runs at L = 5 with --precision bf16 against fp32
  attention  a neuron's step at L = 5 with Hugging Face's attention sdpa, the default, against eager
"""

from __future__ import annotations

import argparse
from types import SimpleNamespace

from fixtures import SKEW_ENTRY, build_subject, training_pairs
from turns import BATCH_SIZE, in_turns, one_thread, ratios, shown, spread, timed

from decoder.head import Head
from decoder.products import Plain, packed, with_products
from featurizers.rotation import SkewExp, keep_skew
from imports import functional, torch, transformers

ROWS, S, D, VOCABULARY, LAYER = 64, 8, 768, 50_257, 5


def products(rows: int = ROWS):
    config = transformers.GPT2Config(n_embd=D, n_layer=1)
    own = transformers.GPT2LMHeadModel(config).eval().requires_grad_(False).transformer.h[0]

    def through(layer):
        return lambda x: layer.mlp.c_proj(layer.mlp.c_fc(layer.attn.c_proj(layer.attn.c_attn(x)[..., :D])))

    return through(with_products(own, packed)), through(own), torch.randn(rows, S, D) * 10


def few():
    return products(BATCH_SIZE)


def head():
    linear = torch.nn.Linear(D, VOCABULARY, bias=False).requires_grad_(False)
    torch.nn.init.normal_(linear.weight, std=0.02)
    label = torch.randint(VOCABULARY, (ROWS,))

    def library(x):
        logits = linear(x)
        logits.argmax(-1)
        return functional.cross_entropy(logits, label, reduction="none")

    ours = Head(SimpleNamespace(head=linear, scale=1.0, softcap=None), packed)
    return lambda x: ours.loss_and_best(x, label)[0], library, torch.randn(ROWS, D)


def das():
    """The gradient of A is what costs, so A is what is differentiated."""
    lower, x, mask = (torch.randn(D, D) * SKEW_ENTRY).tril(-1), torch.randn(BATCH_SIZE, D), torch.rand(D)

    def library(skew):
        rotation = torch.matrix_exp(keep_skew(skew))
        return (x @ rotation * mask) @ rotation.T

    return lambda skew: SkewExp(keep_skew(skew)).masked(x, mask), library, lower - lower.T


def whole_step(ours, other, n_runs: int = 1):
    """ours, other: (form of products, attention), or the same with another form for either."""
    subject, prompts = build_subject()
    cache = subject.harvest(prompts, [LAYER], progress=False)
    pairs = training_pairs(prompts)[: n_runs * BATCH_SIZE]
    at_layer = subject.layer_cache(cache, LAYER)
    x_RD = at_layer.residuals[:, 0]

    def step(form, attention="sdpa"):
        def compute(mask):
            subject.model.set_attn_implementation(attention)
            x_BD = x_RD[pairs.base] + mask * (x_RD[pairs.source] - x_RD[pairs.base])
            return subject.loss_and_best(at_layer.run(x_BD, pairs.base, form), pairs.label, form)[0]

        return compute

    return step(*ours), step(*other), torch.rand(D)


def step():
    return whole_step((packed,), (Plain,))


def bf16():
    from decoder.products import InBf16

    return whole_step((InBf16,), (packed,), 4)


def attention():
    return whole_step((packed,), (packed, "eager"))


def both_ways(compute, start):
    """Forward and backward: values and gradient."""
    x = start.clone().requires_grad_()
    out = compute(x)
    out.sum().backward()
    return out.detach(), x.grad


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=9, metavar="N")
    turns = max(1, parser.parse_args().turns)
    one_thread()
    print("                 ms, medians     the other / ours           differ, of largest")
    print("part           ours  the other   median     min     max     value  gradient", flush=True)
    for part in (products, few, step, head, das, bf16, attention):
        ours, other, start = part()
        found = zip(both_ways(ours, start), both_ways(other, start), strict=True)
        apart = "   ".join(f"{(a - b).abs().max() / b.abs().max():.1e}" for a, b in found)
        steps = (
            lambda compute=compute, start=start: timed(lambda: both_ways(compute, start)) for compute in (ours, other)
        )
        times = in_turns(turns, *steps)
        print(f"{part.__name__:<10} {shown(times)} {spread(ratios(*reversed(times)))}   {apart}", flush=True)


if __name__ == "__main__":
    main()
