"""The exact fast path on eleven architectures, against two plain forward passes with PyTorch hooks.

The reference shares no code with models.py: whole prompts, one at a time, no cache, no masks of ours, plain
hooks on the module list that each test names by hand.
"""

from __future__ import annotations

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from data.facts import City
from data.prompts import Prompt, Prompts
from decoder.products import InBf16, Packed, Plain, Product
from models import Subject

V, D, LAYERS = 97, 32, 5
N_CITIES = 4
SIZES = {
    "vocab_size": V,
    "hidden_size": D,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id")),
}
GROUPED = {**SIZES, "num_key_value_heads": 2}
SANDWICH = {**GROUPED, "head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 4}
GPT2 = {"vocab_size": V, "n_embd": D, "n_layer": LAYERS, "n_head": 4, "n_positions": 64}
GPT2 |= dict.fromkeys(("bos_token_id", "eos_token_id"))
ARCHITECTURES = {
    "gpt2": (transformers.GPT2Config, GPT2, "transformer.h"),
    "neox": (transformers.GPTNeoXConfig, {**SIZES, "use_parallel_residual": True}, "gpt_neox.layers"),
    "neox-sequential": (transformers.GPTNeoXConfig, {**SIZES, "use_parallel_residual": False}, "gpt_neox.layers"),
    "llama": (transformers.LlamaConfig, GROUPED, "model.layers"),
    "mistral": (transformers.MistralConfig, {**GROUPED, "sliding_window": 4}, "model.layers"),
    "qwen2": (transformers.Qwen2Config, GROUPED, "model.layers"),
    "qwen3": (transformers.Qwen3Config, {**GROUPED, "head_dim": 16}, "model.layers"),
    "gemma2": (transformers.Gemma2Config, {**SANDWICH, "final_logit_softcapping": 3.0}, "model.layers"),
    "gemma3": (
        transformers.Gemma3TextConfig,
        {**SANDWICH, "layer_types": ["sliding_attention", "full_attention"] * 2 + ["sliding_attention"]},
        "model.layers",
    ),
    "olmo2": (transformers.Olmo2Config, GROUPED, "model.layers"),
    "phi3": (transformers.Phi3Config, GROUPED, "model.layers"),
}
CASES = [
    (name, attention)
    for name in ARCHITECTURES
    for attention in ("sdpa", "eager")
    if (name, attention) != ("gemma2", "sdpa")  # transformers offers none: its scores are soft-capped
]


def tiny(name: str, attention: str = "eager"):
    """A model with random weights large enough for attention to matter."""
    config, sizes, _ = ARCHITECTURES[name]
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config(**sizes), attn_implementation=attention).eval()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, 0, 0.2)
    return model


def random_prompts(seed: int, own=(1, 2, 3, 4), suffix=(3, 4)) -> Prompts:
    """Cities of 1 to 4 tokens behind two prefixes of different lengths, the last with a longer suffix."""
    generator = torch.Generator().manual_seed(seed)

    def draw(n: int) -> list[int]:
        return torch.randint(V, (n,), generator=generator).tolist()

    rows = []
    for a, attribute in enumerate(("country", "continent")):
        before = draw(9 + 2 * a)
        for city, n in enumerate(own):
            tokens = before + draw(n) + draw(suffix[a] - 1 + (city == len(own) - 1))
            rows.append(Prompt(city, attribute, tuple(tokens), len(before) + n - 1, n, label=draw(1)[0]))
    return Prompts([City(f"city {i}", "x", "y") for i in range(len(own))], rows)


def by_hooks(model, layers, layer: int, base: Prompt, source: Prompt, mask, rotation):
    """The base prompt's logits [V] after the patch, from one forward pass of each prompt."""
    seen = {}

    def read(_, __, output):
        seen["source"] = (output if torch.is_tensor(output) else output[0])[0, source.at]

    def write(_, __, output):
        x = (output if torch.is_tensor(output) else output[0]).clone()
        difference = (seen["source"] - x[0, base.at]) @ rotation
        x[0, base.at] = x[0, base.at] + (mask * difference) @ rotation.T
        return x if torch.is_tensor(output) else (x, *output[1:])

    for prompt, hook in ((source, read), (base, write)):
        handle = layers[layer].register_forward_hook(hook)
        logits = model(input_ids=torch.tensor([prompt.tokens]), use_cache=False).logits[0, -1]
        handle.remove()
        seen = {name: value.detach() for name, value in seen.items()}
    return logits


def largest_share(found, wanted) -> float:
    """The largest difference, of the largest wanted value."""
    return float(((found - wanted).abs().max() / wanted.abs().max()).detach())


@pytest.mark.parametrize(("name", "attention"), CASES)
def test_logits_and_gradients_equal_two_passes_with_hooks(name, attention):
    """At the first, a middle and the last layer but one; measured: 1e-6 of the largest, logits and gradients."""
    model = tiny(name, attention)
    layers = model.get_submodule(ARCHITECTURES[name][2])
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
    layers = model.get_submodule("model.layers")
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
    subject, prompts = Subject(tiny(name), None, name), random_prompts(seed=5)
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
