"""Take training steps: one by one, or on a CUDA GPU as a graph that is captured once and replayed.

A step of a small model is hundreds of small kernels, which a GPU finishes sooner than they can
be launched one by one; a graph launches them all at once.  So a step reads everything from
the plan by a clock on the device and writes its loss to a record there; it asks the host for
nothing, and its shapes and addresses never change.

What the host has to decide, how far DAS's series must reach (rotation.py), it decides before
several steps; had the rotation grown beyond that, they are taken back and taken again.
"""

from __future__ import annotations

import sys

from imports import torch
from masks.scores import soft_mask

ROOM = 1.5  # a rotation's parameter may grow so much while nobody looks; else steps are taken again


class Steps:
    """The steps of runs that train together, each with its own theta.

    jobs, thetas: J of them; plan: of their T steps; record: [T, J, 2], mean loss and share of right answers.
    """

    warm_up = 1  # steps to take one by one first: Adam has no moments to put back (`advance`) before its first step

    def __init__(self, jobs, thetas, optimizer, plan, precision: str):
        device = thetas[0].device
        self.jobs, self.thetas, self.optimizer, self.precision = jobs, thetas, optimizer, precision
        self.plan = [t.to(device) for t in (plan.rows, plan.share, plan.temperature)]
        self.total = len(plan.rows)
        self.clock = torch.zeros(1, dtype=torch.long, device=device)
        self.record = torch.zeros(self.total, len(jobs), 2, device=device)
        self.rotations = [job.rotation for job in jobs if job.rotation is not None]

    def step(self) -> None:
        """The body of training."""
        rows_J3B, share_JB, temperature_J = (t.index_select(0, self.clock)[0] for t in self.plan)
        base_JB, source_JB, label_JB = rows_J3B.unbind(dim=1)
        masks = [soft_mask(theta, T) for theta, T in zip(self.thetas, temperature_J.unbind(), strict=True)]
        engines = [job.engine for job in self.jobs]
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
        """Take n steps; again, from where they began, if a rotation grew beyond what its series was given.

        Raises UserError if a rotation diverges.
        """
        if n == 1 or not self.rotations:
            return self._take(n)
        before = [t.clone() for t in self._state()]
        at_least = [0.0] * len(self.rotations)
        try:
            while True:
                for rotation, least in zip(self.rotations, at_least, strict=True):
                    rotation.reach.fix(rotation.skew(), ROOM, least)
                self._take(n)
                at_least = [r.reach.value if r.reach.was_enough() else 2 * r.reach.value for r in self.rotations]
                if at_least == [rotation.reach.value for rotation in self.rotations]:
                    return None
                for tensor, value in zip(self._state(), before, strict=True):
                    tensor.copy_(value)
        finally:
            for rotation in self.rotations:
                rotation.reach.free()

    def _take(self, n: int) -> None:
        for _ in range(n):
            self.step()

    def _state(self) -> list:
        """Everything that a step changes, but for the record, which is written anew."""
        parameters = [p.detach() for group in self.optimizer.param_groups for p in group["params"]]
        moments = [t for state in self.optimizer.state.values() for t in state.values() if torch.is_tensor(t)]
        return [self.clock, *parameters, *moments]


class GraphedSteps(Steps):
    """On a CUDA device: one step is captured, and replayed where several are to be taken at once."""

    warm_up = 3  # libraries set themselves up on first use, which cannot be captured

    def __init__(self, *args):
        super().__init__(*args)
        self.graph = None
        self.captured_with: tuple | None = None  # what a graph has built in: the reach of every series
        self.can_capture = True

    def _take(self, n: int) -> None:
        if n == 1 or not self.can_capture:
            return self._eagerly(n)
        reaches = tuple(rotation.reach.value for rotation in self.rotations)
        if self.captured_with != reaches:
            self._capture()
            self.captured_with = reaches
        if not self.can_capture:
            return self._eagerly(n)
        for _ in range(n):
            self.graph.replay()
        return None

    def _eagerly(self, n: int) -> None:
        """On a stream of its own, as is asked of what is captured later."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            super()._take(n)
        torch.cuda.current_stream().wait_stream(stream)

    def _capture(self) -> None:
        self.graph = None  # its memory can be used again
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


def steps_on(device: str, jobs, thetas, optimizer, plan, precision: str) -> Steps:
    """As a graph where the device and the engine can."""
    graphed = device == "cuda" and jobs[0].engine.has_static_shapes
    return (GraphedSteps if graphed else Steps)(jobs, thetas, optimizer, plan, precision)
