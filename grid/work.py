"""Do the layers of a grid, each under a lease: what one process of one machine does, wherever it was launched.

Processes that work on one OUTPUT share nothing but that folder.  Each takes a layer that nobody holds, the
costliest first (a patch after layer L runs through the layers after L), and skips what is done; when all that is left
is held by others it waits for them, as they may die.
"""

import time
from collections.abc import Iterable

from common.leases import Lease, Lost, look
from common.processes import machine
from common.progress import say
from grid import checkpoints
from grid.progress import Progress
from grid.spec import GridSpec
from grid.trainer import Trainer
from results.store import Store

PAUSE = 0.5  # seconds between two looks at layers that others hold


def do_layers(spec: GridSpec, progress: Progress, log: str | None = None, every: float | None = None) -> None:
    """Do all layers that nobody does.  Returns when every run is done, by us or by others.

    log: the file where this process's output goes; every: seconds between renewals of a lease, as `Lease.take` has it.
    Raises UserError, Stopped, and MissingLibrary.
    """
    trainer, told = None, set()
    while layers := [layer for layer in spec.layers() if spec.unfinished(layer)]:
        lease, layer = _take_first(spec, layers, log, every)
        if lease is None:
            if progress.shown:
                say_who(spec, told)
            time.sleep(PAUSE)
            continue
        try:
            with lease:
                if spec.unfinished(layer):  # its last owner may have finished just before he let go
                    trainer = trainer or Trainer(spec, progress.shown)
                    trainer.do_layer(layer, progress, lease)
        except Lost as other:
            say(f"layer {layer} was taken over by {other}, as this process was not heard of for minutes")
    progress.found(*spec.count())


def _take_first(spec: GridSpec, layers: list[int], log: str | None, every: float | None) -> tuple[Lease | None, int]:
    for layer in layers:
        lease = Lease.take(spec.store.lease_path(layer), log, every)
        if lease is not None:
            return lease, layer
    return None, -1


def say_who(spec: GridSpec, told: set[str], ours: Iterable[int] = ()) -> None:
    """Say of each other command that is at a layer of this grid, once, that we wait for it.

    told: tokens of leases that were told; ours: processes of this machine that belong to this command.
    """
    for layer in spec.layers():
        found = look(spec.store.lease_path(layer))
        if found is None or found.owner is None or found.is_free or found.owner.token in told:
            continue
        told.add(found.owner.token)
        if not (found.owner.machine == machine() and found.owner.pid in ours):
            say(f"layer {layer} is being done by {found.owner}; waiting for it, or for its end")


def clear_away(layers: Iterable[int], store: Store) -> None:
    """Remove what a process left that was killed after it had finished a layer: its lease, and its last training."""
    for layer in layers:
        state = store.state_path(layer)
        if not (state.exists() or store.lease_path(layer).exists()):
            continue
        lease = Lease.take(store.lease_path(layer))
        if lease is not None:
            with lease:
                saved = checkpoints.read(state)
                if saved is not None and all((store.root / f"{name}.json").exists() for name in saved.runs):
                    state.unlink()
