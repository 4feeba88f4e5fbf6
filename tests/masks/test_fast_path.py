"""The fast engine against nnsight and plain hooks, on a third of GPT-2 small and with every kind of features."""

from dataclasses import replace

import pytest
import torch
import transformers
from helpers_decoders import by_hooks

from data.pairs import batch_of
from data.prompts import build_prompts, known_facts
from featurizers.das import Das
from featurizers.neuron import Neuron
from featurizers.sae import Sae
from masks.engines import FastEngine, NnsightEngine
from models import Subject
from saes.autoencoder import SparseAutoencoder
from toy import world as toy

SIZES = {"n_layer": 4, "vocab_size": 9000, "bos_token_id": 0, "eos_token_id": 0}
LAYERS = (0, 1, 2)  # of four: the first, a middle and the last but one
LOGITS = 2e-5
METHODS = ("neuron", "das", "openai", "bloom")


@pytest.fixture(scope="module")
def subject() -> Subject:
    """Four of GPT-2 small's blocks, and words in more than two parts of the head (decoder/head.py).

    Random weights, three times as large as at the start of training, so that attention is far from uniform and a wrong
    mask or position shows in the logits.
    """
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**SIZES))
    with torch.no_grad():
        for block in model.transformer.h:
            block.attn.c_attn.weight *= 3
    return Subject(model, toy.toy_tokenizer(toy.toy_cities()), "random")


@pytest.fixture(scope="module")
def prompts(subject):
    """Six cities behind the few-shot prefix; country and continent prompts differ in length."""
    found = build_prompts(toy.toy_cities()[::20], subject.tokenizer, "few-shot")
    assert len(found.rows[0].tokens) != len(found.rows[-1].tokens)
    return found


@pytest.fixture(scope="module")
def cache(subject, prompts):
    return subject.harvest(prompts, list(LAYERS), progress=False)


@pytest.fixture(scope="module")
def pairs(prompts):
    """Cause and isolation pairs in mixed order, so that rows of the two prefixes alternate, and a city with itself."""
    cause, isolation = "cause", "isolation"
    chosen = [(0, 1, cause), (1, 2, isolation), (2, 0, cause), (0, 2, isolation), (1, 0, isolation), (2, 2, isolation)]
    return batch_of(chosen, prompts, "country")


def make_featurizer(name: str):
    generator = torch.Generator().manual_seed(1)
    if name == "neuron":
        return Neuron(768)
    if name == "das":
        das = Das(768, seed=0)
        das.move_to(torch.randn(768, 768, generator=generator) * 0.03)
        return das
    W_dec = torch.randn(1024, 768, generator=generator) / 28
    conventions = {"normalised": True, "k": 32} if name == "openai" else {"centred": True}
    return Sae(
        SparseAutoencoder(
            *(name, None, "", W_dec.T.contiguous(), torch.full((1024,), -0.1), W_dec, torch.full((768,), 0.01)),
            subtract_b_dec=True,
            **conventions,
        )
    )


@pytest.mark.parametrize(
    ("method", "layer"),
    [*((method, 1) for method in METHODS), ("das", 0), ("openai", 0), ("neuron", 2), ("bloom", 2)],
)
def test_engines_agree(subject, cache, pairs, method, layer):
    """Logits to 2e-5, the mask's gradient (and the rotation's) to 1e-4 of its largest entry, at a random mask."""
    results = []
    for Engine in (FastEngine, NnsightEngine):
        featurizer = make_featurizer(method)
        engine = Engine(subject, cache, layer, featurizer)
        mask = torch.rand(featurizer.n_features, generator=torch.Generator().manual_seed(2))
        alive = engine.bound.alive if Engine is FastEngine else None
        mask = (mask if alive is None else mask[alive]).requires_grad_()
        logits = engine.logits(pairs, mask)
        torch.nn.functional.cross_entropy(logits, pairs.label).backward()
        gradients = [engine.widen(mask.grad), *(p.grad.tril(-1) for p in featurizer.parameters())]
        results.append((logits.detach(), gradients))
    (fast, fast_gradients), (plain, plain_gradients) = results
    assert fast.shape == (len(pairs), SIZES["vocab_size"])
    assert (fast - plain).abs().max() < LOGITS
    for ours, theirs in zip(fast_gradients, plain_gradients, strict=True):
        assert theirs.abs().max() > 1e-7  # there is something to compare
        assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()


@pytest.mark.parametrize("layer", LAYERS[1:])
def test_batched_loss_gives_each_run_its_own_answers(subject, cache, pairs, layer):
    """Runs of four methods, with masks and pairs of their own, some of one prefix only; gradients do not mix either.

    Against the plain engine: losses by hand from its logits, to 1e-5; and its likeliest tokens.
    """
    chosen = torch.tensor([[0, 1, 2, 3], [0, 2, 0, 2], [4, 3, 5, 1], [3, 3, 3, 3]])
    fast, plain = [], []
    for method in METHODS:
        fast.append(FastEngine(subject, cache, layer, make_featurizer(method)))
        plain.append(NnsightEngine(subject, cache, layer, make_featurizer(method)))
    masks = [
        torch.rand(engine.n_active, generator=torch.Generator().manual_seed(i)).requires_grad_()
        for i, engine in enumerate(fast)
    ]
    loss, best = FastEngine.batched_loss(fast, pairs.base[chosen], pairs.source[chosen], pairs.label[chosen], masks)
    assert loss.shape == best.shape == chosen.shape
    weight = torch.rand(chosen.shape, generator=torch.Generator().manual_seed(9))
    gradients = torch.autograd.grad((loss * weight).sum(), masks)
    for j, engine in enumerate(plain):
        its = pairs[chosen[j]]
        mask = masks[j].detach().clone().requires_grad_()
        logits = engine.logits(its, fast[j].widen(mask))
        by_hand = logits.logsumexp(-1) - logits[range(4), its.label]
        assert (loss[j] - by_hand).abs().max() < 1e-5
        assert torch.equal(best[j], logits.argmax(-1))
        (wanted,) = torch.autograd.grad((by_hand * weight[j]).sum(), mask)
        assert wanted.abs().max() > 1e-7
        assert (gradients[j] - wanted).abs().max() < 1e-4 * wanted.abs().max()


@pytest.mark.parametrize("layer", [*LAYERS, 3])
def test_fast_logits_equal_plain_hooks(subject, prompts, pairs, layer):
    """Half of the coordinates from the source, written in by a forward hook; of the last layer too."""
    mask, rows = (torch.arange(768) % 2).float(), prompts.rows
    with torch.no_grad():
        wanted = [
            by_hooks(subject.model, subject.model.transformer.h, layer, rows[b], rows[s], mask, torch.eye(768))
            for b, s in zip(pairs.base.tolist(), pairs.source.tolist(), strict=True)
        ]
        engine = FastEngine(subject, subject.harvest(prompts, [layer], progress=False), layer, Neuron(768))
        found = engine.logits(pairs, mask)
        assert (found - torch.stack(wanted)).abs().max() < LOGITS
        difference = (engine.logits(pairs, torch.zeros(768)) - found).abs().max()
    # If a patch hardly mattered, this test could not see an error; after the last layer it cannot reach the end.
    assert difference > 100 * LOGITS if layer < 3 else difference == 0


def test_known_facts_are_those_of_full_forward_passes(subject, cache, prompts):
    with torch.no_grad():
        wanted = [int(subject.model(torch.tensor([p.tokens])).logits[0, -1].argmax()) for p in prompts.rows]
    assert cache.best_R.tolist() == wanted
    prompts = prompts.keep(list(range(len(prompts))))  # a copy, as labels are changed
    for attribute in ("country", "continent"):  # the first city is known, others by accident at most
        row = prompts.row(attribute, 0)
        prompts.rows[row] = replace(prompts.rows[row], label=wanted[row])
    known, report = known_facts(prompts, cache.best_R)
    assert known[0] == 0 and report["known"] == len(known) < len(prompts)
