"""The subject model: a GPT-2 whose answers we patch, on the exact fast path.

Only the city's vector after block L is patched, at position -S of the prompt
(S = 8: the city and the question's seven tokens), so a patch can reach nothing
but the last S positions of the blocks after L.  Everything else is computed once:

  * `Subject.prefix`: keys and values of every block, and residuals, of what stands
    before the city, which all prompts of an attribute share; read through nnsight
    from a plain forward pass;
  * `Subject.harvest`: residuals of the last S positions of every prompt, behind it;
  * `Site`: at one layer, also the next block's queries, keys and values of the S - 1
    positions that are not patched.

What is left runs through the blocks after L on S positions behind the frozen prefix
(blocks.py), the last block with one query, and the head at one position (head.py).
This equals the full forward pass to rounding (tests/test_fast_path.py).
"""

from __future__ import annotations

import copy
import functools
import hashlib
from dataclasses import dataclass, field

from common.errors import UserError
from common.progress import bar
from data.ravel_data_prep import ATTRIBUTES, Prompts
from decoder.attention import Group, Prefix, Standing, behind, grouped, merged
from decoder.blocks import Others, first_block, keys_and_values, last_block, only_block, others_of, run_block
from decoder.head import Head
from decoder.products import Plain, block_in
from imports import nnsight, torch, transformers


def require_plain_gpt2(config, name: str) -> None:
    """Raises UserError if a model's blocks compute something else than ours (blocks.py)."""
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


@dataclass
class Harvest:
    """What is frozen for one model and one set of prompts."""

    residuals: dict[int, torch.Tensor]  # layer L -> [2 n, S, d_model] after block L; [:, 0] is the city's vector
    prefixes: list[Prefix]  # the distinct prefixes
    prefix_of: list[int]  # prompt row -> which of them
    prefix_residuals: dict[int, list[torch.Tensor]] = field(default_factory=dict)  # layer L -> per prefix [P, d_model]
    _site: Site | None = None

    def site(self, subject: Subject, layer: int) -> Site:
        """What is frozen at one layer; of the layer asked for last it is kept."""
        if self._site is None or self._site.layer != layer:
            self._site = Site(subject, self, layer)
        return self._site


class Subject:
    """A GPT-2 in eval mode with frozen weights, and its tokenizer.

    name: as the user gave it; n_layers, d_model: sizes; device: where it is.
    """

    def __init__(self, model, tokenizer, name: str, device: str = "cpu"):
        require_plain_gpt2(model.config, name)
        self.model = model.eval().requires_grad_(False).to(device)
        self.tokenizer = tokenizer
        self.name = name
        self.device = device
        self.blocks = model.transformer.h
        self.head = Head(model.lm_head.weight)
        self.n_layers = len(self.blocks)
        self.d_model = model.config.n_embd
        self._in_forms: dict = {}
        self._last_prefix: tuple[tuple, Prefix] = ((), [])  # of `predict`: prompts come attribute by attribute

    @functools.cached_property
    def traced(self):
        """The model wrapped by nnsight (which changes its tokenizer's padding, so it gets its own)."""
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_object=self.tokenizer.backend_tokenizer, eos_token=self.tokenizer.eos_token or "<|endoftext|>"
        )
        return nnsight.TransformersModel(self.model, tokenizer=tokenizer, task="text-generation")

    def in_form(self, form) -> Subject:
        """The same with the weights of all large products in a form (products.py); made once for each.

        Residuals, layer norms and attention stay as they are.  `Plain`: this one.
        """
        if form is Plain:
            return self
        if form not in self._in_forms:
            other = self._in_forms[form] = copy.copy(self)
            other.blocks = [block_in(block, form) for block in self.blocks]
            other.head = Head(self.model.lm_head.weight, form)
        return self._in_forms[form]

    def digest(self) -> str:
        """A fingerprint of the weights."""
        total = hashlib.sha256()
        for name, weight in sorted(self.model.state_dict().items()):
            if name != "lm_head.weight":  # tied to the embedding
                total.update(name.encode())
                total.update(weight.detach().cpu().contiguous().numpy().data)
        return total.hexdigest()[:16]

    # ------------------------------------------------------------ from a layer to the answer

    def run_blocks(self, x_BSD, start: int, standing: Standing):
        """From the residual after block `start` to the last position's after the last block, [B, d_model]."""
        last = self.n_layers - 1
        for i in range(start + 1, last):
            x_BSD = run_block(self.blocks[i], i, x_BSD, standing)
        if start < last:
            x_BSD = last_block(self.blocks[last], last, x_BSD, standing)
        return x_BSD[:, -1]

    def run_patched(self, x_BD, others: Others, start: int, standing: Standing):
        """`run_blocks` where only x_BD, the residual at the first of the S positions, was not known beforehand."""
        first, last = start + 1, self.n_layers - 1
        if first > last:  # nothing moves to the last position any more
            return torch.cat([x_BD[:, None], others.x], dim=1)[:, -1]
        if first == last:
            return only_block(self.blocks[first], first, x_BD, others, standing)[:, 0]
        return self.run_blocks(first_block(self.blocks[first], first, x_BD, others, standing), first, standing)

    def logits(self, x_BD):
        """[B, vocabulary], from the last position's residual after the last block."""
        return self.model.lm_head(self.model.transformer.ln_f(x_BD))

    def suffix_logits(self, x_BSD, start: int, prefix: Prefix):
        """Logits [B, vocabulary] at the last position, from residuals [B, S, d_model] after block `start`.

        All rows stand behind one prefix.  start = -1 begins with the embeddings.
        """
        return self.logits(self.run_blocks(x_BSD, start, behind(prefix)))

    def loss_and_best(self, x_BD, label_B):
        """The answer's cross-entropy [B] and the likeliest token [B], likewise."""
        return self.head.loss_and_best(self.model.transformer.ln_f(x_BD), label_B)

    # ------------------------------------------------------------ what is frozen

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
            found = [keys_and_values(self.blocks[i], inputs[i]) for i in blocks]
        return found, [x_1PD[0] for x_1PD in outputs]

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
            result.append(keys_and_values(self.blocks[i], x_1PD))
            if i + 1 < self.n_layers:
                x_1PD = run_block(self.blocks[i], i, x_1PD, behind(None))
        return result

    def predict(self, tokens_BL, suffix: int):
        """The most likely next token [B] of prompts [B, L] that differ in their last `suffix` tokens only."""
        P = tokens_BL.shape[1] - suffix
        before = tuple(tokens_BL[0, :P].tolist())
        if self._last_prefix[0] != before:
            self._last_prefix = (before, self.prefix(tokens_BL[0, :P])[0])
        with torch.no_grad():
            return self.suffix_logits(self._embed(tokens_BL[:, P:], P), -1, self._last_prefix[1]).argmax(-1)

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
        with bar(total=2 * len(prompts), desc="harvest", unit="prompt", disable=not progress) as done:
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
                    done.update(len(batch))
        residuals = {layer: torch.cat(parts) for layer, parts in found.items()}
        return Harvest(residuals, prefixes, prefix_of, before_city)

    def _suffix_residuals(self, tokens_BL, S: int, prefix: Prefix, layers: list[int]):
        """(layer, [B, S, d_model] after that block) of the last S positions behind a prefix."""
        with torch.no_grad():
            x_BSD = self._embed(tokens_BL[:, -S:], tokens_BL.shape[1] - S)
            for i in range(max(layers) + 1):
                x_BSD = run_block(self.blocks[i], i, x_BSD, behind(prefix))
                if i in layers:
                    yield i, x_BSD


class Site:
    """One layer L of a subject, where the city's vector is patched: everything that no patch changes.

    residuals: [2 n, S, d_model] after block L, a row for every prompt.
    sorts: rows go through the blocks sorted by what they stand behind, which saves products with keys that they
    do not see; so it is on a CPU.  Elsewhere a step's shapes depend on the number of its rows alone, and nothing
    is read back from the device: a CUDA graph can hold it.
    """

    def __init__(self, subject: Subject, harvest: Harvest, layer: int):
        self.subject = subject
        self.layer = layer
        self.residuals = harvest.residuals[layer]
        next_block = subject.blocks[layer + 1] if layer + 1 < subject.n_layers else None
        with torch.no_grad():
            self.others = others_of(next_block, self.residuals)
        self.prefixes = harvest.prefixes
        self.prefix_of = torch.tensor(harvest.prefix_of, device=subject.device)
        self.sorts = subject.device == "cpu" and len(self.prefixes) > 1

    @functools.cached_property
    def together(self) -> tuple[Prefix, torch.Tensor | None]:
        """All prefixes as one, and what of it the prompts do not see [2 n, P]."""
        prefix, hidden = merged(self.prefixes)
        return prefix, None if hidden is None else hidden[self.prefix_of]

    def run(self, x_BD, base_B, subject: Subject):
        """The last position's residual after the last block, [B, d_model], with x in place of the base rows' city.

        base_B: prompt rows, on the subject's device; subject: this one, or this one in another form.
        """
        if not self.sorts:
            prefix, hidden = self.together
            standing = [Group(slice(None), prefix, None if hidden is None else hidden.index_select(0, base_B))]
            return subject.run_patched(x_BD, self.others.rows(base_B), self.layer, standing)
        owner_B = self.prefix_of[base_B]
        order_B = owner_B.argsort(stable=True)
        standing = grouped(self.prefixes, owner_B.bincount(minlength=len(self.prefixes)).tolist())
        others = self.others.rows(base_B[order_B])
        return subject.run_patched(x_BD[order_B], others, self.layer, standing)[order_B.argsort()]
