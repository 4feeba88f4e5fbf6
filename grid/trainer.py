"""Train and test the runs of one layer, several masks in one forward pass, and save each result."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from common.memory import AtOnce
from common.progress import describe
from common.text import shortened
from data.names import PARTS
from data.pairs import PairBatch
from featurizers.base import Featurizer
from featurizers.controls import random_features, shuffled_labels
from featurizers.methods import BASELINES, ORIGINAL, Ingredients, method_named
from grid import wandb_log
from grid.inputs import Inputs
from grid.profiles import notice_of
from grid.settings import Settings
from imports import torch
from masks.engines import ENGINES, FastEngine, NnsightEngine
from masks.names import MASKS, SCORES
from masks.scores import outcomes, score
from masks.training import MaskRun, Schedule, Trained, fixed_theta, train, untrained
from results.outcomes import seed_intervals
from results.reading import NamedPairs
from results.run import Run
from results.store import Store
from saes.autoencoder import SparseAutoencoder
from saes.names import is_own
from saes.source import find
from verify.check import Verified, Ways


@dataclass
class Pairs:
    """The pairs of one target and seed.

    names: as their file has them; parts: the same as rows of prompts; test: the test pairs, for intervals.
    """

    names: dict[str, list]
    parts: dict[str, PairBatch]
    test: NamedPairs
    digest: str
    file: Path


def is_original(run: Run) -> bool:
    """Whether a run is of an SAE as the paper's code ran it."""
    return method_named(run.method).control == ORIGINAL


def schedule_of(settings: Settings) -> Schedule:
    s = settings
    return Schedule(s.epochs, s.batch_size, s.lr, tuple(s.temperature), s.precision, batching=s.batching)


@dataclass
class GridSpec:
    """What is to be trained, and everything that it needs; a process of its own can be sent it."""

    settings: Settings
    inputs: Inputs
    store: Store
    pairs: dict[tuple[str, int], Pairs]  # by target and seed
    configs: dict[Run, dict]  # of the runs to do, in this sequence
    provenance: dict
    wandb_mode: str | None
    verified: Verified | None = None  # None where nothing is trained

    @property
    def ways(self) -> Ways:
        return self.verified.ways if self.verified else Ways()

    @property
    def schedule(self) -> Schedule:
        return replace(schedule_of(self.settings), graphed=self.ways.graphed)

    def layers(self) -> list[int]:
        return sorted({run.layer for run in self.configs})

    def of_layer(self, layer: int) -> list[Run]:
        return [run for run in self.configs if run.layer == layer]

    def is_trained(self, run: Run) -> bool:
        """At the last block nothing can be learned: the gradient is exactly 0."""
        method = method_named(run.method)
        has_own_mask = method.fixed_mask is None and method.control != "features"
        return has_own_mask and run.layer < self.inputs.subject.n_layers - 1

    def steps(self, runs: Iterable[Run]) -> int:
        """Of Adam, over all these runs."""
        trained = (self.pairs[run.target, run.seed].parts["train"] for run in runs if self.is_trained(run))
        return sum(self.settings.epochs * len(self.schedule.sizes(pairs)) for pairs in trained)


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
class LayerMethod:
    """A method at one layer, ready to train.  On the fast engine it keeps of an SAE what its run needs, no more."""

    engine: FastEngine | NnsightEngine
    n_features: int
    l0: float | None
    sae: dict | None  # what results say of the SAE
    featurizer: Featurizer | None = None  # where it has tensors of its own, trained beside theta or not

    @property
    def trained_featurizer(self) -> Featurizer | None:
        return self.featurizer if self.featurizer is not None and self.featurizer.is_trained else None


def build_featurizer(
    run: Run, inputs: Inputs, settings: Settings, rotation_DD: torch.Tensor | None = None
) -> tuple[Featurizer, SparseAutoencoder | None]:
    """The featurizer of a run's method at its layer, and the SAE in it, if any.

    rotation_DD: one that was trained, for methods which take another's.
    """
    method = method_named(run.method)
    sae = inputs.load_sae(method.release, run.layer, True if is_original(run) else None) if method.release else None
    x_RD = inputs.activations([run.layer]).residuals[run.layer][:, 0]
    d_model, device = inputs.subject.d_model, settings.device
    needs = Ingredients(d_model, run.seed, device, sae, settings.error_term, x_RD, rotation_DD)
    return method.build(needs), sae


class Trainer:
    """Does the runs of a grid, layer by layer."""

    def __init__(self, spec: GridSpec, progress: bool = True):
        spec.ways.apply()
        self.spec = spec
        self.settings = spec.settings
        self.joint = AtOnce(spec.settings.joint if spec.ways.joint else 1, "runs")  # that train in one pass
        self.subject = spec.inputs.subject
        self.cache = spec.inputs.activations(spec.layers(), progress)

    def do_layer(self, layer: int, progress: Progress) -> None:
        """Train, test and save the runs of a layer; so many at a time as --joint says."""
        self.prepared: dict[tuple, LayerMethod] = {}  # what depends neither on target nor on seed serves all of them
        self.baselines: dict[tuple, torch.Tensor] = {}
        runs = self.spec.of_layer(layer)
        trained = [run for run in runs if self.spec.is_trained(run)]
        follow = [run for run in runs if method_named(run.method).control == "features"]  # from others' masks
        for run in runs:
            if run not in trained and run not in follow:
                self._test(run, progress)
        while trained:
            self.joint(lambda n: self._train(trained[:n], progress))
            del trained[: self.joint.n]
        for run in follow:
            self._test(run, progress)

    def _test(self, run: Run, progress: Progress) -> None:
        """Test and save a run without training."""
        progress.begin(f"{run.target} {shortened(run.method, 17)} L{run.layer}")
        self._finish(run, self._prepared(run), None)

    def _train(self, group: list[Run], progress: Progress) -> None:
        others = f" and {len(group) - 1} more" if len(group) > 1 else ""
        progress.begin(f"{group[0].target} {shortened(group[0].method, 17)}{others} L{group[0].layer}")
        prepared = [self._prepared(run) for run in group]
        jobs = [
            MaskRun(its.engine, its.trained_featurizer, self._training_pairs(run), run.seed)
            for run, its in zip(group, prepared, strict=True)
        ]
        trained = train(jobs, self.spec.schedule, self.settings.device, progress.step)
        for run, its, mask in zip(group, prepared, trained, strict=True):
            self._finish(run, its, mask)

    def _pairs(self, run: Run) -> Pairs:
        return self.spec.pairs[run.target, run.seed]

    def _training_pairs(self, run: Run) -> PairBatch:
        pairs = self._pairs(run).parts["train"]
        return shuffled_labels(pairs, run.seed) if method_named(run.method).control == "shuffled" else pairs

    def _untrained(self, run: Run, engine) -> Trained:
        """The mask of a run that is not trained: fixed, theta's start, or as many random features as another's."""
        method = method_named(run.method)
        if method.control != "features":
            return untrained(engine, method.fixed_mask, self.settings.device)
        n_selected = self.spec.store.read(replace(run, method=method.of))["n_selected"]
        is_selected = random_features(engine.n_active, n_selected, run.seed).to(self.settings.device)
        return Trained(fixed_theta(is_selected))

    def _finish(self, run: Run, prepared: LayerMethod, trained: Trained | None) -> None:
        """Test a run's mask and save the result."""
        s, method, engine = self.settings, method_named(run.method), prepared.engine
        began = time.perf_counter()
        if trained is None:
            trained = self._untrained(run, engine)
        pairs = self._pairs(run)
        scores = {}
        for part in PARTS:
            hits = outcomes(engine, trained.theta, pairs.parts[part], s.temperature[1])
            scores[part] = {mask: score(hits[mask], pairs.parts[part].is_cause) for mask in hits}
        for mask in MASKS:
            scores["test"][mask]["interval95"] = seed_intervals(hits[mask].numpy(), pairs.test, s.cluster)
        hits |= {name: self._baseline(run, name, 1.0 if name == "full" else 0.0) for name in BASELINES}
        if method.release:
            hits["reconstruction"] = self._baseline(run, run.method, 0.0)
        theta = engine.widen(trained.theta)
        result = {
            **{key: getattr(run, key) for key in ("target", "method", "layer", "seed")},
            **{"model": s.model, "mode": s.mode, "split": s.split},
            "notice": notice_of(s.model),
            "config": self.spec.configs[run],
            "n_features": prepared.n_features,
            "n_selected": int((theta > 0).sum()),
            "l0": prepared.l0,
            "sae": prepared.sae,
            "last_block": run.layer == self.subject.n_layers - 1,
            **scores,
            "interval_unit": s.cluster,
            "baselines": {
                name: self._three(hits[name], pairs) if name in hits else None
                for name in (*BASELINES, "reconstruction")
            },
            "history": trained.history,
            "pairs": pairs.file.name,
            "verified": self.spec.verified.for_result() if self.spec.verified else None,
            "seconds": round(trained.seconds + time.perf_counter() - began, 3),
            **self.spec.provenance,
        }
        tensors = {"theta": theta, **(prepared.featurizer.saved() if prepared.featurizer else {})}
        self.spec.store.write(run, result, tensors | {f"outcome_{name}": hit_N for name, hit_N in hits.items()})
        if self.spec.wandb_mode:
            wandb_log.log(run, result, s.output, self.spec.wandb_mode)

    def _prepared(self, run: Run) -> LayerMethod:
        """A run's method at its layer."""
        method, inputs, store = method_named(run.method), self.spec.inputs, self.spec.store
        key = (run.method, run.seed if method.control else None, run.target if method.control == "features" else None)
        if key not in self.prepared:
            trained = store.read_tensors(replace(run, method=method.of)) if method.control == "features" else {}
            featurizer, sae = build_featurizer(run, inputs, self.settings, trained.get("rotation"))
            l0 = featurizer.l0(self.cache.residuals[run.layer][:, 0])
            engine = ENGINES[self.settings.engine](self.subject, self.cache, run.layer, featurizer)
            about = None
            if sae is not None:
                digest = inputs.sae_digests[method.release, run.layer]
                about = {"file": sae.path, "digest": digest, "k": sae.k, "decoder_norms": sae.decoder_norms}
                if is_own(method.release):  # as SAELens has it
                    about["config"] = find(method.release).config
            has_tensors = featurizer.is_trained or featurizer.saved()
            prepared = LayerMethod(engine, featurizer.n_features, l0, about, featurizer if has_tensors else None)
            if featurizer.is_trained:  # each run gets its own
                return prepared
            self.prepared[key] = prepared
        return self.prepared[key]

    def _three(self, hit_N, pairs: Pairs) -> dict[str, float]:
        scores = score(hit_N, pairs.parts["test"].is_cause)
        return {name: scores[name] for name in SCORES}

    def _baseline(self, run: Run, method: str, mask: float) -> torch.Tensor:
        """[N] bool: the test pairs that a method's features with a constant mask get right."""
        key = (run.target, run.seed, method, mask)
        if key not in self.baselines:
            name = method if method_named(method).release else "full"
            engine = self._prepared(Run(run.target, name, run.layer, run.seed)).engine
            theta = untrained(engine, mask, self.settings.device).theta
            temperature = self.settings.temperature[1]
            self.baselines[key] = outcomes(engine, theta, self._pairs(run).parts["test"], temperature)["hard"]
        return self.baselines[key]
