"""The vectors of the training pairs, from which directions are computed and classifiers are fitted."""

from __future__ import annotations

from dataclasses import dataclass

from data.batches import PairBatch
from imports import np, torch


@dataclass(frozen=True)
class Examples:
    """Vectors of training pairs, each prompt's once; no other vector is among them.

    x_ND: all that take part.
    source_CD, class_C: the sources of cause pairs, and which answer each should bring about, as a number from 0.
    """

    x_ND: torch.Tensor
    source_CD: torch.Tensor
    class_C: torch.Tensor

    @classmethod
    def of(cls, pairs: PairBatch, x_RD: torch.Tensor, class_R: torch.Tensor | None = None) -> Examples:
        """pairs: those of training; x_RD: the vectors of all prompts.

        class_R: which answer each prompt's vector should bring about, where its label does not tell: with several
        templates there are several labels for a value.
        """
        taking_part = torch.cat([pairs.base, pairs.source]).unique()
        cause = pairs[pairs.is_cause]
        source_C, first_C = np.unique(cause.source.numpy(), return_index=True)
        class_C = cause.label[torch.from_numpy(first_C)] if class_R is None else class_R[torch.from_numpy(source_C)]
        _, class_C = torch.unique(class_C, return_inverse=True)
        return cls(*(x_RD[rows.to(x_RD.device)] for rows in (taking_part, torch.from_numpy(source_C))), class_C)
