"""Train and test the runs of one layer, several masks in one forward pass, and save each result."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from common.progress import describe
from common.text import shortened
from data.names import PARTS
from data.pairs import PairBatch
from featurizers.das import Das
from featurizers.methods import BASELINES, Ingredients, method_named
from grid import wandb_log
from grid.inputs import Inputs
from grid.profiles import notice_of
from grid.settings import Settings
from grid.store import Run, Store
from masks.engines import ENGINES, FastEngine, NnsightEngine
from masks.names import SCORES
from masks.scores import evaluate
from masks.training import MaskRun, Schedule, Trained, train, untrained


@dataclass
class Order:
    """What is to be trained, and everything that it needs; a process of its own can be sent it."""

    settings: Settings
    inputs: Inputs
    store: Store
    pairs: dict[tuple[str, int], tuple[dict[str, PairBatch], str]]  # by target and seed: the parts, the file's name
    configs: dict[Run, dict]  # of the runs to do, in their order
    provenance: dict
    wandb_mode: str | None

    @property
    def schedule(self) -> Schedule:
        s = self.settings
        return Schedule(s.epochs, s.batch_size, s.lr, tuple(s.temperature), s.precision)

    def layers(self) -> list[int]:
        return sorted({run.layer for run in self.configs})

    def of_layer(self, layer: int) -> list[Run]:
        return [run for run in self.configs if run.layer == layer]

    def is_trained(self, run: Run) -> bool:
        """At the last block nothing can be learned: the gradient is exactly 0."""
        return method_named(run.method).fixed_mask is None and run.layer < self.inputs.subject.n_layers - 1

    def steps(self, runs: Iterable[Run]) -> int:
        """Of Adam, over all these runs."""
        sizes = (len(self.pairs[run.target, run.seed][0]["train"]) for run in runs if self.is_trained(run))
        return sum(self.settings.epochs * self.schedule.steps_per_epoch(size) for size in sizes)


class Progress:
    """A progress bar over training steps."""

    PAUSE = 0.2  # seconds between two looks at the loss: to read it makes a GPU wait
    looked = 0.0  # when it was last

    def __init__(self, bar):
        self.bar = bar

    def begin(self, text: str) -> None:
        describe(self.bar, text)

    def is_time(self) -> bool:
        if time.perf_counter() - self.looked < self.PAUSE:
            return False
        self.looked = time.perf_counter()
        return True

    def advance(self, runs: int) -> None:
        self.bar.update(runs)

    def step(self, runs: int, loss, accuracy) -> None:
        self.advance(runs)
        if self.is_time():
            self.bar.set_postfix(loss=f"{float(loss):.2f}", acc=f"{float(accuracy):.2f}", refresh=False)


@dataclass(frozen=True)
class Ready:
    """A method at one layer, ready to train.  On the fast engine it keeps of an SAE what its run needs, no more."""

    engine: FastEngine | NnsightEngine
    n_features: int
    l0: float | None
    sae: dict | None  # what results say of the SAE
    rotation: Das | None = None  # what is trained beside theta


class Trainer:
    """Does the runs of an order, layer by layer."""

    def __init__(self, order: Order, progress: bool = True):
        self.order = order
        self.settings = order.settings
        self.subject = order.inputs.subject
        self.cache = order.inputs.activations(order.layers(), progress)

    def do_layer(self, layer: int, progress: Progress) -> None:
        """Train, test and save the runs of a layer; so many at a time as --joint says."""
        self.ready: dict[str, Ready] = {}  # what has no parameters serves all targets and seeds
        self.baselines: dict[tuple, dict] = {}
        runs = self.order.of_layer(layer)
        for run in runs:
            if not self.order.is_trained(run):
                progress.begin(f"{run.target} {shortened(run.method, 17)} L{layer}")
                self._finish(run, self._ready(run), None)
        trained = [run for run in runs if self.order.is_trained(run)]
        for start in range(0, len(trained), self.settings.joint):
            group = trained[start : start + self.settings.joint]
            others = f" and {len(group) - 1} more" if len(group) > 1 else ""
            progress.begin(f"{group[0].target} {shortened(group[0].method, 17)}{others} L{layer}")
            self._train(group, progress)

    def _train(self, group: list[Run], progress: Progress) -> None:
        ready = [self._ready(run) for run in group]
        jobs = [
            MaskRun(its.engine, its.rotation, self._parts(run)["train"], run.seed)
            for run, its in zip(group, ready, strict=True)
        ]
        trained = train(jobs, self.order.schedule, self.settings.device, progress.step)
        for run, its, mask in zip(group, ready, trained, strict=True):
            self._finish(run, its, mask)

    def _parts(self, run: Run) -> dict[str, PairBatch]:
        return self.order.pairs[run.target, run.seed][0]

    def _finish(self, run: Run, ready: Ready, trained: Trained | None) -> None:
        """Test a run's mask and save the result."""
        s, method, engine = self.settings, method_named(run.method), ready.engine
        began = time.perf_counter()
        if trained is None:
            trained = untrained(engine, method.fixed_mask, s.device)
        parts = self._parts(run)
        scores = {
            part: evaluate(engine, trained.theta, parts[part], s.temperature[1], intervals=part == "test")
            for part in PARTS
        }
        theta = engine.widen(trained.theta)
        result = {
            **{key: getattr(run, key) for key in ("target", "method", "layer", "seed")},
            **{"model": s.model, "mode": s.mode, "split": s.split},
            "notice": notice_of(s.model),
            "config": self.order.configs[run],
            "n_features": ready.n_features,
            "n_selected": int((theta > 0).sum()),
            "l0": ready.l0,
            "sae": ready.sae,
            "last_block": run.layer == self.subject.n_layers - 1,
            **scores,
            "baselines": {
                **{name: self._baseline(run, name, 1.0 if name == "full" else 0.0) for name in BASELINES},
                "reconstruction": self._baseline(run, run.method, 0.0) if method.release else None,
            },
            "history": trained.history,
            "pairs": self.order.pairs[run.target, run.seed][1],
            "seconds": round(trained.seconds + time.perf_counter() - began, 3),
            **self.order.provenance,
        }
        self.order.store.write(run, result, {"theta": theta, **(ready.rotation.saved() if ready.rotation else {})})
        if self.order.wandb_mode:
            wandb_log.log(run, result, s.output, self.order.wandb_mode)

    def _ready(self, run: Run) -> Ready:
        """A run's method at its layer."""
        method, inputs = method_named(run.method), self.order.inputs
        if run.method not in self.ready:
            sae = inputs.load_sae(method.release, run.layer) if method.release else None
            need = Ingredients(self.subject.d_model, run.seed, self.settings.device, sae, self.settings.error_term)
            featurizer = method.build(need)
            l0 = featurizer.l0(self.cache.residuals[run.layer][:, 0])
            engine = ENGINES[self.settings.engine](self.subject, self.cache, run.layer, featurizer)
            about = None
            if sae is not None:
                digest = inputs.sae_digests[method.release, run.layer]
                about = {"file": sae.path, "digest": digest, "k": sae.k, "decoder_norms": sae.decoder_norms}
            ready = Ready(engine, featurizer.n_features, l0, about)
            if featurizer.is_trained:  # each run gets its own
                return replace(ready, rotation=featurizer)
            self.ready[run.method] = ready
        return self.ready[run.method]

    def _baseline(self, run: Run, method: str, mask: float) -> dict:
        """Test scores of a method's features with a constant mask."""
        key = (run.target, run.seed, method, mask)
        if key not in self.baselines:
            name = method if method_named(method).release else "full"
            engine = self._ready(Run(run.target, name, run.layer, run.seed)).engine
            theta = untrained(engine, mask, self.settings.device).theta
            temperature = self.settings.temperature[1]
            scores = evaluate(engine, theta, self._parts(run)["test"], temperature)["hard"]
            self.baselines[key] = {name: scores[name] for name in SCORES}
        return self.baselines[key]
