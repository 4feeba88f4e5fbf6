"""The layers, the head and the windows of a decoder, found by structure and by its config."""

from types import SimpleNamespace

import pytest
import torch
import transformers
from helpers_decoders import ARCHITECTURES, GPT2, GROUPED, LAYERS, D, layers_of, randomised, tiny

from common.errors import UserError
from decoder.structure import find_structure
from models import Subject

WINDOWS = {
    "mistral": (4,) * LAYERS,
    "gemma2": (4, None, 4, None, 4),  # the layers take turns by transformers' default
    "gemma3": (4, None, 4, None, 4),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_structure_of_every_architecture(name):
    model = tiny(name)
    found = find_structure(model, name)
    assert found.layers is layers_of(name, model)
    assert found.layers_path == ARCHITECTURES[name][2]
    assert found.trunk is model.base_model
    assert found.head is model.get_output_embeddings()
    assert (found.d_model, found.n_positions) == (D, 64)
    assert found.windows == WINDOWS.get(name, (None,) * LAYERS)
    assert (found.scale, found.softcap) == (1.0, 3.0 if name == "gemma2" else None)


SCALED = {
    "cohere": (transformers.CohereConfig(**GROUPED, logit_scale=0.25), 0.25),
    "granite": (transformers.GraniteConfig(**GROUPED, logits_scaling=4.0, residual_multiplier=0.5), 0.25),
}


@pytest.mark.parametrize(("config", "scale"), SCALED.values(), ids=SCALED)
def test_structure_scale_of_logits(config, scale):
    """And with it the logits are the model's own, or `Subject` would refuse the model."""
    model = randomised(config)
    assert find_structure(model, "x").scale == scale
    assert Subject(model, None, "x").head().scale == scale


@pytest.mark.parametrize("flag", ["scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn"])
def test_structure_accepts_gpt2_with_other_attention(flag):
    """The layers are called whole, so what they do inside is their own affair."""
    Subject(randomised(transformers.GPT2Config(**GPT2, **{flag: True})), None, "x")


# ---------------------------------------------------------------- lists of modules


class Made(torch.nn.Module):
    """Lists of modules under given paths, 3 layers by its config."""

    def __init__(self, **lengths: int):
        super().__init__()
        for name, n in lengths.items():
            setattr(self, name, torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(n)))
        text = SimpleNamespace(num_hidden_layers=3, hidden_size=2)
        self.config = SimpleNamespace(get_text_config=lambda: text)
        self.head = torch.nn.Linear(2, 5)

    def get_output_embeddings(self):
        return self.head


def refusal(model) -> str:
    with pytest.raises(UserError) as caught:
        find_structure(model, "my/model")
    line = str(caught.value)
    assert "\n" not in line and "my/model" in line and "--model" in line
    return line


def test_layers_are_the_one_list_of_their_number():
    model = Made(others=2, layers=3, adapters=4)
    found = find_structure(model, "x")
    assert found.layers is model.layers and found.trunk is model
    assert found.n_positions is None and found.windows == (None,) * 3


def test_layers_may_hold_lists_of_the_same_length():
    """The experts of a layer."""
    model = Made(layers=3)
    for layer in model.layers:
        layer.experts = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(3))
    assert find_structure(model, "x").layers is model.layers


def test_layers_that_are_ambiguous_are_refused():
    line = refusal(Made(layers=3, adapters=3))
    assert "2 lists" in line and "layers, adapters" in line


def test_layers_that_are_absent_are_refused():
    line = refusal(Made(layers=2))
    assert "names 3 layers" in line and "none" in line


def test_a_model_without_a_head_is_refused():
    assert "no output head" in refusal(transformers.GPT2Model(transformers.GPT2Config(**GPT2)))


# ---------------------------------------------------------------- windows


def with_config(**changes):
    model = Made(layers=3)
    vars(model.config.get_text_config()).update(changes)
    return model


def test_windows_are_those_of_each_layer_type():
    kinds = ["full_attention", "sliding_attention", "full_attention"]
    assert find_structure(with_config(layer_types=kinds, sliding_window=7), "x").windows == (None, 7, None)
    # A width that no layer's type asks for says nothing.
    assert find_structure(with_config(layer_types=kinds[:1] * 3, sliding_window=7), "x").windows == (None,) * 3


def test_windows_without_layer_types_are_those_of_all_layers():
    assert find_structure(with_config(sliding_window=7), "x").windows == (7, 7, 7)
    assert find_structure(with_config(sliding_window=None), "x").windows == (None, None, None)


@pytest.mark.parametrize("kind", ["chunked_attention", "linear_attention", "sliding_attention"])
def test_windows_of_an_unknown_kind_are_refused(kind):
    """A sliding layer without a width is one too."""
    line = refusal(with_config(layer_types=["full_attention", kind, "full_attention"]))
    assert f"layer 1 of my/model has {kind}" in line


def test_windows_of_llama4_are_refused():
    sizes = {**GROUPED, "head_dim": 8, "intermediate_size_mlp": 48, "num_local_experts": 2}
    assert "chunked_attention" in refusal(randomised(transformers.Llama4TextConfig(**sizes)))
