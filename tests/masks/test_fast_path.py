"""The fast path against nnsight and against a plain forward pass, on GPT-2 small's shape."""

from __future__ import annotations

import pytest
import torch
import transformers

from data.intervention_data import PairBatch, index_pairs
from data.ravel_data_prep import build_prompts, known_facts
from featurizers.das import Das
from featurizers.neuron import Neuron
from featurizers.sae import Sae
from masks.engines import FastEngine, NnsightEngine
from models import Site, Subject
from saes.autoencoder import SparseAutoencoder
from toy import world as toy

LAYERS = (0, 5, 10)  # the first, a middle and the last but one
LOGITS = 2e-5


@pytest.fixture(scope="module")
def subject() -> Subject:
    """GPT-2 small's shape; random weights three times as large as at the start of training, so that attention
    is far from uniform and a wrong mask or position shows in the logits."""
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config())
    with torch.no_grad():
        for block in model.transformer.h:
            block.attn.c_attn.weight *= 3
    return Subject(model, toy.toy_tokenizer(toy.toy_cities()), "random")


@pytest.fixture(scope="module")
def prompts(subject):
    """Six cities behind the few-shot prefix; country and continent prompts differ in length."""
    found = build_prompts(toy.toy_cities()[::20], subject.tokenizer, "few-shot")
    assert found.tokens["country"].shape[1] != found.tokens["continent"].shape[1]
    return found


@pytest.fixture(scope="module")
def harvest(subject, prompts):
    return subject.harvest(prompts, list(LAYERS), progress=False)


@pytest.fixture(scope="module")
def pairs(prompts):
    """Cause and isolation pairs in mixed order, so that rows of the two prefixes alternate."""
    a, b, c = (city.name for city in prompts.cities[:3])
    chosen = [(a, b, "cause"), (b, c, "isolation"), (c, a, "cause"), (a, c, "isolation"), (b, a, "isolation")]
    return index_pairs(chosen, prompts, "country")


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


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("method", ["neuron", "das", "openai", "bloom"])
def test_engines_agree(subject, prompts, harvest, pairs, layer, method):
    """Logits to 2e-5, the mask's gradient (and the rotation's) to 1e-4 of its largest entry, at a random mask."""
    results = []
    for Engine in (FastEngine, NnsightEngine):
        featurizer = make_featurizer(method)
        engine = Engine(subject, prompts, harvest, layer, featurizer)
        mask = torch.rand(featurizer.n_features, generator=torch.Generator().manual_seed(2))
        alive = getattr(getattr(engine, "frozen", None), "alive", None)
        mask = (mask if alive is None else mask[alive]).requires_grad_()
        logits = engine.logits(pairs, mask)
        torch.nn.functional.cross_entropy(logits, pairs.label).backward()
        gradients = [engine.widen(mask.grad), *(p.grad.tril(-1) for p in featurizer.parameters)]
        results.append((logits.detach(), gradients))
    (fast, fast_gradients), (plain, plain_gradients) = results
    assert fast.shape == (len(pairs), 50257)
    assert (fast - plain).abs().max() < LOGITS
    for ours, theirs in zip(fast_gradients, plain_gradients, strict=True):
        assert theirs.abs().max() > 1e-7  # there is something to compare
        assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()


@pytest.mark.parametrize("layer", LAYERS)
def test_rows_in_any_order_behind_all_prefixes_at_once(subject, prompts, harvest, pairs, layer, monkeypatch):
    """As elsewhere than on a CPU: the plain engine's logits and gradient, and to rounding those of sorted rows."""
    mask = torch.rand(768, generator=torch.Generator().manual_seed(2)).requires_grad_()
    engine = FastEngine(subject, prompts, harvest, layer, Neuron(768))
    plain = NnsightEngine(subject, prompts, harvest, layer, Neuron(768))
    assert engine.site.sorts
    results = []
    for its, sorts in ((plain, True), (engine, True), (engine, False)):
        monkeypatch.setattr(engine.site, "sorts", sorts)
        logits = its.logits(pairs, mask)
        loss = torch.nn.functional.cross_entropy(logits, pairs.label)
        results.append((logits.detach(), torch.autograd.grad(loss, mask)[0]))
    (wanted, wanted_gradient), *found = results
    for logits, gradient in found:
        assert (logits - wanted).abs().max() < LOGITS
        assert (gradient - wanted_gradient).abs().max() < 1e-4 * wanted_gradient.abs().max()


@pytest.mark.parametrize("layer", LAYERS)
def test_a_joint_batch_gives_each_run_its_own_answers(subject, prompts, harvest, pairs, layer):
    """Runs of four methods, with masks and pairs of their own, some of one prefix only; gradients do not mix either.

    Against the plain engine: losses by hand from its logits, to 1e-5; and its likeliest tokens.
    """
    chosen = torch.tensor([[0, 1, 2, 3], [0, 2, 0, 2], [4, 3, 2, 1], [3, 3, 3, 3]])
    fast, plain = [], []
    for method in ("neuron", "das", "openai", "bloom"):
        fast.append(FastEngine(subject, prompts, harvest, layer, make_featurizer(method)))
        plain.append(NnsightEngine(subject, prompts, harvest, layer, make_featurizer(method)))
    masks = [
        torch.rand(engine.n_active, generator=torch.Generator().manual_seed(i)).requires_grad_()
        for i, engine in enumerate(fast)
    ]
    loss, best = FastEngine.joint(fast, pairs.base[chosen], pairs.source[chosen], pairs.label[chosen], masks)
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


@pytest.mark.parametrize("layer", LAYERS)
def test_cities_patched_with_themselves_need_no_blocks(subject, prompts, harvest, pairs, layer, monkeypatch):
    """Among others: the plain engine's losses and gradients, from fewer rows; and to the bit those of all rows."""
    source = pairs.source.clone()
    own = torch.tensor([1, 4])
    source[own] = pairs.base[own]
    chosen = torch.tensor([[0, 1, 2, 3], [4, 3, 2, 1]])
    methods = ("neuron", "openai")
    fast = [FastEngine(subject, prompts, harvest, layer, make_featurizer(method)) for method in methods]
    assert all(engine.leaves_out for engine in fast)
    masks = [
        torch.rand(engine.n_active, generator=torch.Generator().manual_seed(i)).requires_grad_()
        for i, engine in enumerate(fast)
    ]
    run, n_rows, found = Site.run, [], []
    for engine in fast:
        engine.unmoved("fp32")
    monkeypatch.setattr(Site, "run", lambda site, x, *args: (n_rows.append(len(x)), run(site, x, *args))[1])
    for leaves_out in (True, False):
        fast[0].leaves_out = leaves_out
        loss, best = FastEngine.joint(fast, pairs.base[chosen], source[chosen], pairs.label[chosen], masks)
        found.append((loss.detach(), best, *torch.autograd.grad(loss.sum(), masks)))
    assert n_rows == [5, 8]
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)
    for j, method in enumerate(methods):
        its = PairBatch(*(t[chosen[j]] for t in (pairs.base, source, pairs.label, pairs.is_cause)))
        mask = masks[j].detach().clone().requires_grad_()
        logits = NnsightEngine(subject, prompts, harvest, layer, make_featurizer(method)).logits(
            its, fast[j].widen(mask)
        )
        by_hand = logits.logsumexp(-1) - logits[range(4), its.label]
        assert (found[0][0][j] - by_hand).abs().max() < 1e-5
        assert torch.equal(found[0][1][j], logits.argmax(-1))
        (wanted,) = torch.autograd.grad(by_hand.sum(), mask)
        assert (found[0][2 + j] - wanted).abs().max() < 1e-4 * wanted.abs().max()


@pytest.mark.parametrize("rows", [1, 2])
def test_where_next_to_nothing_is_patched(subject, prompts, harvest, pairs, rows):
    """All cities with themselves, or all but one: as without leaving rows out."""
    engine = FastEngine(subject, prompts, harvest, LAYERS[0], make_featurizer("neuron"))
    base, label = pairs.base[None], pairs.label[None]
    source = base.clone()
    source[0, : rows - 1] = pairs.source[: rows - 1]
    mask = torch.full((768,), 0.3)
    loss, best = FastEngine.joint([engine], base, source, label, [mask])
    engine.leaves_out = False
    for ours, theirs in zip((loss, best), FastEngine.joint([engine], base, source, label, [mask]), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("layer", [*LAYERS, 11])
def test_patched_logits_equal_a_plain_hook(subject, prompts, pairs, layer):
    """Half of the coordinates from the source, written in by a forward hook."""
    mask = (torch.arange(768) % 2).float()
    seen = {}

    def read(module, args, output):
        seen["x"] = (output[0] if isinstance(output, tuple) else output)[0, -8].clone()

    def write(module, args, output):
        x = (output[0] if isinstance(output, tuple) else output).clone()
        x[0, -8] = torch.where(mask.bool(), seen["x"], x[0, -8])
        return (x, *output[1:]) if isinstance(output, tuple) else x

    tokens = [*prompts.tokens["country"], *prompts.tokens["continent"]]
    wanted = []
    with torch.no_grad():
        for base, source in zip(pairs.base.tolist(), pairs.source.tolist(), strict=True):
            for hook, row in ((read, source), (write, base)):
                handle = subject.blocks[layer].register_forward_hook(hook)
                logits = subject.model(tokens[row][None]).logits[0, -1]
                handle.remove()
            wanted.append(logits)
        got = FastEngine(subject, prompts, subject.harvest(prompts, [layer], progress=False), layer, Neuron(768))
        difference = (got.logits(pairs, mask) - torch.stack(wanted)).abs().max()
    assert difference < LOGITS


def test_harvested_residuals_are_those_of_whole_prompts(subject, prompts, harvest):
    """Of the last eight positions of every prompt, and of what stands before the city."""
    for layer in LAYERS:
        seen = []

        def read(_module, _args, output, seen=seen):
            seen.append(output[0] if isinstance(output, tuple) else output)

        hook = subject.blocks[layer].register_forward_hook(read)
        with torch.no_grad():
            for tokens in prompts.tokens.values():
                subject.model(tokens)
        hook.remove()
        scale = torch.cat([x.flatten() for x in seen]).abs().max()
        wanted = torch.cat([x[:, -8:] for x in seen])
        assert harvest.residuals[layer].shape == wanted.shape
        assert (harvest.residuals[layer] - wanted).abs().max() < 1e-5 * scale
        for a, x in enumerate(seen):
            for row in x:
                assert (harvest.prefix_residuals[layer][a] - row[:-8]).abs().max() < 1e-5 * scale


def test_a_patch_matters_and_a_wrong_prefix_shows(subject, prompts, harvest, pairs):
    """The tests above could not see an error if patch or prefix hardly changed the logits."""
    engine = FastEngine(subject, prompts, harvest, 5, Neuron(768))
    with torch.no_grad():
        nothing, everything = engine.logits(pairs, torch.zeros(768)), engine.logits(pairs, torch.ones(768))
        assert (nothing - everything).abs().max() > 100 * LOGITS
        harvest_of_other = type(harvest)(harvest.residuals, harvest.prefixes[::-1], harvest.prefix_of)
        wrong = FastEngine(subject, prompts, harvest_of_other, 5, Neuron(768)).logits(pairs, torch.zeros(768))
        assert (nothing - wrong).abs().max() > 100 * LOGITS


def test_known_facts_are_those_of_a_full_forward_pass(subject, prompts):
    """`predict` runs eight positions behind a prefix computed once; the model runs them all."""
    prompts = prompts.keep(list(range(len(prompts))))  # a copy, as labels are changed
    for attribute, tokens in prompts.tokens.items():
        with torch.no_grad():
            wanted = subject.model(tokens).logits[:, -1].argmax(-1)
        assert torch.equal(subject.predict(tokens, prompts.suffix), wanted)
        prompts.labels[attribute][0] = wanted[0]  # the first city is known, others by accident at most
    known, report = known_facts(prompts, lambda tokens: subject.predict(tokens, 8), batch_size=4, progress=False)
    assert known.cities[0] == prompts.cities[0]
    assert report["known"] == len(known)


def test_only_plain_gpt2_is_accepted():
    from common.errors import UserError

    for flag in ("scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn"):
        config = transformers.GPT2Config(n_layer=1, n_embd=8, n_head=1, **{flag: True})
        with pytest.raises(UserError, match=flag):
            Subject(transformers.GPT2LMHeadModel(config), None, "odd")
