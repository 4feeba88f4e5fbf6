"""Time the parts of a step that are written out here against the library's own, side by side.

    python benchmarks/parts.py       a minute or two

On one CPU thread, at a joint batch's 64 rows of GPT-2 small's shape, forward and backward,
in turns; both sides compute the same, and how far they differ is printed.

  products    the four products with a block's weights, on 8 positions of each row, with weights laid out
              beforehand for oneDNN (products.py), against the model's own layers; `few`: of 16 rows
  attention   8 positions behind the two attributes' prefixes (51 and 53 positions), half of the rows
              behind either: queries of these rows meet a prefix in one product (attention.py), against
              torch's scaled_dot_product_attention with their prefix copied to every row
  activation  of the MLP's numbers, with its slope on the way there (activation.py), against torch's gelu
  head        loss, gradient and likeliest token a part of the vocabulary at a time (head.py),
              against whole logits, cross_entropy and argmax
  das         (x expm(A) * mask) expm(-A) for 16 rows and a norm of 2.8 (rotation.py), against torch.matrix_exp
  bf16        a joint step of four neuron runs at L = 5, in fp32 against --precision bf16
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import time
from types import SimpleNamespace

from fixtures import build_subject
from machine import machine

from data.intervention_data import index_pairs, make_pairs
from decoder.activation import gelu
from decoder.attention import attend, grouped
from decoder.head import Head
from decoder.products import block_in, packed
from featurizers.neuron import Neuron
from featurizers.rotation import Turn, kept_skew
from imports import functional, torch, transformers
from masks.engines import FastEngine

B, S, HEADS, WIDTH, D, VOCABULARY = 64, 8, 12, 64, 768, 50_257
LENGTHS = (51, 53)


def randn(*shape):
    return torch.randn(shape)


def products(rows: int = B):
    config = transformers.GPT2Config(n_embd=D, n_head=HEADS, n_layer=1)
    own = transformers.GPT2LMHeadModel(config).eval().requires_grad_(False).transformer.h[0]

    def through(block):
        return lambda x: block.mlp.c_proj(block.mlp.c_fc(block.attn.c_proj(block.attn.c_attn(x)[..., :D])))

    return through(block_in(own, packed)), through(own), randn(rows, S, D) * 10


def few():
    return products(16)


def attention():
    """Half of the rows stand behind either prefix, as in a step, and each has its copy on torch's side."""
    prefixes = [[(randn(HEADS, P, WIDTH), randn(HEADS, P, WIDTH))] for P in LENGTHS]
    standing = grouped(prefixes, [B // 2] * 2)
    sees = [torch.ones(S, P + S, dtype=torch.bool).tril(P) for P in LENGTHS]

    def library(qkv):
        mixed = []
        for group, mask in zip(standing, sees, strict=True):
            query, key, value = (
                t.reshape(-1, S, HEADS, WIDTH).transpose(1, 2) for t in qkv[group.rows].split(D, dim=-1)
            )
            before = (t.expand(len(query), -1, -1, -1) for t in group.prefix[0])
            key, value = (torch.cat([a, b], dim=2) for a, b in zip(before, (key, value), strict=True))
            mixed.append(functional.scaled_dot_product_attention(query, key, value, attn_mask=mask))
        return torch.cat(mixed).transpose(1, 2).reshape(B, S, D)

    return lambda qkv: attend(0, qkv, HEADS, standing), library, randn(B, S, 3 * D)


def activation():
    return gelu, lambda x: functional.gelu(x, approximate="tanh"), randn(B, S, 4 * D)


def head():
    W, label = randn(VOCABULARY, D) * 0.02, torch.randint(VOCABULARY, (B,))

    def library(x):
        logits = x @ W.T
        logits.argmax(-1)
        return functional.cross_entropy(logits, label, reduction="none")

    ours = Head(W, packed)
    return lambda x: ours.loss_and_best(x, label)[0], library, randn(B, D)


def das():
    """The gradient of A is what costs, so A is what is differentiated."""
    lower, x, mask = (randn(D, D) * 0.05).tril(-1), randn(16, D), torch.rand(D)

    def library(skew):
        rotation = torch.matrix_exp(kept_skew(skew))
        return (x @ rotation * mask) @ rotation.T

    return lambda skew: Turn(kept_skew(skew)).masked(x, mask), library, lower - lower.T


def bf16():
    subject, prompts = build_subject()
    harvest = subject.harvest(prompts, [5], progress=False)
    pairs = index_pairs(make_pairs(prompts, "country", "paper", "pairs", 0)["train"], prompts, "country")[slice(0, B)]
    engine = FastEngine(subject, prompts, harvest, 5, Neuron(D))
    rows = [t.view(4, B // 4) for t in (pairs.base, pairs.source, pairs.label)]

    def step(precision):
        return lambda mask: engine.joint([engine] * 4, *rows, [mask] * 4, precision)[0]

    return step("bf16"), step("fp32"), torch.rand(D)


def timed(compute, start):
    """(milliseconds forward and backward, values, gradient)"""
    x = start.clone().requires_grad_()
    began = time.perf_counter()
    out = compute(x)
    out.sum().backward()
    return SimpleNamespace(ms=1000 * (time.perf_counter() - began), out=out.detach(), gradient=x.grad)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=9, metavar="N")
    turns = max(1, parser.parse_args().turns)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"{datetime.date.today()}, {machine()}, 1 thread")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}\n")
    print("              ms, medians       the other / ours           differ, of largest")
    print("part         ours  the other   median    min    max        value   gradient", flush=True)
    for part in (products, few, attention, activation, head, das, bf16):
        ours, other, start = part()
        first, second = timed(ours, start), timed(other, start)  # warm up, and compare
        apart = [
            float((a - b).abs().max() / b.abs().max())
            for a, b in ((first.out, second.out), (first.gradient, second.gradient))
        ]
        pairs = [(timed(ours, start).ms, timed(other, start).ms) for _ in range(turns)]
        mine, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratios = [b / a for a, b in pairs]
        spread = f"{statistics.median(ratios):8.2f} {min(ratios):6.2f} {max(ratios):6.2f}"
        print(
            f"{part.__name__:<10} {mine:6.1f} {theirs:10.1f} {spread}      {apart[0]:.1e}    {apart[1]:.1e}", flush=True
        )


if __name__ == "__main__":
    main()
