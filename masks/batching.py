"""How pairs are cut into batches: for each epoch, the pairs of every step."""

from collections.abc import Iterator

from common.errors import UserError
from data.batches import PairBatch
from imports import torch


def mixed(pairs: PairBatch, size: int, seed: int) -> Iterator[list[torch.Tensor]]:
    """Without end, an epoch's batches, each as indices of pairs: shuffled anew each time, both kinds in a batch."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield list(torch.randperm(len(pairs), generator=generator).split(size))


def original(pairs: PairBatch, size: int, seed: int) -> Iterator[list[torch.Tensor]]:
    """As the paper's code cuts them: pairs of one kind in a batch, the same batches in the same order in every epoch.

    What fills no batch is dropped.  Raises UserError if a kind then has none; a kind without pairs is left out, as in
    training on cause pairs alone.
    """
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for kind, is_kind in (("cause", pairs.is_cause), ("isolation", ~pairs.is_cause)):
        whole = [rows for rows in is_kind.nonzero()[:, 0].split(size) if len(rows) == size]
        if not whole and is_kind.any():
            raise UserError(
                f"there are fewer than {size} {kind} pairs to train on, and --batching original drops what fills no "
                "batch; use --batching mixed, or a smaller --batch-size"
            )
        batches += whole
    order = torch.randperm(len(batches), generator=generator).tolist()
    while True:
        yield [batches[i] for i in order]


BATCHINGS = {"mixed": mixed, "original": original}
