"""Take training steps: one by one, or on a CUDA GPU as a graph that is captured once and replayed.

A step of a small model launches hundreds of small kernels, which a GPU finishes sooner than the host can
launch them; a CUDA graph launches them all at once.  So a step reads its batch by a step counter on the
device and writes its loss to a record there; it never waits for the host, and its shapes and addresses
stay the same.

The host fixes the length of DAS's series (featurizers/rotation.py) before each chunk of steps.  If a
rotation outgrows it, the chunk is rolled back and rerun.
"""

import sys

from imports import torch
from masks.scores import soft_mask

ROOM = 1.5  # the norm of a rotation's parameter may grow so much within a chunk of steps


class Steps:
    """The steps of runs that train together.

    runs: J of them; batches: of their T steps; record: [T, J, 2], mean loss and share of right answers.
    """

    warm_up = 1  # steps to take one by one first: before its first one, Adam has no moments to roll back to

    def __init__(self, runs, optimizer, batches, precision: str):
        device = runs[0].theta.device
        self.runs, self.optimizer, self.precision = runs, optimizer, precision
        self.batches = [t.to(device) for t in (batches.rows, batches.share, batches.temperature)]
        self.total = len(batches.rows)
        self.clock = torch.zeros(1, dtype=torch.long, device=device)
        self.record = torch.zeros(self.total, len(runs), 2, device=device)
        self.rotations = [run.featurizer for run in runs if run.featurizer is not None]

    def step(self) -> None:
        """The body of training."""
        rows_J3B, share_JB, temperature_J = (t.index_select(0, self.clock)[0] for t in self.batches)
        base_JB, source_JB, label_JB = rows_J3B.unbind(dim=1)
        masks = [soft_mask(run.theta, T) for run, T in zip(self.runs, temperature_J.unbind(), strict=True)]
        engines = [run.engine for run in self.runs]
        loss_JB, best_JB = engines[0].batched_loss(engines, base_JB, source_JB, label_JB, masks, self.precision)
        # Runs that have finished have no gradient, and Adam leaves them alone.
        self.optimizer.zero_grad(set_to_none=True)
        loss_J = (loss_JB * share_JB).sum(dim=1)
        loss_J.sum().backward()
        self.optimizer.step()
        with torch.no_grad():
            right_J = ((best_JB == label_JB) * share_JB).sum(dim=1)
            self.record.index_copy_(0, self.clock, torch.stack([loss_J, right_J], dim=1)[None])
            self.clock += 1

    def advance(self, n: int) -> None:
        """Take n steps; if a rotation outgrows the length of its series, roll them back and rerun them.

        Raises UserError if a rotation diverges.
        """
        if n == 1 or not self.rotations:
            return self._take(n)
        before = [t.clone() for t in self._state()]
        bounds = [rotation.norm_bound for rotation in self.rotations]
        at_least = [0.0] * len(bounds)
        try:
            while True:
                for rotation, bound, least in zip(self.rotations, bounds, at_least, strict=True):
                    bound.fix(rotation.skew(), ROOM, least)
                self._take(n)
                at_least = [bound.value if bound.was_enough() else 2 * bound.value for bound in bounds]
                if at_least == [bound.value for bound in bounds]:
                    return None
                for tensor, value in zip(self._state(), before, strict=True):
                    tensor.copy_(value)
        finally:
            for bound in bounds:
                bound.free()

    def go_on_after(self, n: int) -> None:
        """Go on as if n steps had been taken here, which another process took: parameters and moments are theirs.

        A graph needs its warm-up in every process: those steps are rolled back.
        """
        self.clock.fill_(n)
        before = [t.clone() for t in self._state()]
        for _ in range(self.warm_up):
            self._take(1)
            for tensor, value in zip(self._state(), before, strict=True):
                tensor.copy_(value)

    def _take(self, n: int) -> None:
        for _ in range(n):
            self.step()

    def _state(self) -> list:
        """Everything that a step changes, except the record, which a rerun overwrites."""
        parameters = [p.detach() for group in self.optimizer.param_groups for p in group["params"]]
        moments = [t for state in self.optimizer.state.values() for t in state.values() if torch.is_tensor(t)]
        return [self.clock, *parameters, *moments]


class GraphedSteps(Steps):
    """On a CUDA device: one step is captured, and replayed where several are to be taken at once."""

    warm_up = 3  # libraries set themselves up on first use, which cannot be captured

    def __init__(self, *args):
        super().__init__(*args)
        self.graph = None
        self.captured_with: tuple | None = None  # the series lengths that the graph was captured with
        self.can_capture = True

    def _take(self, n: int) -> None:
        if n == 1 or not self.can_capture:
            return self._eagerly(n)
        reaches = tuple(rotation.norm_bound.value for rotation in self.rotations)
        if self.captured_with != reaches:
            self._capture()
            self.captured_with = reaches
        if not self.can_capture:
            return self._eagerly(n)
        for _ in range(n):
            self.graph.replay()
        return None

    def _eagerly(self, n: int) -> None:
        """On a side stream, as capturing needs it."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            super()._take(n)
        torch.cuda.current_stream().wait_stream(stream)

    def _capture(self) -> None:
        self.graph = None  # frees its memory
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self.step()
            self.graph = graph
        except RuntimeError as error:  # a driver or library that cannot: slower, but right
            self.can_capture = False
            reason = " ".join(str(error).split())[:200]
            print(
                f"note: steps are taken one by one, as they cannot be captured as a CUDA graph: {reason}",
                file=sys.stderr,
            )


def can_graph(device: str, engine) -> bool:
    return device == "cuda" and engine.has_static_shapes


def steps_on(graphed: bool, runs, optimizer, batches, precision: str) -> Steps:
    return (GraphedSteps if graphed else Steps)(runs, optimizer, batches, precision)
