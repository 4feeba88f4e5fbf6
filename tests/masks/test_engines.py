"""The two engines on several architectures, with cities of 1 to 4 tokens in one batch."""

import pytest
import torch
from helpers_decoders import LAYERS, D, V, largest_share, random_prompts, tiny_subject

from data.pairs import batch_of
from featurizers.das import Das
from featurizers.neuron import Neuron
from masks.engines import ENGINES, FastEngine, NnsightEngine
from toy import world as toy

NEAR = 1e-5  # of the largest


def make_pairs(prompts, target: str = "country"):
    """Every city with another and one with itself; both kinds, so both prefixes and all lengths stand in one batch."""
    n = len(prompts)
    chosen = [(b, (b + 1 + i) % n, kind) for i, kind in enumerate(("cause", "isolation")) for b in range(n)]
    return batch_of([*chosen, (0, 0, "cause")], prompts, target)


def make_mask(seed: int = 2):
    return torch.rand(D, generator=torch.Generator().manual_seed(seed)).requires_grad_()


@pytest.mark.parametrize("layer", [0, LAYERS - 2])
@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma3", "neox"])
def test_engines_agree_on_cities_of_any_length(name, layer):
    """Logits, and gradients of mask and rotation, to 1e-5 of the largest; prompts of 12 to 18 tokens."""
    subject = tiny_subject(name, tokenizer=toy.toy_tokenizer(toy.toy_cities()))
    prompts = random_prompts(0, own=(1, 2, 3, 4))
    assert len({len(prompt.tokens) for prompt in prompts.rows}) > 4
    cache, pairs = subject.harvest(prompts, [layer], progress=False), make_pairs(prompts)
    found = []
    for Engine in ENGINES.values():
        das = Das(D, seed=0)
        das.move_to(torch.randn(D, D, generator=torch.Generator().manual_seed(1)) * 0.2)
        mask = make_mask()
        logits = Engine(subject, cache, layer, das).logits(pairs, mask)
        assert logits.shape == (len(pairs), V)
        loss = torch.nn.functional.cross_entropy(logits, pairs.label)
        of_mask, of_skew = torch.autograd.grad(loss, (mask, das.A))
        found.append((logits.detach(), of_mask, of_skew.tril(-1)))
    for ours, theirs in zip(*found, strict=True):
        assert theirs.abs().max() > 1e-3
        assert largest_share(ours, theirs) < NEAR


@pytest.mark.parametrize("name", ["gpt2", "gemma3"])
def test_engines_agree_after_the_last_layer(name):
    """There a patch reaches the answer only where the city ends the prompt; elsewhere both gradients are 0."""
    subject = tiny_subject(name, tokenizer=toy.toy_tokenizer(toy.toy_cities()))
    prompts = random_prompts(0, suffix=(1, 3))
    cache = subject.harvest(prompts, [LAYERS - 1], progress=False)
    ends = cache.end_R == 0
    assert ends.tolist() == [True] * 3 + [False] * 5
    pairs, found = make_pairs(prompts), []
    for Engine in ENGINES.values():
        masks = make_mask().detach().expand(len(pairs), -1).clone().requires_grad_()  # one for every pair
        engine = Engine(subject, cache, LAYERS - 1, Neuron(D))
        logits = torch.cat([engine.logits(pairs[slice(i, i + 1)], mask) for i, mask in enumerate(masks)])
        (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, pairs.label), masks)
        moves = ends[pairs.base] & (pairs.base != pairs.source)
        assert torch.equal(gradient.abs().amax(dim=1) > 0, moves) and moves.any()
        found.append((logits.detach(), gradient))
    for ours, theirs in zip(*found, strict=True):
        assert largest_share(ours, theirs) < NEAR


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_batched_losses_agree(name):
    """Of two runs at once, with masks and pairs of their own; likeliest tokens too."""
    subject = tiny_subject(name, tokenizer=toy.toy_tokenizer(toy.toy_cities()))
    prompts = random_prompts(1)
    cache, pairs = subject.harvest(prompts, [1], progress=False), make_pairs(prompts)
    chosen = torch.tensor([[0, 5, 2, 7], [8, 1, 1, 3]])
    found = []
    for Engine in ENGINES.values():
        masks = [make_mask(seed) for seed in (0, 1)]
        engines = [Engine(subject, cache, 1, Neuron(D)) for _ in masks]
        loss, best = Engine.batched_loss(engines, *(t[chosen] for t in (pairs.base, pairs.source, pairs.label)), masks)
        found.append((best, loss.detach(), *torch.autograd.grad(loss.sum(), masks)))
    (best, *ours), (wanted_best, *theirs) = found
    assert torch.equal(best, wanted_best)
    assert all(largest_share(one, other) < NEAR for one, other in zip(ours, theirs, strict=True))


def test_fast_rows_do_not_depend_on_the_batch():
    """In any order, once or twice: of a row's answer the other rows are none of its business."""
    subject, prompts = tiny_subject("gemma3"), random_prompts(0)
    engine = FastEngine(subject, subject.harvest(prompts, [1], progress=False), 1, Neuron(D))
    pairs, mask = make_pairs(prompts), make_mask().detach()
    whole = engine.logits(pairs, mask)
    for index in ([3], [8, 0, 0, 5], list(range(len(pairs)))[::-1]):
        assert largest_share(engine.logits(pairs[torch.tensor(index)], mask), whole[index]) < NEAR


def test_nnsight_engine_computes_in_fp32_only():
    with pytest.raises(ValueError, match="bf16"):
        NnsightEngine.batched_loss([], None, None, None, [], "bf16")
