"""Pairs as rows of prompts: what the model sees and should answer, and how answers are counted."""

from __future__ import annotations

from dataclasses import dataclass, fields

from imports import torch


@dataclass
class PairBatch:
    """Questions to the model, of which one or more make a pair.

    base, source: [M] int64, rows of the prompts; label: [M] int64, the token that is right.
    kind: [M] int64: 0 for cause, from 1 on the attributes of isolation pairs.
    step: [M] int64: which token of the answer is asked for; a pair is a question of step 0 and those that follow it.
    is_whole: [M] bool: whether the pair is right only if all its tokens are; else its first counts.
    """

    base: torch.Tensor
    source: torch.Tensor
    label: torch.Tensor
    kind: torch.Tensor
    step: torch.Tensor
    is_whole: torch.Tensor

    @classmethod
    def of(cls, base, source, label, kind, step=None, is_whole=None) -> PairBatch:
        """From lists or tensors [M]; without the last two, pairs of one question each."""
        columns = [torch.as_tensor(column, dtype=torch.long) for column in (base, source, label, kind)]
        nothing = torch.zeros_like(columns[0])
        step = nothing if step is None else torch.as_tensor(step, dtype=torch.long)
        is_whole = nothing.bool() if is_whole is None else torch.as_tensor(is_whole, dtype=torch.bool)
        return cls(*columns, step, is_whole)

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, index) -> PairBatch:
        return PairBatch(*(getattr(self, f.name)[index] for f in fields(self)))

    def to(self, device) -> PairBatch:
        return PairBatch(*(getattr(self, f.name).to(device) for f in fields(self)))

    @property
    def is_cause(self) -> torch.Tensor:
        """[M] bool."""
        return self.kind == 0

    @property
    def first(self) -> PairBatch:
        """Of each of the N pairs the question for the first token."""
        return self[self.step == 0]

    def answered(self, hit_M: torch.Tensor, rule: str | None = None) -> torch.Tensor:
        """Which pairs are right, [.., N] bool, where these questions were answered rightly, [.., M].

        rule: one of data.names.SCORING; None: each pair's own.
        """
        return self.of_pairs(hit_M.long(), "amin", rule).bool()

    def n_right(self, hit_M: torch.Tensor) -> torch.Tensor:
        """Of each pair, how many tokens of the answer are right before the first that is not: [N] int64."""
        n_asked_N = self.of_pairs(self.step, "amax", "whole") + 1
        wrong_at_M = torch.where(hit_M, len(self), self.step)
        return torch.minimum(self.of_pairs(wrong_at_M, "amin", "whole"), n_asked_N)

    def of_pairs(self, value_M: torch.Tensor, reduce: str, rule: str | None = None) -> torch.Tensor:
        """Values of pairs [.., N] from those of their questions [.., M]: the first one's, or all of them reduced.

        reduce: as torch's scatter_reduce has it; rule: as in `answered`.
        """
        begins_M = (self.step == 0).to(value_M.device)
        first_N = value_M[..., begins_M]
        if rule == "first" or first_N.shape == value_M.shape:
            return first_N
        place_M = (begins_M.long().cumsum(0) - 1).expand_as(value_M)
        whole_N = torch.zeros_like(first_N).scatter_reduce(-1, place_M, value_M, reduce, include_self=False)
        return whole_N if rule == "whole" else torch.where(self.first.is_whole.to(value_M.device), whole_N, first_N)
