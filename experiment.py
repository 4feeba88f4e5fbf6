"""Carry out a grid: check everything, then train and test what is not done yet.

Nothing is written before all that can be checked has been: the cities, the model,
every SAE file, and what is already in the output folder.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import wandb_log
from data.intervention_data import PARTS, PairBatch, index_pairs, make_pairs, pairs_digest
from data.ravel_data_prep import Prompts, build_prompts, known_facts, read_cities
from featurizers import METHODS, Ingredients
from files import file_digest, write_json
from imports import UserError, torch, tqdm
from models import Subject, load_subject
from results import Run, Store, difference, provenance
from saes import FAMILIES, RELEASES, is_mirror, load_sae, locate
from settings import Settings
from training import ENGINES, SCORES, Schedule, evaluate, train, untrained

RESULT_FORMAT = 1  # of the result files; a result of another format is another configuration


@dataclass
class Pairs:
    """The pairs of one target and seed."""

    names: dict[str, list]
    parts: dict[str, PairBatch]
    digest: str
    file: Path


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
        cities = read_cities(s.cities)
        self.subject: Subject = load_subject(str(s.toy_folder or s.model), s.device)
        self.sae_paths = self._locate_saes()
        self.prompts, known = self._known_prompts(cities)
        if len(self.prompts) < 2:
            raise UserError(
                f"{s.model} knows both facts of {len(self.prompts)} of the {len(cities)} cities in {s.cities}, pairs "
                "need two; use more cities with --cities, or --unfiltered"
            )
        print(describe(known, self.prompts), file=sys.stderr)
        for target in s.targets:
            for seed in s.seeds:
                self.pairs[target, seed] = self._make_pairs(target, seed)
        self.digests = {
            (release, layer): file_digest(FAMILIES[RELEASES[release].family].weights_file(path))
            for (release, layer), path in self.sae_paths.items()
        }
        self.model_digest = self.subject.digest()
        todo = self._todo()
        needed = saes_of(todo)
        for release, layer in tqdm.tqdm(needed, desc="check SAEs", unit="file", leave=False, disable=not needed):
            self._sae(release, layer)  # a damaged file is found before anything is written
        for (target, _), pairs in self.pairs.items():
            self._require_no_orphans(target, pairs, set(todo))
        self.store.prepare()
        write_json(self.store.root / "cities.json", known)
        for pairs in self.pairs.values():
            write_json(pairs.file, {part: [list(pair) for pair in pairs.names[part]] for part in PARTS})
        done = len(self.runs) - len(todo)
        print(f"{len(self.runs)} runs: {done} done before, {len(todo)} to do", file=sys.stderr)
        if todo:
            self._train_all(todo)

    # ------------------------------------------------------------ inputs

    def _locate_saes(self) -> dict[tuple[str, int], Path]:
        found = {}
        for release, layer in saes_of(self.runs):
            path = locate(release, self.settings.saes, layer, self.subject.n_layers)
            if not path.exists():
                rest = " ".join(m for m in METHODS if not METHODS[m].release)
                raise UserError(
                    f"there is no {release} SAE of layer {layer} at {path}; ./setup.sh "
                    f"{RELEASES[release].family} downloads GPT-2 small's, --saes names another folder, and --methods "
                    f"{rest} leaves SAEs out"
                )
            if is_mirror(RELEASES[release].family, path):
                note = f"note: {release} layer {layer} is read from its mirror, {path}, not from Apollo's own run"
                print(note, file=sys.stderr)
            found[release, layer] = path
        return found

    def _sae(self, release: str, layer: int):
        family = RELEASES[release].family
        path = self.sae_paths[release, layer]
        sae = load_sae(family, path, layer, self.settings.raw_residual, self.subject.d_model)
        return sae.to(self.settings.device)

    def _known_prompts(self, cities) -> tuple[Prompts, dict]:
        """The prompts of the cities that take part, and a report on who does not and why."""
        s = self.settings
        prompts = build_prompts(cities, self.subject.tokenizer, s.prompt)
        longest = max(tokens.shape[1] for tokens in prompts.tokens.values())
        if longest > self.subject.model.config.n_positions:
            raise UserError(
                f"{s.model} reads {self.subject.model.config.n_positions} tokens, the prompts have {longest}; "
                "use another model, or --prompt bare"
            )
        if s.unfiltered:
            known = {
                "cities": len(cities),
                **{why: len(names) for why, names in prompts.skipped.items()},
                "unfiltered": True,
            }
        else:
            prompts, known = known_facts(prompts, lambda tokens: self.subject.predict(tokens, prompts.suffix))
        known |= {
            "labels shared by several values": prompts.collisions(),
            "names": [city.name for city in prompts.cities],
            "left out": {why: names for why, names in prompts.skipped.items() if names},
        }
        return prompts, known

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
        method = METHODS[run.method]
        pairs = self.pairs[run.target, run.seed]
        is_trained, has_sae = method.fixed_mask is None, method.release is not None
        return {
            "format": RESULT_FORMAT,
            "model": s.model,
            "model_digest": self.model_digest,
            **{key: getattr(run, key) for key in ("target", "method", "layer", "seed")},
            **{key: getattr(s, key) for key in ("mode", "split", "prompt", "unfiltered", "max_pairs", "engine")},
            "n_cities": len(self.prompts),
            "cities_digest": self.prompts.digest(),
            "pairs_digest": pairs.digest,
            **{key: getattr(s, key) if is_trained else None for key in ("epochs", "batch_size", "lr", "temperature")},
            **{key: getattr(s, key) if has_sae else None for key in ("raw_residual", "error_term")},
            "sae_digest": self.digests.get((method.release, run.layer)),
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
        self.provenance = provenance(_device_name(s.device))
        self.schedule = Schedule(s.epochs, s.batch_size, s.lr, tuple(s.temperature))
        steps = sum(
            s.epochs * self.schedule.steps_per_epoch(len(self.pairs[run.target, run.seed].parts["train"]))
            for run in todo
            if METHODS[run.method].fixed_mask is None and run.layer != last
        )
        with tqdm.tqdm(
            total=steps,
            bar_format="{desc} {percentage:3.0f}% [{elapsed}<{remaining}{postfix}]",  # fits 80 columns
            smoothing=0.02,
            mininterval=0.2 if sys.stderr.isatty() else 15,
        ) as bar:
            engines: dict[tuple, tuple] = {}  # of one layer: featurizers without parameters serve all targets and seeds
            for i, run in enumerate(todo):
                if i and run.layer != todo[i - 1].layer:
                    engines.clear()
                bar.set_description(f"run {i + 1}/{len(todo)} {run.target} {run.method} L{run.layer}")
                self._do(run, engines, bar)

    def _do(self, run: Run, engines: dict, bar) -> None:
        s, method = self.settings, METHODS[run.method]
        started = time.perf_counter()
        pairs = self.pairs[run.target, run.seed]
        featurizer, engine = self._engine(run, engines)
        is_trained = method.fixed_mask is None and run.layer < self.subject.n_layers - 1
        if is_trained:

            def on_step(loss, accuracy):
                bar.update(1)
                if bar.n % 20 == 0:
                    bar.set_postfix(loss=f"{float(loss):.2f}", acc=f"{float(accuracy):.2f}", refresh=False)

            trained = train(
                engine, featurizer.parameters, pairs.parts["train"], self.schedule, run.seed, s.device, on_step
            )
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
            "n_features": featurizer.n_features,
            "n_selected": int((theta > 0).sum()),
            "l0": featurizer.l0(self.harvest.residuals[run.layer][:, 0]),
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
        self.store.write(run, result, {"theta": theta, **featurizer.saved()})
        if self.wandb_mode:
            wandb_log.log(run, result, s.output, self.wandb_mode)

    def _engine(self, run: Run, engines: dict):
        """(featurizer, engine) of a run's method at its layer."""
        method = METHODS[run.method]
        key = (run.method,)
        if key not in engines:
            sae = self._sae(method.release, run.layer) if method.release else None
            need = Ingredients(self.subject.d_model, run.seed, self.settings.device, sae, self.settings.error_term)
            featurizer = method.build(need)
            engine = ENGINES[self.settings.engine](self.subject, self.prompts, self.harvest, run.layer, featurizer)
            if featurizer.parameters:  # trained: each run gets its own
                return featurizer, engine
            engines[key] = (featurizer, engine)
        return engines[key]

    def _baseline(self, run: Run, method: str, mask: float, engines: dict) -> dict:
        """Test scores of a method's features with a constant mask."""
        key = (run.target, run.seed, run.layer, method, mask)
        if key not in self.baselines:
            name = method if METHODS[method].release else "full"
            _, engine = self._engine(Run(run.target, name, run.layer, run.seed), engines)
            theta = untrained(engine, mask, self.settings.device).theta
            test = self.pairs[run.target, run.seed].parts["test"]
            scores = evaluate(engine, theta, test, self.settings.temperature[1], len(self.prompts))["hard"]
            self.baselines[key] = {name: scores[name] for name in SCORES}
        return self.baselines[key]


def saes_of(runs: list[Run]) -> list[tuple[str, int]]:
    """The (release, layer) of every SAE that these runs need, each once."""
    return list(dict.fromkeys((METHODS[r.method].release, r.layer) for r in runs if METHODS[r.method].release))


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else device


def describe(known: dict, prompts: Prompts) -> str:
    """One line: how many cities take part, and why others do not."""
    why = [f"{len(names)} {reason}" for reason, names in known["left out"].items()]
    shared = [group for groups in known["labels shared by several values"].values() for group in groups]
    text = f"{len(prompts)} of {known['cities']} cities take part" + (f" (left out: {', '.join(why)})" if why else "")
    return text + (f"; counted as one answer: {', '.join(shared)}" if shared else "")
