"""A decoder's own layers, called one by one: masks, known keys, rotary tables, and what is refused."""

import pytest
import torch
import transformers
from helpers_decoders import (
    ARCHITECTURES,
    LAYERS,
    D,
    V,
    largest_share,
    layers_of,
    random_prompts,
    randomised,
    residuals_by_hooks,
    tiny,
    tiny_subject,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from decoder.layers import PADDING, KnownKeys, Layers, additive_mask
from decoder.structure import find_structure
from models import Subject

NONE = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))


def layers_in(model, name: str = "my/model") -> Layers:
    return Layers(model, find_structure(model, name), name)


# ---------------------------------------------------------------- masks


def visible(*args, dtype=torch.float32):
    """The mask as a list of strings, 'x' where a position is seen."""
    mask = additive_mask(*args, dtype)
    lowest = torch.finfo(dtype).min
    assert mask.dtype == dtype and ((mask == 0) | (mask == lowest)).all()
    return [["".join("x" if value == 0 else "." for value in row) for row in one[0]] for one in mask.tolist()]


def test_additive_mask_by_hand():
    """Two rows: prefix 0 1, own tokens (two, or one behind a slot of padding), then the suffix."""
    seen = torch.tensor([[0, 1, 2, 3, 4, 5, 6], [0, 1, -1, 2, 3, 4, -1]])
    asking = torch.tensor([[4, 5, 6], [3, 4, -1]])
    assert visible(asking, seen, None) == [
        ["xxxxx..", "xxxxxx.", "xxxxxxx"],
        ["xx.xx..", "xx.xxx.", "......."],
    ]
    assert visible(asking, seen, 3) == [
        ["..xxx..", "...xxx.", "....xxx"],
        [".x.xx..", "...xxx.", "......."],
    ]
    assert visible(asking, seen, 1) == [
        ["....x..", ".....x.", "......x"],
        ["....x..", ".....x.", "......."],
    ]


@settings(max_examples=60, deadline=None)
@given(
    positions=st.lists(st.integers(-1, 9), min_size=1, max_size=8),
    asking=st.lists(st.integers(0, 9), min_size=1, max_size=3),
    window=st.one_of(st.none(), st.integers(1, 10)),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
)
def test_additive_mask_of_any_positions(positions, asking, window, dtype):
    """The sentence: a position sees itself and those before it, at most `window` of them, and no padding."""
    wanted = [
        "".join(
            "x" if p != PADDING and p in range(0 if window is None else q - window + 1, q + 1) else "."
            for p in positions
        )
        for q in asking
    ]
    assert visible(torch.tensor([asking]), torch.tensor([positions]), window, dtype=dtype) == [wanted]


# ---------------------------------------------------------------- known keys


def test_known_keys_stand_before_new_ones_and_do_not_grow():
    known = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    new = torch.randn(2, 3, 1, 5), torch.randn(2, 3, 1, 5)
    cache = KnownKeys(*known)
    for _ in range(2):
        for found, first, second in zip(cache.update(*new, 7, {"sin": 0}), known, new, strict=True):
            assert torch.equal(found, torch.cat([first, second], dim=2))
    assert KnownKeys().update(*new, 0) == new


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_keys_and_values_are_those_of_the_models_own_cache(name):
    """Of every layer but the first, from the residuals before it, in a plain forward pass with a DynamicCache."""
    model = tiny(name)
    decoder = layers_in(model)
    tokens = random_prompts(0).rows[3].tokens
    x = residuals_by_hooks(model, layers_of(name, model), tokens)
    cache = transformers.DynamicCache()
    with torch.no_grad():
        model(input_ids=torch.tensor([tokens]), past_key_values=cache, use_cache=True)
        decoder.prepare_positions(len(tokens))
        for i in range(1, LAYERS):
            found = decoder.keys_and_values(i, x[i - 1][None], torch.arange(len(tokens))[None])
            for ours, theirs in zip(found, (cache.layers[i].keys, cache.layers[i].values), strict=True):
                assert ours.shape == theirs.shape and largest_share(ours, theirs) < 1e-5
            # Also of some positions, in any order.
            some = torch.tensor([[7, 2, 5]])
            for ours, theirs in zip(decoder.keys_and_values(i, x[i - 1][some], some), found, strict=True):
                assert largest_share(ours, theirs[:, :, some[0]]) < 1e-5


def test_keys_and_values_run_neither_attention_nor_mlp():
    """The layer is left as soon as its cache is asked: its MLP could not even be called."""
    model = tiny("llama")
    decoder = layers_in(model)
    model.model.layers[1].mlp = None
    x = torch.randn(1, 3, D)
    keys, values = decoder.keys_and_values(1, x, torch.tensor([[0, 1, 2]]))
    assert keys.shape == values.shape == (1, 2, 3, D // 4)


# ---------------------------------------------------------------- the norm, outputs, positions

NORMS = {
    "gpt2": "transformer.ln_f",
    "neox": "gpt_neox.final_layer_norm",
    "llama": "model.norm",
    "gemma3": "model.norm",
}


@pytest.mark.parametrize("name", NORMS)
def test_norm_is_the_module_behind_the_last_layer(name):
    model = tiny(name)
    assert layers_in(model).norm is model.get_submodule(NORMS[name])


def test_norm_of_a_decoder_without_one_is_the_identity():
    """OPT with norms behind its sublayers, as the published 350M has them."""
    sizes = {"vocab_size": V, "hidden_size": D, "ffn_dim": 48, "num_hidden_layers": 3, "word_embed_proj_dim": D}
    config = transformers.OPTConfig(**sizes, num_attention_heads=4, do_layer_norm_before=False, **NONE)
    assert isinstance(Subject(randomised(config), None, "opt").layers.norm, torch.nn.Identity)


def test_layers_may_return_tuples():
    """GPT-J's do, Llama's give the residual itself; [0] of that would be the first row of a batch."""
    sizes = {"vocab_size": V, "n_embd": D, "n_layer": 3, "n_head": 4, "n_positions": 64, "rotary_dim": 4}
    gptj = Subject(randomised(transformers.GPTJConfig(**sizes, **NONE)), None, "gptj")
    assert gptj.layers.returns_tuple and not tiny_subject("llama").layers.returns_tuple
    gptj.harvest(random_prompts(0), [0], progress=False)  # compares its logits


def test_rotary_tables_grow_with_the_positions():
    """Gemma 3 has one per kind of layer; what was there stays as it was, and harvest asks for as many as it needs."""
    subject = tiny_subject("gemma3")
    decoder = subject.layers
    before = decoder.tables
    assert all(len(table[0]) >= 8 for table in before)
    assert not torch.equal(before[0][0], before[1][0])
    decoder.prepare_positions(5)
    assert decoder.tables is before
    decoder.prepare_positions(40)
    for old, new in zip(before, decoder.tables, strict=True):
        assert all(len(t) == 40 and torch.equal(t[: len(s)], s) for s, t in zip(old, new, strict=True))
    long = random_prompts(0, before=(41, 45))
    subject.layer_cache(subject.harvest(long, [1], progress=False), 1)
    assert all(len(table[0]) >= long.longest() for table in decoder.tables)


# ---------------------------------------------------------------- what is refused


def refusal(call) -> str:
    with pytest.raises(UserError) as caught:
        call()
    line = str(caught.value)
    assert "\n" not in line and "my/model" in line and "--model" in line
    return line


def test_layers_with_an_argument_that_is_not_understood_are_refused():
    """Bloom gives each layer a tensor of its position biases (alibi), which depends on the prompt's length."""
    model = randomised(transformers.BloomConfig(vocab_size=V, hidden_size=D, n_layer=3, n_head=4, **NONE))
    assert "alibi" in refusal(lambda: layers_in(model))
    assert "alibi" in refusal(lambda: Subject(model, None, "my/model"))


def test_layers_with_windows_of_their_own_are_refused_by_harvest():
    """GPT-Neo's local layers cut their window out of slots, not positions, and no config field says so."""
    sizes = {"vocab_size": V, "hidden_size": D, "num_heads": 4, "intermediate_size": 48, "num_layers": 4}
    local = {"attention_types": [[["global", "local"], 2]], "window_size": 4, "max_position_embeddings": 64}
    subject = Subject(randomised(transformers.GPTNeoConfig(**sizes, **local, **NONE)), None, "my/model")
    line = refusal(lambda: subject.harvest(random_prompts(0), [1], progress=False))
    assert "cannot be patched exactly" in line


def test_layers_that_run_twice_are_refused(monkeypatch):
    model = tiny("llama")
    forward = model.model.forward
    monkeypatch.setattr(model.model, "forward", lambda **given: (forward(**given), forward(**given))[1])
    assert "one after the other" in refusal(lambda: layers_in(model))


def test_layers_without_a_cache_are_refused(monkeypatch):
    model = tiny("llama")
    forward = model.model.forward
    ignoring = {"past_key_values": None, "use_cache": False}
    monkeypatch.setattr(model.model, "forward", lambda **given: forward(**{**given, **ignoring}))
    assert "no cache" in refusal(lambda: layers_in(model))


def test_a_layer_that_does_not_ask_its_cache_is_refused(monkeypatch):
    model = tiny("llama")
    decoder = layers_in(model)
    monkeypatch.setattr(model.model.layers[1], "forward", lambda hidden_states, **_: hidden_states)
    line = refusal(lambda: decoder.keys_and_values(1, torch.randn(1, 3, D), torch.tensor([[0, 1, 2]])))
    assert "layer 1 of my/model" in line
