"""The exact fast path on a real language model with the experiment's own prompts, against plain PyTorch hooks."""

import os

import pytest
import torch
from helpers_decoders import by_hooks, largest_share

from common.paths import HOME
from data.facts import read_cities
from data.prompts import build_prompts
from models import load_subject

PICKED = ("Paris", "Tokyo", "Nairobi", "Aswan", "Isfahan", "Marrakesh")  # of 1 to 4 tokens


@pytest.fixture(scope="module")
def real(smollm2):
    """SmolLM2, or the checkpoint folder that REAL_MODEL names; its prompts about some cities."""
    subject = load_subject(os.environ.get("REAL_MODEL", str(smollm2)))
    table = {city.name: city for city in read_cities(HOME / "data" / "cities.csv")}
    cities = [table[name] for name in PICKED if name in table]
    prompts = build_prompts(cities, subject.tokenizer)
    assert len(prompts) == len(cities) >= 4
    last = subject.n_layers - 2
    return subject, subject.harvest(prompts, [0, last // 2, last], progress=False)


def test_real_cities_have_several_tokens(real):
    _, cache = real
    assert {prompt.n_own for prompt in cache.prompts.rows} >= {1, 2}


def test_best_tokens_are_the_models_own(real):
    subject, cache = real
    with torch.no_grad():
        own = [
            int(subject.model(input_ids=torch.tensor([p.tokens])).logits[0, -1].argmax()) for p in cache.prompts.rows
        ]
    assert cache.best_R.tolist() == own


@pytest.mark.parametrize("place", [0, 1, 2], ids=["first", "middle", "last-but-one"])
def test_logits_and_gradients_equal_two_passes_with_hooks(real, place, record_property):
    """Measured on SmolLM2: logits 3e-6, gradients 5e-6 of the largest."""
    subject, cache = real
    layer, prompts = cache.layers[place], cache.prompts
    n, D = len(prompts), subject.d_model
    base = torch.tensor([0, 1, n - 1, n, n + 1, 2 * n - 1])
    source = torch.tensor([2, 3, 0, n + 2, n + 3, n])
    label = torch.tensor([prompts.rows[s].label for s in source.tolist()])
    generator = torch.Generator().manual_seed(layer)
    mask = torch.rand(D, generator=generator).requires_grad_()
    rotation = torch.linalg.qr(torch.randn(D, D, generator=generator))[0].requires_grad_()
    layers = subject.model.get_submodule("model.layers")
    wanted = torch.stack(
        [
            by_hooks(subject.model, layers, layer, prompts.rows[b], prompts.rows[s], mask, rotation)
            for b, s in zip(base.tolist(), source.tolist(), strict=True)
        ]
    )
    wanted_loss = torch.nn.functional.cross_entropy(wanted, label, reduction="none")
    wanted_gradients = torch.autograd.grad(wanted_loss.mean(), (mask, rotation))

    at_layer = subject.layer_cache(cache, layer)
    x = at_layer.residuals[:, 0]
    final = at_layer.run(x[base] + ((x[source] - x[base]) @ rotation * mask) @ rotation.T, base)
    loss, best = subject.loss_and_best(final, label)
    gradients = torch.autograd.grad(loss.mean(), (mask, rotation))

    with torch.no_grad():
        shares = [largest_share(subject.logits(final), wanted)]
    shares += [largest_share(*both) for both in zip(gradients, wanted_gradients, strict=True)]
    print(
        f"{subject.name}, layer {layer}: logits, gradients of mask and rotation differ by",
        *map("{:.1e}".format, shares),
    )
    assert max(shares) < 1e-4
    assert largest_share(loss, wanted_loss) < 1e-4
    assert torch.equal(best, wanted.argmax(dim=1))
