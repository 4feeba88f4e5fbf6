"""Carry out a grid: check everything, then train and test what is not done yet.

Nothing is written before all that can be checked has been: the cities, the model,
every SAE file, and what is already in the output folder.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import wandb_log
from data.intervention_data import PARTS, PairBatch, index_pairs, make_pairs, pairs_digest
from featurizers import Ingredients, method_named
from files import write_json
from imports import UserError, tqdm
from inputs import device_name, read_inputs, saes_of
from results import Run, Store, difference, provenance, shortened
from settings import Settings
from training import ENGINES, SCORES, FastEngine, NnsightEngine, Schedule, evaluate, train, untrained

RESULT_FORMAT = 1  # of the result files; a result of another format is another configuration


@dataclass
class Pairs:
    """The pairs of one target and seed."""

    names: dict[str, list]
    parts: dict[str, PairBatch]
    digest: str
    file: Path


@dataclass(frozen=True)
class Ready:
    """A method at one layer, ready to train.  On the fast engine it keeps of an SAE what its run needs, no more."""

    engine: FastEngine | NnsightEngine
    n_features: int
    l0: float | None
    sae: dict | None  # what results say of the SAE
    parameters: list = field(default_factory=list)  # beside theta
    saved: Callable[[], dict] = dict  # tensors beside theta that the features depend on


@dataclass
class Experiment:
    """A grid on one model: shared inputs, and what is to do."""

    settings: Settings
    store: Store
    runs: list[Run]
    pairs: dict[tuple[str, int], Pairs] = field(default_factory=dict)  # by target and seed
    baselines: dict[tuple, dict] = field(default_factory=dict)

    def execute(self) -> None:
        s = self.settings
        self.wandb_mode = wandb_log.mode() if s.wandb else None  # what is wrong with it is told before all else
        self.inputs = read_inputs(s, saes_of(self.runs))
        self.subject, self.prompts = self.inputs.subject, self.inputs.prompts
        for target in s.targets:
            for seed in s.seeds:
                self.pairs[target, seed] = self._make_pairs(target, seed)
        todo = self._todo()
        self.inputs.check_saes(saes_of(todo))
        for (target, _), pairs in self.pairs.items():
            self._require_no_orphans(target, pairs, set(todo))
        self.store.prepare()
        write_json(self.store.root / "cities.json", self.inputs.known)
        for pairs in self.pairs.values():
            write_json(pairs.file, {part: [list(pair) for pair in pairs.names[part]] for part in PARTS})
        done = len(self.runs) - len(todo)
        print(f"{len(self.runs)} runs: {done} done before, {len(todo)} to do", file=sys.stderr)
        if todo:
            self._train_all(todo)

    # ------------------------------------------------------------ pairs

    def _make_pairs(self, target: str, seed: int) -> Pairs:
        s = self.settings
        names = make_pairs(self.prompts, target, s.mode, s.split, seed, s.max_pairs)
        parts = {part: index_pairs(names[part], self.prompts, target) for part in PARTS}
        file = self.store.pairs_path(target, s.mode, s.split, seed)
        return Pairs(names, parts, pairs_digest(names), file)

    def _require_no_orphans(self, target: str, pairs: Pairs, todo: set[Run]) -> None:
        """Other results that need the pair file as it is are an error, with --force a warning."""
        stale = self.store.stale(target, pairs.file.name, pairs.digest, todo)
        if stale and not self.settings.force:
            raise UserError(
                f"{stale[0]} and {len(stale) - 1} more results were made with other pairs (pairs_digest) than this run "
                f"would write to {pairs.file}; choose another --output, or replace the pairs with --force"
            )
        if stale:
            print(
                f"warning: {stale[0]} and {len(stale) - 1} more were made with other pairs; redo them", file=sys.stderr
            )

    # ------------------------------------------------------------ what is done

    def config(self, run: Run) -> dict:
        """Every setting that decides a run's result; None where it plays no part."""
        s = self.settings
        method = method_named(run.method)
        pairs = self.pairs[run.target, run.seed]
        is_trained, has_sae = method.fixed_mask is None, method.release is not None
        return {
            "format": RESULT_FORMAT,
            "model": s.model,
            "model_digest": self.inputs.model_digest,
            **{key: getattr(run, key) for key in ("target", "method", "layer", "seed")},
            **{key: getattr(s, key) for key in ("mode", "split", "prompt", "unfiltered", "max_pairs", "engine")},
            "n_cities": len(self.prompts),
            "cities_digest": self.prompts.digest(),
            "pairs_digest": pairs.digest,
            **{key: getattr(s, key) if is_trained else None for key in ("epochs", "batch_size", "lr", "temperature")},
            **{key: getattr(s, key) if has_sae else None for key in ("raw_residual", "error_term")},
            "sae_digest": self.inputs.sae_digests.get((method.release, run.layer)),
        }

    def _todo(self) -> list[Run]:
        """The runs that are not done.  Raises UserError if one was done with another configuration."""
        todo = []
        for run in self.runs:
            if self.settings.force or not self.store.is_done(run):
                todo.append(run)
                continue
            differs = difference(self.store.read(run)["config"], self.config(run))
            if differs:
                raise UserError(
                    f"{self.store.json_path(run)} was made with another configuration ({differs}); redo it with "
                    "--force, or keep both with another --output"
                )
        return todo

    # ------------------------------------------------------------ training

    def _train_all(self, todo: list[Run]) -> None:
        s = self.settings
        last = self.subject.n_layers - 1
        self.harvest = self.subject.harvest(self.prompts, sorted({run.layer for run in todo}))
        self.provenance = provenance(device_name(s.device))
        self.schedule = Schedule(s.epochs, s.batch_size, s.lr, tuple(s.temperature))
        steps = sum(
            s.epochs * self.schedule.steps_per_epoch(len(self.pairs[run.target, run.seed].parts["train"]))
            for run in todo
            if method_named(run.method).fixed_mask is None and run.layer != last
        )
        with tqdm.tqdm(
            total=steps,
            bar_format="{desc} {percentage:3.0f}% [{elapsed}<{remaining}{postfix}]",  # fits 80 columns
            smoothing=0.02,
            mininterval=0.2 if sys.stderr.isatty() else 15,
        ) as bar:
            engines: dict[str, Ready] = {}  # of one layer: what has no parameters serves all targets and seeds
            for i, run in enumerate(todo):
                if i and run.layer != todo[i - 1].layer:
                    engines.clear()
                bar.set_description(f"run {i + 1}/{len(todo)} {run.target} {shortened(run.method, 17)} L{run.layer}")
                self._do(run, engines, bar)

    def _do(self, run: Run, engines: dict, bar) -> None:
        s, method = self.settings, method_named(run.method)
        started = time.perf_counter()
        pairs = self.pairs[run.target, run.seed]
        ready = self._ready(run, engines)
        engine = ready.engine
        is_trained = method.fixed_mask is None and run.layer < self.subject.n_layers - 1
        if is_trained:

            def on_step(loss, accuracy):
                bar.update(1)
                if bar.n % 20 == 0:
                    bar.set_postfix(loss=f"{float(loss):.2f}", acc=f"{float(accuracy):.2f}", refresh=False)

            trained = train(engine, ready.parameters, pairs.parts["train"], self.schedule, run.seed, s.device, on_step)
        else:
            trained = untrained(engine, method.fixed_mask, s.device)
        temperature, n_cities = s.temperature[1], len(self.prompts)
        scores = {
            part: evaluate(engine, trained.theta, pairs.parts[part], temperature, n_cities, intervals=part == "test")
            for part in PARTS
        }
        theta = engine.widen(trained.theta)
        result = {
            **{key: getattr(run, key) for key in ("target", "method", "layer", "seed")},
            **{"model": s.model, "mode": s.mode, "split": s.split},
            "config": self.config(run),
            "n_features": ready.n_features,
            "n_selected": int((theta > 0).sum()),
            "l0": ready.l0,
            "sae": ready.sae,
            "last_block": run.layer == self.subject.n_layers - 1,
            **scores,
            "baselines": {
                **{
                    name: self._baseline(run, name, 1.0 if name == "full" else 0.0, engines)
                    for name in ("none", "full")
                },
                "reconstruction": self._baseline(run, run.method, 0.0, engines) if method.release else None,
            },
            "history": trained.history,
            "pairs": pairs.file.name,
            "seconds": round(time.perf_counter() - started, 3),
            **self.provenance,
        }
        self.store.write(run, result, {"theta": theta, **ready.saved()})
        if self.wandb_mode:
            wandb_log.log(run, result, s.output, self.wandb_mode)

    def _ready(self, run: Run, engines: dict) -> Ready:
        """A run's method at its layer."""
        method = method_named(run.method)
        if run.method not in engines:
            sae = self.inputs.load_sae(method.release, run.layer) if method.release else None
            need = Ingredients(self.subject.d_model, run.seed, self.settings.device, sae, self.settings.error_term)
            featurizer = method.build(need)
            l0 = featurizer.l0(self.harvest.residuals[run.layer][:, 0])
            engine = ENGINES[self.settings.engine](self.subject, self.prompts, self.harvest, run.layer, featurizer)
            about = None
            if sae is not None:
                digest = self.inputs.sae_digests[method.release, run.layer]
                about = {"file": sae.path, "digest": digest, "k": sae.k, "decoder_norms": sae.decoder_norms}
            ready = Ready(engine, featurizer.n_features, l0, about)
            if featurizer.parameters:  # trained: each run gets its own
                return replace(ready, parameters=featurizer.parameters, saved=featurizer.saved)
            engines[run.method] = ready
        return engines[run.method]

    def _baseline(self, run: Run, method: str, mask: float, engines: dict) -> dict:
        """Test scores of a method's features with a constant mask."""
        key = (run.target, run.seed, run.layer, method, mask)
        if key not in self.baselines:
            name = method if method_named(method).release else "full"
            engine = self._ready(Run(run.target, name, run.layer, run.seed), engines).engine
            theta = untrained(engine, mask, self.settings.device).theta
            test = self.pairs[run.target, run.seed].parts["test"]
            scores = evaluate(engine, theta, test, self.settings.temperature[1], len(self.prompts))["hard"]
            self.baselines[key] = {name: scores[name] for name in SCORES}
        return self.baselines[key]
