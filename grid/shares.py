"""Shares of the work: what one process takes at a time, and the lease under which it does."""

from collections.abc import Iterable
from dataclasses import dataclass

from common.leases import Lease, look
from featurizers.methods import BASELINES, CONTROL, ORIGINAL, method_named
from results.run import file_name
from results.store import Store


@dataclass(frozen=True)
class Share:
    """A layer, or one method of it with its controls.

    work: the kind of work, before the names of its files; '' for masks.
    """

    layer: int
    method: str | None = None
    work: str = ""

    def __str__(self) -> str:
        """Of its files in OUTPUT/MODEL/tasks."""
        method = "" if self.method is None else f"-{file_name(self.method)}"
        return f"{self.work}layer{self.layer:02d}{method}"

    @property
    def name(self) -> str:
        """For people."""
        return f"layer {self.layer}" + ("" if self.method is None else f", {self.method}")


def share_of(cell, per: str, work: str = "") -> Share:
    """The share that a cell (anything with a method and a layer) is done with.  per: a key of grid.launching.PER."""
    if per == "layer":
        return Share(cell.layer, None, work)
    method = method_named(cell.method)
    head = method.of if method.kind in (CONTROL, ORIGINAL) else cell.method  # controls read the same SAE, or its mask
    return Share(cell.layer, BASELINES[0] if head in BASELINES else head, work)


def shared_out(cells: Iterable, per: str, work: str = "") -> dict[Share, list]:
    """The cells of every share, the costliest first: a patch after layer L runs through the layers after L."""
    found: dict[Share, list] = {}
    for cell in cells:
        found.setdefault(share_of(cell, per, work), []).append(cell)
    return dict(sorted(found.items(), key=lambda each: each[0].layer))


def take(share: Share, store: Store, log: str | None = None, every: float | None = None) -> Lease | None:
    """The lease of a share that nobody is at; as `Lease.take` has it."""
    if _is_held_otherwise(share, store):
        return None
    lease = Lease.take(store.lease_path(share), log, every)
    if lease is not None and _is_held_otherwise(share, store):  # both were taken at the same moment
        with lease:
            return None
    return lease


def _is_held_otherwise(share: Share, store: Store) -> bool:
    """Whether another command, that shares the work out in the other way, is at this layer or at a method of it."""
    layer = Share(share.layer, None, share.work)
    folder = store.lease_path(layer).parent
    paths = folder.glob(f"{layer}-*.lease") if share.method is None else [store.lease_path(layer)]
    return any((found := look(path)) is not None and not found.is_free for path in paths)
