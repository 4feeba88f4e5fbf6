"""The subject model: a GPT-2 whose answers we patch, on the exact fast path.

Only the city's vector after block L is patched, at position -S of the prompt
(S = 8: the city and the question's seven tokens), so a patch can reach nothing
but the last S positions of the blocks after L.  Everything else is computed once:

  * `Subject.prefix`: keys and values of every block, and residuals, of what stands
    before the city, which all prompts of an attribute share; read through nnsight
    from a plain forward pass;
  * `Subject.harvest`: residuals of the last S positions of every prompt, behind it;
  * `Subject.suffix_logits`: the blocks after L on S positions behind the frozen
    prefix, the last block with one query, the logits at one position.

This equals the full forward pass to rounding (tests/test_fast_path.py).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from data.ravel_data_prep import ATTRIBUTES, Prompts
from imports import UserError, functional, hub_logging, huggingface_hub, nnsight, torch, tqdm, transformers

Prefix = list[tuple["torch.Tensor", "torch.Tensor"]]  # per block: keys and values [heads, P, head_dim]


# ---------------------------------------------------------------- blocks


def run_block(block, x_BSD, n_queries: int, prefixes: list, sizes: list[int]):
    """One GPT-2 block on S positions that stand behind a frozen prefix.

    x_BSD: [B, S, d_model]; rows are sorted by prefix, ``sizes[g]`` of them stand
    behind ``prefixes[g]``, a pair (keys, values) of shape [heads, P, head_dim]
    each, or None for no prefix.  Returns the last ``n_queries`` positions,
    [B, n_queries, d_model].

    Uses the block's weights by their Hugging Face names and its own submodules;
    the attention is written out because Hugging Face's block with a cache and no
    mask gives a wrong causal mask (sdpa aligns it top-left).
    """
    B, S, d_model = x_BSD.shape
    heads = block.attn.num_heads
    normed = block.ln_1(x_BSD)
    weight, bias = block.attn.c_attn.weight, block.attn.c_attn.bias
    if n_queries == S:
        query, key, value = block.attn.c_attn(normed).split(d_model, dim=-1)
    else:  # keys and values of all positions, queries of the last ones only
        query = torch.addmm(bias[:d_model], normed[:, -n_queries:].reshape(-1, d_model), weight[:, :d_model])
        kv = torch.addmm(bias[d_model:], normed.reshape(-1, d_model), weight[:, d_model:])
        key, value = kv.view(B, S, 2 * d_model).split(d_model, dim=-1)
    query, key, value = (t.reshape(B, -1, heads, d_model // heads).transpose(1, 2) for t in (query, key, value))
    mixed = [
        _attend(q, k, v, prefix)
        for q, k, v, prefix in zip(query.split(sizes), key.split(sizes), value.split(sizes), prefixes, strict=True)
    ]
    mixed = mixed[0] if len(mixed) == 1 else torch.cat(mixed)
    x_BSD = x_BSD[:, -n_queries:] + block.attn.c_proj(mixed.transpose(1, 2).reshape(B, n_queries, d_model))
    hidden = block.mlp.c_fc(block.ln_2(x_BSD))
    return x_BSD + block.mlp.c_proj(_activation(block.mlp.act)(hidden))


def _keys_and_values(block, x_1PD):
    """A block's keys and values [heads, P, head_dim] of the positions [1, P, d_model] that enter it."""
    P, d_model = x_1PD.shape[1:]
    _, key, value = block.attn.c_attn(block.ln_1(x_1PD))[0].split(d_model, dim=-1)
    shape = (P, block.attn.num_heads, -1)
    return tuple(t.reshape(shape).transpose(0, 1).contiguous() for t in (key, value))


def _activation(module):
    """GPT-2's gelu_new in one fused operation instead of eight; any other activation as it is."""
    if type(module).__name__ == "NewGELUActivation":
        return functools.partial(functional.gelu, approximate="tanh")
    return module


def _attend(query, key, value, prefix):
    """Causal attention of the last q of S positions, [B, heads, q, head_dim]."""
    B, n_queries, S = len(query), query.shape[2], key.shape[2]
    P = 0
    if prefix is not None:
        P = prefix[0].shape[1]
        key = torch.cat([prefix[0].expand(B, -1, -1, -1), key], dim=2)
        value = torch.cat([prefix[1].expand(B, -1, -1, -1), value], dim=2)
    if n_queries == 1:  # sees everything
        return functional.scaled_dot_product_attention(query, key, value)
    sees = _causal_mask(n_queries, P + S, str(query.device))
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=sees)


@functools.cache
def _causal_mask(n_queries: int, n_keys: int, device: str):
    """[n_queries, n_keys] bool: what each of the last queries may see."""
    return torch.ones(n_queries, n_keys, dtype=torch.bool, device=device).tril(n_keys - n_queries)


# ---------------------------------------------------------------- the model


@dataclass
class Harvest:
    """What is frozen for one model and one set of prompts."""

    residuals: dict[int, torch.Tensor]  # layer L -> [2 n, S, d_model] after block L; [:, 0] is the city's vector
    prefixes: list[Prefix]  # the distinct prefixes
    prefix_of: list[int]  # prompt row -> which of them
    prefix_residuals: dict[int, list[torch.Tensor]] = field(default_factory=dict)  # layer L -> per prefix [P, d_model]


class Subject:
    """A GPT-2 in eval mode with frozen weights, and its tokenizer.

    name: as the user gave it; n_layers, d_model: sizes; device: where it is.
    """

    def __init__(self, model, tokenizer, name: str, device: str = "cpu"):
        _require_plain_gpt2(model.config, name)
        self.model = model.eval().requires_grad_(False).to(device)
        self.tokenizer = tokenizer
        self.name = name
        self.device = device
        self.blocks = model.transformer.h
        self.n_layers = len(self.blocks)
        self.d_model = model.config.n_embd
        self._traced = None
        self._last_prefix: tuple[tuple, Prefix] = ((), [])  # of `predict`: prompts come attribute by attribute

    @property
    def traced(self):
        """The model wrapped by nnsight (which changes its tokenizer's padding, so it gets its own)."""
        if self._traced is None:
            tokenizer = transformers.PreTrainedTokenizerFast(
                tokenizer_object=self.tokenizer.backend_tokenizer, eos_token=self.tokenizer.eos_token or "<|endoftext|>"
            )
            self._traced = nnsight.TransformersModel(self.model, tokenizer=tokenizer, task="text-generation")
        return self._traced

    def digest(self) -> str:
        """A fingerprint of the weights."""
        total = hashlib.sha256()
        for name, weight in sorted(self.model.state_dict().items()):
            if name != "lm_head.weight":  # tied to the embedding
                total.update(name.encode())
                total.update(weight.detach().cpu().contiguous().numpy().data)
        return total.hexdigest()[:16]

    def run_blocks(self, x_BSD, start: int, prefixes: list[Prefix], sizes: list[int]):
        """From the residual after block `start` to the last position's after the last block, [B, d_model]."""
        last = self.n_layers - 1
        for i in range(start + 1, self.n_layers):
            n_queries = 1 if i == last else x_BSD.shape[1]
            x_BSD = run_block(self.blocks[i], x_BSD, n_queries, [prefix[i] for prefix in prefixes], sizes)
        return x_BSD[:, -1]

    def suffix_logits(self, x_BSD, start: int, prefixes: list[Prefix], sizes: list[int]):
        """Logits [B, vocabulary] at the last position, from residuals [B, S, d_model] after block `start`.

        Rows are sorted by prefix; ``sizes[g]`` rows stand behind ``prefixes[g]``.
        start = -1 begins with the embeddings.
        """
        x_BD = self.run_blocks(x_BSD, start, prefixes, sizes)
        return self.model.lm_head(self.model.transformer.ln_f(x_BD))

    def prefix(self, tokens_P) -> tuple[Prefix, list]:
        """What stands before the city, tokens [P], in a plain forward pass read through nnsight.

        Returns keys and values of every block, and the residuals [P, d_model] after every block.
        """
        blocks = range(self.n_layers)
        with torch.no_grad():
            with self.traced.trace({"input_ids": tokens_P[None].to(self.device)}, logits_to_keep=1):
                outputs = nnsight.save([self.traced.transformer.h[i].output for i in blocks])
            for x_1PD in outputs:
                assert x_1PD.shape == (1, len(tokens_P), self.d_model), x_1PD.shape
            inputs = [self._embed(tokens_P[None], 0), *outputs[:-1]]
            keys_and_values = [_keys_and_values(self.blocks[i], inputs[i]) for i in blocks]
        return keys_and_values, [x_1PD[0] for x_1PD in outputs]

    def _embed(self, tokens_BL, start: int):
        """What enters block 0, [B, L, d_model], for tokens at the positions from `start` on."""
        positions = torch.arange(start, start + tokens_BL.shape[1], device=self.device)
        return self.model.transformer.wte(tokens_BL.to(self.device)) + self.model.transformer.wpe(positions)

    def prefix_after(self, layer: int, x_PD) -> Prefix:
        """The prefix as the blocks after `layer` see it when its residuals there are x [P, d_model].

        The earlier blocks' entries, which nothing asks for, are empty.
        """
        result: Prefix = [()] * (layer + 1)
        x_1PD = x_PD[None]
        for i in range(layer + 1, self.n_layers):
            result.append(_keys_and_values(self.blocks[i], x_1PD))
            if i + 1 < self.n_layers:
                x_1PD = run_block(self.blocks[i], x_1PD, len(x_PD), [None], [1])
        return result

    def predict(self, tokens_BL, suffix: int):
        """The most likely next token [B] of prompts [B, L] that differ in their last `suffix` tokens only."""
        P = tokens_BL.shape[1] - suffix
        before = tuple(tokens_BL[0, :P].tolist())
        if self._last_prefix[0] != before:
            self._last_prefix = (before, self.prefix(tokens_BL[0, :P])[0])
        with torch.no_grad():
            x_BSD = self._embed(tokens_BL[:, P:], P)
            return self.suffix_logits(x_BSD, -1, [self._last_prefix[1]], [len(x_BSD)]).argmax(-1)

    def harvest(self, prompts: Prompts, layers: list[int], batch_size: int = 64, progress: bool = True) -> Harvest:
        """Everything about these prompts that the fast path needs at these layers, each position once.

        What stands before the city is run once per attribute, the last S positions behind it.
        """
        S = prompts.suffix
        found: dict[int, list] = {layer: [] for layer in layers}
        before_city: dict[int, list] = {layer: [] for layer in layers}
        distinct: dict[tuple, int] = {}
        prefixes: list[Prefix] = []
        prefix_of: list[int] = []
        with tqdm.tqdm(total=2 * len(prompts), desc="harvest", unit="prompt", disable=not progress, leave=False) as bar:
            for attribute in ATTRIBUTES:
                tokens = prompts.tokens[attribute]
                before = tuple(tokens[0, :-S].tolist())
                if before not in distinct:
                    distinct[before] = len(prefixes)
                    prefix, residuals = self.prefix(tokens[0, :-S])
                    prefixes.append(prefix)
                    for layer in layers:
                        before_city[layer].append(residuals[layer])
                prefix_of += [distinct[before]] * len(tokens)
                for batch in tokens.split(batch_size):
                    for layer, x_BSD in self._suffix_residuals(batch, S, prefixes[distinct[before]], layers):
                        found[layer].append(x_BSD)
                    bar.update(len(batch))
        residuals = {layer: torch.cat(parts) for layer, parts in found.items()}
        return Harvest(residuals, prefixes, prefix_of, before_city)

    def _suffix_residuals(self, tokens_BL, S: int, prefix: Prefix, layers: list[int]):
        """(layer, [B, S, d_model] after that block) of the last S positions behind a prefix."""
        with torch.no_grad():
            x_BSD = self._embed(tokens_BL[:, -S:], tokens_BL.shape[1] - S)
            for i in range(max(layers) + 1):
                x_BSD = run_block(self.blocks[i], x_BSD, S, [prefix[i]], [len(x_BSD)])
                if i in layers:
                    yield i, x_BSD


# ---------------------------------------------------------------- loading


def _require_plain_gpt2(config, name: str) -> None:
    if config.model_type != "gpt2":
        raise UserError(f"{name} is a {config.model_type} model; this experiment needs a GPT-2 (model_type gpt2)")
    wanted = {
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "reorder_and_upcast_attn": False,
        "add_cross_attention": False,
    }
    for flag, value in wanted.items():
        if getattr(config, flag, value) != value:
            raise UserError(f"{name} has {flag}={not value}, which the fast path does not compute; use a plain GPT-2")


@contextlib.contextmanager
def _loading(name: str):
    """Silence the library's own remarks, and turn its many kinds of errors into one line."""
    folder = Path(name)
    is_folder = os.path.isdir(name)  # unlike Path's own it takes a name of any length
    if is_folder:
        _require_checkpoint_files(folder)
    elif os.path.exists(name) or name.startswith((".", "/", "~")):
        raise UserError(f"{name} is not a folder with a checkpoint; name one, a hub id, or toy")
    else:
        print(
            f"looking for {name} in the cache and on the Hugging Face hub (half a minute without a network)",
            file=sys.stderr,
        )
    hub_logging.set_verbosity_error()
    try:
        with quiet(bars=not is_folder):
            yield
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - it raises many kinds, none of which says what to do
        raise UserError(_why_not_loaded(name, is_folder, error)) from None


@contextlib.contextmanager
def quiet(bars: bool = False):
    """Hold back transformers' remarks and, without `bars`, its progress bars; then let it be as it was."""
    logging = transformers.utils.logging
    level, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if not bars:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if has_bars:
            logging.enable_progress_bar()


def load_config(name: str):
    """The configuration of a GPT-2 (n_layer, n_embd, ..).  Raises UserError as `load_subject` does."""
    with _loading(name):
        config = transformers.AutoConfig.from_pretrained(name)
        _require_plain_gpt2(config, name)
        return config


def load_subject(name: str, device: str = "cpu") -> Subject:
    """Load a GPT-2 in fp32 from a checkpoint folder or the Hugging Face hub.

    Raises UserError if it is not a GPT-2, is incomplete, or cannot be reached.
    """
    config = load_config(name)
    with _loading(name):
        model, loading = transformers.GPT2LMHeadModel.from_pretrained(
            name, config=config, dtype=torch.float32, output_loading_info=True
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
    lacking = sorted(set(loading["missing_keys"]) - {"lm_head.weight"})
    if lacking:
        raise UserError(
            f"{name} lacks weights that a GPT-2 has ({lacking[0]} and {len(lacking) - 1} more); get it anew"
        )
    if tokenizer.bos_token is None:
        raise UserError(f"the tokenizer of {name} has no start token; use a GPT-2 tokenizer")
    if len(tokenizer) > config.vocab_size:
        raise UserError(
            f"the tokenizer of {name} has {len(tokenizer)} tokens, the model knows {config.vocab_size}; "
            "put the model's own tokenizer there"
        )
    return Subject(model, tokenizer, name, device)


def _require_checkpoint_files(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} has no config.json; name a folder that save_pretrained wrote, a hub id, or toy")
    kinds = ("*.safetensors", "pytorch_model*.bin")
    if not any(path.stat().st_size for kind in kinds for path in folder.glob(kind)):
        raise UserError(f"{folder} holds no weights (model.safetensors); put them there or name another folder")
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise UserError(f"{folder} holds no tokenizer (tokenizer.json or vocab.json); save it there beside the model")


def _why_not_loaded(name: str, is_folder: bool, error: Exception) -> str:
    reason = " ".join(str(error).split())[:160]
    if is_folder:
        return f"cannot load the model in {name}: {reason}; get the folder anew or name another"
    how = "use --model toy (offline), a local checkpoint folder, or try again with a network"
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return f"{name} is not in the local cache and HF_HUB_OFFLINE is set; {how}"
    text = f"{type(error).__name__} {error}"
    if "HFValidationError" in text or "Repo id must" in text:
        return f"{name!r} is neither a folder nor a possible name on the hub; {how}"
    if "404" in text or "RepositoryNotFound" in text or "not a valid model identifier" in text:
        return f"the hub has no model {name}, or it cannot be seen without a login; check the name, or {how}"
    return f"cannot get {name} from the Hugging Face hub; {how}"
