"""Run every prompt once and keep of it what a patch does not change.

A prompt is taken apart at the patched position: the *suffix* begins there and ends the prompt; before it
stand the *prefix*, which all prompts of a template share, and the *own* tokens of the entity before its
last one.  The prefix runs once, and prompts of equal lengths run behind it together, in the model's own
forward pass with its own cache: no padding, no mask of ours.

Names of tensors end in their shape: R prompts (rows of `Prompts`), S positions of the suffix, P of the
prefix, O own tokens, D d_model, H key heads, h head_dim.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

from common.progress import bar
from data.prompts import Prompts
from decoder.layers import PADDING, Layers, as_residual
from imports import functional, torch, transformers

COMPARED = 4  # prompts whose logits are kept, to compare the fast path with
OF_ROWS = ("_R", "_RS", "_RO")  # how names end of what there is one of per row


@dataclass
class Prefix:
    """The tokens that all prompts of one template begin with."""

    tokens: tuple[int, ...]
    keys_values: list[tuple]  # per layer, keys and values [1, H, P, h]; empty without tokens
    residuals: dict[int, torch.Tensor]  # layer -> [P, D] after it


@dataclass
class ActivationCache:
    """What is frozen of one model and some prompts.  Positions that do not exist are PADDING.

    residuals: layer L -> [R, S, D] after it, fp32; [:, 0] is the vector that is patched.
    own: the own tokens of all prompts one after the other, behind one slot of zeros; own_index: where each
    row's are, 0 for none (aligned right).
    """

    prompts: Prompts
    residuals: dict[int, torch.Tensor]
    positions_RS: torch.Tensor
    end_R: torch.Tensor  # index into S of the position that answers
    best_R: torch.Tensor | None  # the model's own likeliest next token, where that was asked for
    prefixes: list[Prefix]
    prefix_of_R: torch.Tensor
    prefix_positions: torch.Tensor  # [prefixes, P]
    prefix_keys_values: list[tuple]  # per layer, [prefixes, H, P, h], aligned right
    own_index_RO: torch.Tensor
    own_positions_RO: torch.Tensor
    own_keys_values: list[tuple]  # per layer, [1 + all own tokens, H, h]
    own_residuals: dict[int, torch.Tensor]  # layer -> [1 + all own tokens, D]
    some_logits: dict[int, torch.Tensor]  # of a few rows, to compare with

    @property
    def layers(self) -> list[int]:
        return sorted(self.residuals)

    def keep(self, entities: list[int]) -> ActivationCache:
        """The same for a selection of the entities."""
        return self.pick(self.prompts.rows_of(entities))

    def pick(self, rows: list[int]) -> ActivationCache:
        """The same for these rows of the prompts."""
        index = torch.tensor(rows, dtype=torch.long, device=self.end_R.device)
        of_row = {name: x[index] for name, x in vars(self).items() if name.endswith(OF_ROWS) and x is not None}
        residuals = {layer: x_RSD[index] for layer, x_RSD in self.residuals.items()}
        some = {i: self.some_logits[row] for i, row in enumerate(rows) if row in self.some_logits}
        kept = {"prompts": self.prompts.pick(rows), "residuals": residuals, "some_logits": some}
        return replace(self, **kept, **of_row)

    def behind_keys_values(self, i: int, row_B):
        """Keys and values in layer `i` of what stands before the suffix of these rows, [B, H, P + O, h]."""
        found = []
        for prefix, own in zip(self.prefix_keys_values[i], self.own_keys_values[i], strict=True):
            rows = row_B.to(prefix.device)
            part = prefix.index_select(0, self.prefix_of_R.to(prefix.device)[rows])
            if self.own_index_RO.shape[1]:
                own_BOHh = own[self.own_index_RO.to(prefix.device)[rows]]
                part = torch.cat([part, own_BOHh.transpose(1, 2)], dim=2)
            found.append(part)
        return tuple(found)

    def behind_positions(self) -> torch.Tensor:
        """[R, P + O]: the positions of what stands before the suffix."""
        return torch.cat([self.prefix_positions[self.prefix_of_R], self.own_positions_RO], dim=1)


# ---------------------------------------------------------------- harvesting


class _Enough(Exception):
    """A forward pass has gone as far as it is needed."""


class Harvest:
    """One pass over all prompts, in batches of rows that need no padding."""

    def __init__(self, decoder: Layers, prompts: Prompts, layers: list[int], device: str):
        self.decoder, self.prompts, self.layers, self.device = decoder, prompts, layers, device
        self.d_model = decoder.structure.d_model
        of_template: dict[tuple, list[int]] = {}
        for r, prompt in enumerate(prompts.rows):
            of_template.setdefault((prompt.attribute, prompt.template), []).append(r)
        self.prefixes, self.prefix_of = [], [0] * len(prompts.rows)
        for t, members in enumerate(of_template.values()):
            before = [prompts.rows[r].tokens[: prompts.rows[r].at] for r in members]
            self.prefixes.append(self._prefix(_common_start(before)))
            for r in members:
                self.prefix_of[r] = t
        lengths = [len(prefix.tokens) for prefix in self.prefixes]
        self.n_own = [p.at - lengths[t] for p, t in zip(prompts.rows, self.prefix_of, strict=True)]
        self.n_suffix = [len(p.tokens) - p.at for p in prompts.rows]

    def likeliest(self, batch_size: int, progress: bool) -> torch.Tensor:
        """[R] int64: the model's likeliest next token of every row; nothing else is kept."""
        best = torch.zeros(len(self.prompts.rows), dtype=torch.long, device=self.device)
        for rows, prefix, _ in self._batches(batch_size, "ask", progress):
            _, _, logits_BV = self._run_behind(prefix, rows)
            best[torch.tensor(rows, device=self.device)] = logits_BV.argmax(-1).to(self.device)
        return best

    def run(self, batch_size: int, progress: bool, answers: bool = True) -> ActivationCache:
        """answers: whether to keep `best_R` too; without, the suffixes run no further than the last layer asked for."""
        rows, lengths = self.prompts.rows, [len(prefix.tokens) for prefix in self.prefixes]
        n_own, n_suffix = self.n_own, self.n_suffix
        R, S, n_slots = len(rows), max(n_suffix), max(n_own)
        D, device = self.d_model, self.device
        self.residuals = {layer: torch.zeros(R, S, D, device=device) for layer in self.layers}
        self.own_residuals = {layer: torch.zeros(1 + sum(n_own), D, device=device) for layer in self.layers}
        self.own_keys_values: list = [None] * len(self.decoder)
        self.best = torch.zeros(R, dtype=torch.long, device=device) if answers else None
        self.some_logits: dict[int, torch.Tensor] = {}
        own_start = list(itertools.accumulate(n_own[:-1], initial=1))
        for chosen, prefix, own in self._batches(batch_size, "harvest", progress):
            self._batch(chosen, prefix, own, own_start)
        suffix = torch.tensor(n_suffix)[:, None]
        at = torch.tensor([p.at for p in rows])[:, None]
        positions = torch.where(torch.arange(S) < suffix, at + torch.arange(S), PADDING)
        slots = torch.arange(n_slots) - n_slots + torch.tensor(n_own)[:, None]  # below 0: none
        own_index = torch.where(slots >= 0, torch.tensor(own_start)[:, None] + slots, 0)
        own_positions = torch.where(slots >= 0, at - torch.tensor(n_own)[:, None] + slots, PADDING)
        P = max(lengths)
        slots = torch.arange(P) - P + torch.tensor(lengths)[:, None]
        return ActivationCache(
            prompts=self.prompts,
            residuals=self.residuals,
            positions_RS=positions.to(device),
            end_R=(suffix[:, 0] - 1).to(device),
            best_R=self.best,
            prefixes=self.prefixes,
            prefix_of_R=torch.tensor(self.prefix_of, device=device),
            prefix_positions=torch.where(slots >= 0, slots, PADDING).to(device),
            prefix_keys_values=self._stacked_prefixes(P),
            own_index_RO=own_index.to(device),
            own_positions_RO=own_positions.to(device),
            own_keys_values=self.own_keys_values,
            own_residuals=self.own_residuals,
            some_logits=self.some_logits,
        )

    def _batches(self, batch_size: int, text: str, progress: bool) -> Iterator[tuple[list[int], Prefix, int]]:
        """Rows that need no padding, the prefix that they stand behind, and how many own tokens each has."""
        groups: dict[tuple, list[int]] = {}
        for r, key in enumerate(zip(self.prefix_of, self.n_own, self.n_suffix, strict=True)):
            groups.setdefault(key, []).append(r)
        with bar(total=len(self.prompts.rows), desc=text, unit="prompt", disable=not progress) as done:
            for (t, own, _), members in groups.items():
                for start in range(0, len(members), batch_size):
                    chosen = members[start : start + batch_size]
                    yield chosen, self.prefixes[t], own
                    done.update(len(chosen))

    def _prefix(self, tokens: tuple[int, ...]) -> Prefix:
        if not tokens:
            nothing = {layer: torch.zeros(0, self.d_model, device=self.device) for layer in self.layers}
            return Prefix(tokens, [], nothing)
        cache, outputs, _ = self._forward(torch.tensor([tokens], device=self.device), transformers.DynamicCache())
        kept = [(layer.keys, layer.values) for layer in cache.layers]
        return Prefix(tokens, kept, {layer: outputs[layer][0].float() for layer in self.layers})

    def _run_behind(self, prefix: Prefix, rows: list[int], n: int | None = None, last: int | None = None):
        """Prompts behind one prefix that are equally long, as `_forward` has it; n: so many tokens of each."""
        P, B = len(prefix.tokens), len(rows)
        cache = transformers.DynamicCache()
        for i, (keys, values) in enumerate(prefix.keys_values):
            cache.update(keys.expand(B, -1, -1, -1), values.expand(B, -1, -1, -1), i)
        end = None if n is None else P + n
        tokens = torch.tensor([self.prompts.rows[r].tokens[P:end] for r in rows], device=self.device)
        return self._forward(tokens, cache, last)

    def _batch(self, rows: list[int], prefix: Prefix, n_own: int, own_start: list[int]) -> None:
        """Run and keep prompts behind one prefix, with equally many own tokens and equally long suffixes."""
        P = len(prefix.tokens)
        index = torch.tensor(rows, device=self.device)
        is_compared = len(self.some_logits) < COMPARED
        if self.best is not None or is_compared:
            cache, outputs, logits_BV = self._run_behind(prefix, rows)
            if self.best is not None:
                self.best[index] = logits_BV.argmax(-1).to(self.device)
            if is_compared:
                self.some_logits[rows[0]] = logits_BV[0].float()
        else:
            _, outputs, _ = self._run_behind(prefix, rows, last=max(self.layers))
            if n_own:  # only these are seen by later tokens in the layers above
                cache, _, _ = self._run_behind(prefix, rows, n_own)
        own = torch.tensor([own_start[r] + j for r in rows for j in range(n_own)], dtype=torch.long, device=self.device)
        for layer in self.layers:
            x_BTD = outputs[layer].float().to(self.device)
            self.residuals[layer][index, : x_BTD.shape[1] - n_own] = x_BTD[:, n_own:]
            self.own_residuals[layer][own] = x_BTD[:, :n_own].flatten(0, 1)
        for i, known in enumerate(cache.layers if n_own or is_compared else ()):
            parts = [t[:, :, P : P + n_own].transpose(1, 2).flatten(0, 1) for t in (known.keys, known.values)]
            if self.own_keys_values[i] is None:
                n = len(next(iter(self.own_residuals.values())))
                self.own_keys_values[i] = tuple(part.new_zeros(n, *part.shape[1:]) for part in parts)
            for kept, part in zip(self.own_keys_values[i], parts, strict=True):
                kept[own.to(kept.device)] = part

    def _forward(self, tokens_BT, cache, last: int | None = None):
        """A plain forward pass behind a cache: the cache, the residuals after each layer asked for, the last logits.

        last: the layer after which it ends; then there are no logits.
        """
        outputs: dict[int, torch.Tensor] = {}
        modules = self.decoder.modules

        def keep(i: int, output) -> None:
            outputs[i] = as_residual(output)
            if i == last:
                raise _Enough

        hooks = [modules[i].register_forward_hook(lambda *call, i=i: keep(i, call[2])) for i in self.layers]
        P, (B, T) = cache.get_seq_length(), tokens_BT.shape
        try:
            with torch.no_grad():
                out = self.decoder.model(
                    input_ids=tokens_BT,
                    past_key_values=cache,
                    use_cache=True,
                    attention_mask=torch.ones(B, P + T, dtype=torch.long, device=tokens_BT.device),
                    position_ids=torch.arange(P, P + T, device=tokens_BT.device).expand(B, T),
                    logits_to_keep=1,
                )
        except _Enough:
            return cache, outputs, None
        finally:
            for hook in hooks:
                hook.remove()
        return cache, outputs, out.logits[:, -1]

    def _stacked_prefixes(self, P: int) -> list[tuple]:
        """Keys and values of all prefixes, per layer [prefixes, H, P, h], shorter ones behind zeros."""
        stacked = []
        for i, own in enumerate(self.own_keys_values):
            found = []
            for j in range(2):
                nothing = own[j].new_zeros(1, own[j].shape[1], 0, own[j].shape[2])
                parts = [prefix.keys_values[i][j] if prefix.tokens else nothing for prefix in self.prefixes]
                found.append(torch.cat([functional.pad(t, (0, 0, P - t.shape[2], 0)) for t in parts]))
            stacked.append(tuple(found))
        return stacked


def _common_start(rows: list[tuple[int, ...]]) -> tuple[int, ...]:
    """The tokens that all rows begin with."""
    first, shortest = rows[0], min(map(len, rows))
    n = next((i for i in range(shortest) if any(row[i] != first[i] for row in rows)), shortest)
    return first[:n]
