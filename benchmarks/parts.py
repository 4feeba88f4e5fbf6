"""Time the parts of a step that are written out here against the library's own, in turns, forward and backward.

    python benchmarks/parts.py       a minute or two

GPT-2 small's shape; how far both sides differ is printed.

  products   a layer's four products on 8 positions of 64 rows, packed for oneDNN (decoder/products.py), against plain
  step       a neuron's step at L = 5, packed against plain
  head       loss, gradient and likeliest token a part of the vocabulary at a time (decoder/head.py), 64 rows, against
             whole logits, cross_entropy and argmax
  das        (x expm(A) * mask) expm(-A) for a norm of 2.8 (featurizers/rotation.py), against torch.matrix_exp
  attention  a neuron's step at L = 5 with Hugging Face's attention sdpa, the default, against eager
"""

import argparse
from types import SimpleNamespace

from fixtures import SKEW_ENTRY, build_subject, training_pairs
from turns import BATCH_SIZE, in_turns, one_thread, ratios, shown, spread, timed

from decoder.head import Head
from decoder.products import Plain, packed, with_products
from featurizers.rotation import SkewExp, keep_skew
from imports import functional, torch, transformers

ROWS, S, D, VOCABULARY, LAYER = 64, 8, 768, 50_257, 5


def products():
    config = transformers.GPT2Config(n_embd=D, n_layer=1)
    own = transformers.GPT2LMHeadModel(config).eval().requires_grad_(False).transformer.h[0]

    def through(layer):
        return lambda x: layer.mlp.c_proj(layer.mlp.c_fc(layer.attn.c_proj(layer.attn.c_attn(x)[..., :D])))

    return through(with_products(own, packed)), through(own), torch.randn(ROWS, S, D) * 10


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


def step(form=Plain, attention="sdpa"):
    """A step with packed products and sdpa against another way."""
    subject, prompts = build_subject()
    at_layer = subject.layer_cache(subject.harvest(prompts, [LAYER], progress=False), LAYER)
    x_RD, pairs = at_layer.residuals[:, 0], training_pairs(prompts)[:BATCH_SIZE]

    def way(form, attention):
        def compute(mask):
            subject.model.set_attn_implementation(attention)
            x_BD = x_RD[pairs.base] + mask * (x_RD[pairs.source] - x_RD[pairs.base])
            return subject.loss_and_best(at_layer.run(x_BD, pairs.base, form), pairs.label, form)[0]

        return compute

    return way(packed, "sdpa"), way(form, attention), torch.rand(D)


def attention():
    return step(packed, "eager")


def both_ways(compute, start):
    """Forward and backward: values and gradient."""
    x = start.clone().requires_grad_()
    out = compute(x)
    out.sum().backward()
    return out.detach(), x.grad


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=9, metavar="N")
    turns = parser.parse_args().turns
    one_thread()
    print("                 ms, medians     the other / ours           differ, of largest")
    print("part           ours  the other   median     min     max     value  gradient", flush=True)
    for part in (products, step, head, das, attention):
        *ways, start = part()
        found = zip(*(both_ways(compute, start) for compute in ways), strict=True)
        apart = "   ".join(f"{(a - b).abs().max() / b.abs().max():.1e}" for a, b in found)
        steps = (lambda its=its, start=start: timed(lambda: both_ways(its, start)) for its in ways)
        times = in_turns(turns, *steps)
        print(f"{part.__name__:<10} {shown(times)} {spread(ratios(*reversed(times)))}   {apart}", flush=True)


if __name__ == "__main__":
    main()
