"""The exact fast path on eleven architectures, against two plain forward passes with PyTorch hooks."""

import pytest
import torch
from helpers_decoders import (
    ARCHITECTURES,
    LAYERS,
    D,
    V,
    by_hooks,
    largest_share,
    layers_of,
    random_prompts,
    tiny,
    tiny_subject,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from decoder.products import InBf16, Packed, Plain, Product
from models import Subject

CASES = [
    (name, attention)
    for name in ARCHITECTURES
    for attention in ("sdpa", "eager")
    if (name, attention) != ("gemma2", "sdpa")  # transformers offers none: its scores are soft-capped
]


@pytest.mark.parametrize(("name", "attention"), CASES)
def test_logits_and_gradients_equal_two_passes_with_hooks(name, attention):
    """At the first, a middle and the last layer but one; measured: 1e-6 of the largest, logits and gradients."""
    model = tiny(name, attention)
    layers = layers_of(name, model)
    prompts = random_prompts(seed=0)
    subject = Subject(model, None, name)
    cache = subject.harvest(prompts, [0, 2, LAYERS - 2], progress=False)
    rows = range(len(prompts.rows))
    base, source = torch.tensor(rows), torch.tensor([3, 2, 0, 1, 7, 6, 5, 4])
    label = torch.arange(len(rows)) * 11 % V
    generator = torch.Generator().manual_seed(1)
    for layer in (0, 2, LAYERS - 2):
        mask = torch.rand(D, generator=generator).requires_grad_()
        rotation = torch.linalg.qr(torch.randn(D, D, generator=generator))[0].requires_grad_()
        wanted = torch.stack(
            [
                by_hooks(model, layers, layer, prompts.rows[b], prompts.rows[s], mask, rotation)
                for b, s in zip(base.tolist(), source.tolist(), strict=True)
            ]
        )
        wanted_loss = torch.nn.functional.cross_entropy(wanted, label, reduction="none")
        wanted_gradients = torch.autograd.grad(wanted_loss.mean(), (mask, rotation))

        at_layer = subject.layer_cache(cache, layer)
        x = at_layer.residuals[:, 0]
        patched = x[base] + ((x[source] - x[base]) @ rotation * mask) @ rotation.T
        final = at_layer.run(patched, base)
        loss, best = subject.loss_and_best(final, label)
        gradients = torch.autograd.grad(loss.mean(), (mask, rotation))

        assert largest_share(subject.logits(final), wanted) < 1e-4
        assert largest_share(loss, wanted_loss) < 1e-4
        assert torch.equal(best, wanted.argmax(dim=1))
        assert all(largest_share(found, right) < 1e-4 for found, right in zip(gradients, wanted_gradients, strict=True))
        # The patch must matter, or the comparison would say nothing.
        unpatched = subject.logits(at_layer.run(x[base], base))
        assert largest_share(unpatched, wanted) > 1e-2


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_best_tokens_are_the_models_own(name):
    """What `harvest` reads off behind shared prefixes is what each whole prompt gives by itself."""
    model, prompts = tiny(name), random_prompts(seed=3)
    cache = Subject(model, None, name).harvest(prompts, [1], progress=False)
    with torch.no_grad():
        own = [int(model(input_ids=torch.tensor([p.tokens])).logits[0, -1].argmax()) for p in prompts.rows]
    assert cache.best_R.tolist() == own


@settings(max_examples=25, deadline=None)
@given(
    own=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    suffix=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    seed=st.integers(0, 1000),
)
def test_any_lengths_of_entity_and_suffix(own, suffix, seed):
    """A patched row equals the hooks' for all lengths; windows of 4, so they matter; suffix 1: the city is last."""
    model, prompts = tiny("gemma3", "sdpa"), random_prompts(seed, tuple(own), suffix)
    layers = layers_of("gemma3", model)
    subject = Subject(model, None, "gemma3")
    cache = subject.harvest(prompts, [1], progress=False)
    n = len(prompts.rows)
    base, source = torch.arange(n), torch.arange(n).flip(0)
    mask = torch.rand(D, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        wanted = torch.stack(
            [
                by_hooks(model, layers, 1, prompts.rows[b], prompts.rows[s], mask, torch.eye(D))
                for b, s in zip(base.tolist(), source.tolist(), strict=True)
            ]
        )
        at_layer = subject.layer_cache(cache, 1)
        x = at_layer.residuals[:, 0]
        found = subject.logits(at_layer.run(x[base] + mask * (x[source] - x[base]), base))
    assert largest_share(found, wanted) < 1e-4


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma3"])
@pytest.mark.parametrize("form", [Packed, InBf16], ids=["packed", "bf16"])
def test_forms_of_products_run_in_any_layer(name, form):
    """Packed weights give the same to rounding; bfloat16 within its own (8 bits of mantissa)."""
    subject, prompts = tiny_subject(name), random_prompts(seed=5)
    at_layer = subject.layer_cache(subject.harvest(prompts, [1], progress=False), 1)
    rows = torch.arange(len(prompts.rows))
    x = at_layer.residuals[rows.flip(0), 0]
    with torch.no_grad():
        plain, other = (subject.logits(at_layer.run(x, rows, f)) for f in (Plain, form))
    swapped = [m for m in subject.layers._in_form[2, form].modules() if isinstance(m, Product)]
    assert swapped and all(type(m.matrix) is form for m in swapped)
    assert largest_share(other, plain) < (1e-5 if form is Packed else 0.1)


def test_bfloat16_weights_are_kept_and_residuals_are_fp32():
    subject = Subject(tiny("llama").to(torch.bfloat16), None, "llama")
    cache = subject.harvest(random_prompts(seed=0), [1], progress=False)
    at_layer = subject.layer_cache(cache, 1)
    final = at_layer.run(at_layer.residuals[:, 0], torch.arange(8))
    assert subject.dtype == torch.bfloat16 and cache.residuals[1].dtype == torch.float32
    loss, best = subject.loss_and_best(final, torch.zeros(8, dtype=torch.long))
    assert loss.dtype == torch.float32 and torch.isfinite(loss).all()
    assert torch.equal(subject.logits(final).argmax(-1), best)
