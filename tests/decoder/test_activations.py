"""What `harvest` keeps of prompts, against one plain forward pass of each whole prompt."""

import pytest
import torch
import transformers
from helpers_decoders import (
    LAYERS,
    D,
    by_hooks,
    largest_share,
    layers_of,
    random_prompts,
    residuals_by_hooks,
    tiny,
    tiny_subject,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from data.prompts import Prompts
from decoder.activations import ActivationCache
from decoder.layers import PADDING
from models import Subject

NEAR = 1e-5  # of the largest: rounding
ASKED = [0, 2, LAYERS - 1]


def harvested(name: str, prompts: Prompts, layers=ASKED, **options) -> ActivationCache:
    return tiny_subject(name).harvest(prompts, list(layers), progress=False, **options)


def require_equal_to_plain_passes(name: str, prompts: Prompts, cache: ActivationCache, asked=ASKED) -> None:
    """Residuals, keys and values, positions and best token of every row."""
    model = tiny(name)
    assert cache.layers == asked and cache.prompts is prompts
    own_slots = []
    for r, prompt in enumerate(prompts.rows):
        x = residuals_by_hooks(model, layers_of(name, model), prompt.tokens)
        plain = transformers.DynamicCache()
        with torch.no_grad():
            out = model(input_ids=torch.tensor([prompt.tokens]), past_key_values=plain, use_cache=True)
        assert cache.best_R is None or cache.best_R[r] == out.logits[0, -1].argmax()

        n = len(prompt.tokens) - prompt.at
        assert cache.positions_RS[r].tolist()[:n] == list(range(prompt.at, len(prompt.tokens)))
        assert (cache.positions_RS[r, n:] == PADDING).all() and cache.end_R[r] == n - 1
        prefix = cache.prefixes[cache.prefix_of_R[r]]
        P = len(prefix.tokens)
        assert prompt.tokens[:P] == prefix.tokens
        own = cache.own_index_RO[r][cache.own_index_RO[r] > 0]
        assert len(own) == prompt.at - P
        own_slots += own.tolist()
        for layer in asked:
            kept = cache.residuals[layer][r]
            assert kept.dtype == torch.float32 and not kept[n:].any()
            parts = (kept[:n], x[layer][prompt.at :]), (prefix.residuals[layer], x[layer][:P])
            for found, wanted in (*parts, (cache.own_residuals[layer][own], x[layer][P : prompt.at])):
                assert found.shape == wanted.shape
                assert not len(wanted) or largest_share(found, wanted) < NEAR

        positions = cache.behind_positions()[r]
        slots = positions != PADDING
        assert positions[slots].tolist() == list(range(prompt.at))
        for i in range(LAYERS):
            wanted = plain.layers[i].keys[0], plain.layers[i].values[0]
            for found, full in zip(cache.behind_keys_values(i, torch.tensor([r])), wanted, strict=True):
                assert not found[0][:, ~slots].any()
                if prompt.at:
                    assert largest_share(found[0][:, slots], full[:, : prompt.at]) < NEAR
    assert sorted(own_slots) == list(range(1, len(own_slots) + 1))  # each row has slots of its own


@pytest.mark.parametrize("name", ["gpt2", "neox", "llama", "gemma3"])
def test_harvest_equals_plain_passes(name):
    """Cities of 1 to 4 tokens behind prefixes of 9 and 11."""
    prompts = random_prompts(0)
    cache = harvested(name, prompts)
    assert [len(prefix.tokens) for prefix in cache.prefixes] == [9, 11]
    assert cache.own_index_RO.shape == (8, 3)
    require_equal_to_plain_passes(name, prompts, cache)


@pytest.mark.parametrize("asked", [[0], [0, 2], [LAYERS - 1]], ids=str)
@pytest.mark.parametrize("name", ["gpt2", "neox", "llama", "gemma3"])
def test_harvest_without_answers(name, asked):
    """The same, though suffixes run no further than the last layer asked for; own tokens are seen in all layers."""
    prompts = random_prompts(0, own=(1, 2, 3, 4, 1, 2))
    subject, n_tokens = tiny_subject(name), [0] * LAYERS

    def count(layer: int, output) -> None:
        n_tokens[layer] += (output if torch.is_tensor(output) else output[0]).shape[:2].numel()

    layers = layers_of(name, subject.model)
    hooks = [m.register_forward_hook(lambda *call, i=i: count(i, call[2])) for i, m in enumerate(layers)]
    cache = subject.harvest(prompts, asked, batch_size=1, progress=False, answers=False)
    for hook in hooks:
        hook.remove()
    assert cache.best_R is None
    assert cache.keep([1, 2]).best_R is None
    require_equal_to_plain_passes(name, prompts, cache, asked)
    whole, behind = n_tokens[asked[-1]], n_tokens[-1]
    assert whole == behind if asked == [LAYERS - 1] else whole > 1.3 * behind


PREFIXES = {"none": (0, 0), "one of two": (0, 5), "the other": (1, 0)}


@pytest.mark.parametrize("own", [(1, 2, 3, 4), (1, 1, 1), (3, 3)], ids=str)
@pytest.mark.parametrize("before", PREFIXES.values(), ids=PREFIXES)
def test_harvest_behind_an_empty_prefix(before, own):
    """No start token, and the city stands first: with cities of one token nothing at all stands before the patch."""
    prompts = random_prompts(1, own, before=before)
    cache = harvested("llama", prompts)
    assert [len(prefix.tokens) for prefix in cache.prefixes] == list(before)
    require_equal_to_plain_passes("llama", prompts, cache)


@pytest.mark.parametrize("name", ["gpt2", "gemma3"])
@pytest.mark.parametrize("own", [(1, 2, 3, 4), (1, 1, 1)], ids=str)
def test_patch_behind_an_empty_prefix_equals_hooks(name, own):
    model, prompts = tiny(name), random_prompts(1, own, before=(0, 0))
    subject = Subject(model, None, name)
    cache = subject.harvest(prompts, [1, LAYERS - 2], progress=False)
    rows = torch.arange(len(prompts.rows))
    mask = torch.rand(D, generator=torch.Generator().manual_seed(2))
    for layer in (1, LAYERS - 2):
        at_layer = subject.layer_cache(cache, layer)
        x = at_layer.residuals[:, 0]
        with torch.no_grad():
            found = subject.logits(at_layer.run(x + mask * (x.flip(0) - x), rows))
            wanted = [
                by_hooks(model, layers_of(name, model), layer, base, source, mask, torch.eye(D))
                for base, source in zip(prompts.rows, prompts.rows[::-1], strict=True)
            ]
        assert largest_share(found, torch.stack(wanted)) < 1e-4


def test_harvest_of_a_single_city():
    """All tokens before its last one are then shared; its own are none."""
    prompts = random_prompts(0, own=(3,))
    cache = harvested("llama", prompts)
    assert [len(prefix.tokens) for prefix in cache.prefixes] == [11, 13]
    require_equal_to_plain_passes("llama", prompts, cache)


def test_harvest_runs_a_shared_prefix_once():
    """And every other token once: neither prefixes nor prompts are run again to find the known facts."""
    subject, prompts = tiny_subject("llama"), random_prompts(0)
    seen = []
    with torch.no_grad():
        hook = subject.model.model.embed_tokens.register_forward_hook(lambda *call: seen.append(call[1][0]))
        cache = subject.harvest(prompts, [1], progress=False)
    hook.remove()
    n_prefix = [len(prefix.tokens) for prefix in cache.prefixes]
    behind = sum(len(p.tokens) - n_prefix[p.attribute == "continent"] for p in prompts.rows)
    seen = [tokens for tokens in seen if tokens.tolist() != made_up_tokens(subject, tokens.shape[1])]
    assert sum(tokens.numel() for tokens in seen) == sum(n_prefix) + behind
    assert [tuple(tokens[0].tolist()) for tokens in seen[:2]] == [prefix.tokens for prefix in cache.prefixes]


def made_up_tokens(subject: Subject, n: int) -> list:
    """Those from which rotary tables are read off (decoder/layers.py)."""
    return [[(i * 7919 + 100) % subject.structure.head.out_features for i in range(n)]]


@settings(max_examples=15, deadline=None)
@given(batch_size=st.integers(1, 9), seed=st.integers(0, 100), own=st.lists(st.integers(1, 3), min_size=2, max_size=6))
def test_harvest_does_not_depend_on_the_batch_size(batch_size, seed, own):
    prompts = random_prompts(seed, tuple(own))
    one, other = (harvested("llama", prompts, batch_size=size) for size in (64, batch_size))
    assert torch.equal(one.best_R, other.best_R)
    for layer in ASKED:
        assert largest_share(other.residuals[layer], one.residuals[layer]) < NEAR
    rows = torch.arange(len(prompts.rows))
    for i in range(LAYERS):
        for ours, theirs in zip(other.behind_keys_values(i, rows), one.behind_keys_values(i, rows), strict=True):
            assert largest_share(ours, theirs) < NEAR


def test_keep_is_the_rows_of_these_cities():
    """About both attributes; what is kept is what the same model gives for them alone."""
    prompts = random_prompts(0)
    everyone, chosen = harvested("gemma3", prompts), [3, 0, 2]
    kept = everyone.keep(chosen)
    rows = [0, 2, 3, 4, 6, 7]
    assert [p.tokens for p in kept.prompts.rows] == [prompts.rows[r].tokens for r in rows]
    assert [p.entity for p in kept.prompts.rows] == [0, 1, 2, 0, 1, 2]
    assert torch.equal(kept.best_R, everyone.best_R[rows])
    require_equal_to_plain_passes("gemma3", kept.prompts, kept_order(kept))
    assert {i: rows[i] for i in kept.some_logits} == {i: r for i, r in enumerate(rows) if r in everyone.some_logits}
    for i, logits in kept.some_logits.items():
        assert torch.equal(logits, everyone.some_logits[rows[i]])
    assert len(everyone.residuals[0]) == len(everyone.best_R) == 8  # left as it was


def kept_order(cache: ActivationCache) -> ActivationCache:
    """With the slots of own tokens numbered anew, as rows that fell out leave gaps."""
    used = cache.own_index_RO.unique()
    used = torch.cat([used.new_zeros(1), used[used > 0]])
    cache.own_index_RO = torch.searchsorted(used, cache.own_index_RO)
    cache.own_keys_values = [tuple(t[used] for t in pair) for pair in cache.own_keys_values]
    cache.own_residuals = {layer: x[used] for layer, x in cache.own_residuals.items()}
    return cache


def test_keep_of_nobody_known_is_empty():
    kept = harvested("llama", random_prompts(0)).keep([])
    assert len(kept.prompts) == len(kept.best_R) == len(kept.residuals[0]) == 0


def test_patching_what_is_kept_equals_patching_everyone():
    """A row's answer does not depend on which others were kept."""
    subject, prompts = tiny_subject("gemma3"), random_prompts(0)
    everyone = subject.harvest(prompts, [1], progress=False)
    rows = [0, 3, 4, 7]
    results = []
    for cache, base in ((everyone, rows), (everyone.keep([3, 0]), [0, 1, 2, 3])):
        at_layer = subject.layer_cache(cache, 1)
        base = torch.tensor(base)
        with torch.no_grad():
            results.append(subject.logits(at_layer.run(at_layer.residuals[base.flip(0), 0], base)))
    assert largest_share(*results) < NEAR
