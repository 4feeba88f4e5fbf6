"""Tiny decoders of eleven architectures, prompts for them, and a patch by plain PyTorch hooks.

The reference shares no code with models.py: whole prompts, one at a time, no cache, no masks of ours, plain
hooks on the module list that ARCHITECTURES names by hand.
"""

import torch
import transformers
from helpers_data import make_city

from data.prompts import Prompt, Prompts
from models import Subject

V, D, LAYERS = 97, 32, 5
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


def randomised(config, attention: str = "eager"):
    """A model with random weights large enough for attention to matter."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, 0, 0.2)
    return model


def tiny(name: str, attention: str = "eager", **changes):
    """One of ARCHITECTURES; changes: of its config."""
    config, sizes, _ = ARCHITECTURES[name]
    return randomised(config(**{**sizes, **changes}), attention)


def layers_of(name: str, model):
    return model.get_submodule(ARCHITECTURES[name][2])


def tiny_subject(name: str, attention: str = "eager", tokenizer=None, **changes) -> Subject:
    return Subject(tiny(name, attention, **changes), tokenizer, name)


def random_prompts(seed: int, own=(1, 2, 3, 4), suffix=(3, 4), before=(9, 11)) -> Prompts:
    """Cities of 1 to 4 tokens behind two prefixes of different lengths, the last with a longer suffix.

    own: tokens of each city; suffix: of each attribute's question, from the city's last token on; before: of
    each attribute's prefix.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(n: int) -> list[int]:
        return torch.randint(V, (n,), generator=generator).tolist()

    rows = []
    for a, attribute in enumerate(("country", "continent")):
        start = draw(before[a])
        for city, n in enumerate(own):
            tokens = start + draw(n) + draw(suffix[a] - 1 + (city == len(own) - 1))
            rows.append(Prompt(city, attribute, tuple(tokens), len(start) + n - 1, n, label=draw(1)[0]))
    return Prompts([make_city(f"city {i}", "x", "y") for i in range(len(own))], rows)


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


def residuals_by_hooks(model, layers, tokens) -> list:
    """The residuals [T, D] after every layer, from a plain forward pass of one prompt."""
    seen = []
    hooks = [
        layer.register_forward_hook(lambda *call: seen.append(call[2] if torch.is_tensor(call[2]) else call[2][0]))
        for layer in layers
    ]
    with torch.no_grad():
        model(input_ids=torch.tensor([tokens]), use_cache=False)
    for hook in hooks:
        hook.remove()
    return [x_1TD[0] for x_1TD in seen]


def largest_share(found, wanted) -> float:
    """The largest difference, of the largest wanted value."""
    return float(((found - wanted).abs().max() / wanted.abs().max()).detach())
