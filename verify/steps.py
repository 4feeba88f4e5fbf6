"""Compare training steps: the loop's with plain ones, a graph's with single ones, joint runs with runs alone.

What is compared is how far the parameters moved: the sum of the differences over the sum of the moves.  Adam moves a
parameter by its gradient's sign at first, so rounding turns over the few whose gradient is all but 0, and no others.
"""

from imports import functional, torch
from masks.stepping import GraphedSteps, Steps, can_graph
from masks.training import Batches, MaskRun, Schedule, adam, in_precision
from verify.reference import TwoPasses
from verify.sample import N_PAIRS, Sample

N_STEPS = 3
SCHEDULE = Schedule(epochs=1, batch_size=N_PAIRS // N_STEPS, lr=1e-2, temperature=(2.0, 1.0))


def three_steps(sample: Sample) -> dict[str, float]:
    """Theta over neurons after three steps of the loop, against Adam in float64 on plain forward passes."""
    run = sample.run(sample.neuron(), seed=3)
    start, batches = run.theta.detach().clone(), Batches.of([run], SCHEDULE)
    steps = Steps([run], adam([run], SCHEDULE.lr, sample.subject.device), batches, sample.precision)
    with in_precision(sample.precision):
        for _ in range(N_STEPS):
            steps.advance(1)

    reference = TwoPasses(sample.subject, sample.cache.prompts, sample.middle)
    theta = start.cpu().double().requires_grad_()
    optimizer = torch.optim.Adam([theta], lr=SCHEDULE.lr, foreach=False, fused=False)
    for rows_3B, temperature in zip(batches.rows[:, 0], batches.temperature[:, 0], strict=True):
        mask = torch.sigmoid(theta / temperature.double()).float().to(sample.subject.device)
        optimizer.zero_grad()
        for base, source, label in rows_3B.T.tolist():
            logits_V = reference.logits(base, source, lambda x_b, x_s, mask=mask: x_b + mask * (x_s - x_b))
            loss = functional.cross_entropy(logits_V, torch.tensor(label, device=logits_V.device))
            (loss / SCHEDULE.batch_size).backward(retain_graph=True)
        optimizer.step()
    return {"three steps": apart([run.theta], [theta], [start])}


def graph(sample: Sample) -> dict[str, float]:
    """Steps replayed as a CUDA graph against the same ones taken one by one; nothing where none is used."""
    if not can_graph(sample.subject.device, sample.run(sample.neuron(), 0).engine):
        return {}
    found = []
    for kind in (GraphedSteps, Steps):
        runs = [sample.run(sample.neuron(), 0), sample.run(sample.das(), 1)]
        start = _parameters(runs)
        take(kind, runs, sample, GraphedSteps.warm_up + N_STEPS)
        found.append(_parameters(runs))
    return {"graph": apart(*found, start)}


def joint(sample: Sample) -> dict[str, float]:
    """Three runs in one batch against each alone."""

    def fresh() -> list[MaskRun]:
        return [sample.run(featurizer, seed) for seed, featurizer in enumerate((sample.neuron(), sample.das()) * 2)][:3]

    together, alone = fresh(), fresh()
    start = _parameters(alone)
    take(Steps, together, sample, N_STEPS)
    for run in alone:
        take(Steps, [run], sample, N_STEPS)
    return {"joint": apart(_parameters(together), _parameters(alone), start)}


def take(kind: type[Steps], runs: list[MaskRun], sample: Sample, n: int) -> None:
    """The first n steps of these runs: those that warm up one by one, the others at once."""
    schedule = Schedule(-(-n // N_STEPS), SCHEDULE.batch_size, SCHEDULE.lr, SCHEDULE.temperature)
    optimizer, batches = adam(runs, schedule.lr, sample.subject.device), Batches.of(runs, schedule)
    steps = kind(runs, optimizer, batches, sample.precision)
    with in_precision(sample.precision):
        for _ in range(min(n, kind.warm_up)):
            steps.advance(1)
        if n > kind.warm_up:
            steps.advance(n - kind.warm_up)


def apart(found: list, wanted: list, start: list) -> float:
    """Of parameters that began alike: the sum of their differences, of the sum of the wanted moves."""
    found, wanted, start = ([t.detach().cpu().double() for t in tensors] for tensors in (found, wanted, start))
    differences = sum(float((a - b).abs().sum()) for a, b in zip(found, wanted, strict=True))
    moves = sum(float((b - c).abs().sum()) for b, c in zip(wanted, start, strict=True))
    return differences / max(moves, 1e-30)


def _parameters(runs: list[MaskRun]) -> list:
    return [parameter.detach().clone() for run in runs for parameter in run.parameters()]
