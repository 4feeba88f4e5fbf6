"""Train and test the runs of a share, several masks in one forward pass, and save each result."""

import contextlib
import time
from dataclasses import dataclass, replace

from common.leases import Lease, Lost
from common.memory import AtOnce
from common.progress import say
from common.stopping import held
from common.text import shortened
from data.batches import PairBatch
from data.names import SCORING
from data.prompts import words_of
from featurizers.base import Featurizer
from featurizers.controls import random_features, shuffled_labels
from featurizers.examples import Examples
from featurizers.methods import BASELINES, method_named
from grid import checkpoints, wandb_log
from grid.checkpoints import Keeper
from grid.features import build_featurizer, theta_of_size
from grid.profiles import notice_of
from grid.progress import Progress
from grid.shares import Share
from grid.spec import GridSpec, Pairs
from imports import torch
from masks.engines import ENGINES, FastEngine, NnsightEngine
from masks.names import MASKS, SCORES
from masks.scores import answers, score
from masks.training import MaskRun, Trained, Training, fixed_theta, untrained
from results.outcomes import KEPT_ANSWERS, seed_intervals
from results.reading import OUTCOME, digest_of
from results.run import Run
from saes.names import is_own
from saes.source import find


@dataclass(frozen=True)
class LayerMethod:
    """A method at one layer, ready to train.  On the fast engine it keeps of an SAE what its run needs, no more."""

    engine: FastEngine | NnsightEngine
    n_features: int
    l0: float | None
    sae: dict | None  # what results say of the SAE
    featurizer: Featurizer | None = None  # where it has tensors of its own, trained or not
    theta: torch.Tensor | None = None  # [n_active], where all features are patched, or those that were chosen

    @property
    def trained_featurizer(self) -> Featurizer | None:
        return self.featurizer if self.featurizer is not None and self.featurizer.is_trained else None


class _Enough(Exception):
    """Enough steps were taken to tell how long they last."""


class Trainer:
    """Does the runs of a grid, share by share."""

    def __init__(self, spec: GridSpec, progress: bool = True):
        spec.ways.apply()
        self.spec = spec
        self.settings = spec.settings
        self.joint = AtOnce(spec.settings.joint if spec.ways.joint else 1, "runs")  # that train in one pass
        self.subject = spec.inputs.subject
        self.cache = spec.inputs.activations(spec.layers(), progress)

    def do(self, share: Share, progress: Progress, lease: Lease) -> None:
        """Train, test and save the runs of a share that are not done; so many at a time as --joint says.

        Raises Stopped if the process was asked to stop; then the state of the training is saved.  Raises Lost if
        the lease is another's now.
        """
        self._begin()
        self.share, self.lease = share, lease
        runs = self.spec.unfinished(share)
        trained = [run for run in runs if self.spec.is_trained(run)]
        follow = [run for run in runs if method_named(run.method).variant == "features"]  # from others' masks
        steps = self.spec.steps(self.spec.by_share[share])
        progress.begin_share(lease, steps, steps - self.spec.steps(trained))
        for run in runs:
            if run not in trained and run not in follow:
                self._test(run, progress)
        saved, begun = self._saved()
        if begun:
            self._train(begun, progress, saved)
        left = [run for run in trained if run not in begun]
        while left:
            self.joint(lambda n: self._train(left[:n], progress))
            del left[: self.joint.n]
        for run in follow:
            self._test(run, progress)

    def seconds(self, layer: int, n: int) -> float:
        """How long the training of this layer's runs would take, by n steps of each group that trains together."""
        self._begin()
        total = 0.0
        for group in self._groups([run for run in self.spec.of_layer(layer) if self.spec.is_trained(run)]):
            training = self._training(group, [self._prepared(run) for run in group])
            taken: list[tuple[float, int]] = []  # when so many steps had been taken; the first also sets things up

            def look(training=training, taken=taken) -> None:
                taken.append((time.perf_counter(), training.done))
                if len(taken) > n:
                    raise _Enough

            with contextlib.suppress(_Enough):  # to read the loss waits for a GPU
                training.take_steps(lambda loss, **_: float(loss), look)
            (began, first), (ended, last) = taken[0], taken[-1]
            total += (ended - began) / max(1, last - first) * max(training.batches.n_steps)
        return total

    def _begin(self) -> None:
        self.prepared: dict[tuple, LayerMethod] = {}  # what depends neither on target nor on seed serves all of them
        self.baselines: dict[tuple, torch.Tensor] = {}

    def _groups(self, runs: list[Run]) -> list[list[Run]]:
        """Those that train together."""
        size = self.joint.n
        return [runs[start : start + size] for start in range(0, len(runs), size)]

    def _training(self, group: list[Run], prepared: list[LayerMethod]) -> Training:
        jobs = [
            MaskRun(its.engine, its.trained_featurizer, self._training_pairs(run), run.seed, its.theta)
            for run, its in zip(group, prepared, strict=True)
        ]
        return Training(jobs, self.spec.schedule, self.settings.device)

    def _test(self, run: Run, progress: Progress) -> None:
        """Test and save a run without training."""
        progress.begin(f"{run.target} {shortened(run.method, 17)} L{run.layer}")
        self._finish(run, self._prepared(run), None)
        progress.cell()

    def _train(self, group: list[Run], progress: Progress, saved: checkpoints.Saved | None = None) -> None:
        """Train runs together, from a state that was saved if there is one; test and save those that are not done."""
        others = f" and {len(group) - 1} more" if len(group) > 1 else ""
        progress.begin(f"{group[0].target} {shortened(group[0].method, 17)}{others} L{group[0].layer}")
        prepared = [self._prepared(run) for run in group]
        training = self._training(group, prepared)
        path = self.spec.store.state_path(self.share)
        keeper = Keeper(path, self._digest(group), [str(run) for run in group], training.state, self.lease)
        if saved is not None:
            try:
                training.take_up(saved.tensors)
            except ValueError as error:
                checkpoints.ignore(path, str(error))
            done = self.spec.steps(run for run in group if self.spec.is_done(run))  # counted at the share's begin
            progress.give(max(0, training.steps_taken() - done))
            if progress.shown:
                say(f"{self.share.name} goes on where it was stopped: {training.steps_taken():,} steps are taken")
        with held():
            training.take_steps(progress.step, keeper)
        try:
            if len(group) > 1:  # a kill while they are saved one by one must not change with whom the others train
                keeper.save()
            for run, its, mask in zip(group, prepared, training.trained(), strict=True):
                if not self.spec.is_done(run):
                    self._finish(run, its, mask)
                    progress.cell()
        except KeyboardInterrupt:
            with contextlib.suppress(Lost):
                keeper.save()
            raise
        keeper.remove()

    def _saved(self) -> tuple[checkpoints.Saved | None, list[Run]]:
        """A training of this share that was left unfinished, and its runs; (None, []) if it is none of ours."""
        path = self.spec.store.state_path(self.share)
        saved = checkpoints.read(path)
        if saved is None:
            return None, []
        # A kill while they were saved one by one: some are done, and their state is needed for the others.
        every = [*self.spec.by_share[self.share], *self.spec.done_before]
        named = {str(run): run for run in every if self.spec.is_trained(run)}
        group = [named[name] for name in saved.runs if name in named]
        if len(group) < len(saved.runs) or saved.digest != self._digest(group):
            checkpoints.ignore(path, "it is of other settings, methods, seeds or versions")
            return None, []
        return saved, group

    def _digest(self, group: list[Run]) -> str:
        """Of all that decides the results of runs that train together."""
        configs = self.spec.configs | self.spec.done_before
        return digest_of({"configs": [configs[run] for run in group], **self.spec.provenance})

    def _pairs(self, run: Run) -> Pairs:
        return self.spec.pairs[run.target, run.seed]

    def _training_pairs(self, run: Run) -> PairBatch:
        pairs = self.spec.training_pairs(run)
        return shuffled_labels(pairs, run.seed) if method_named(run.method).variant == "shuffled" else pairs

    def _untrained(self, run: Run, prepared: LayerMethod) -> Trained:
        """The mask of a run that is not trained: fixed, theta's start, or as many random features as another's."""
        method, engine = method_named(run.method), prepared.engine
        if prepared.theta is not None:
            return Trained(prepared.theta)
        if method.variant != "features":
            return untrained(engine, method.fixed_mask, self.settings.device)
        n_selected = self.spec.store.read(replace(run, method=method.of))["n_selected"]
        is_selected = random_features(engine.n_active, n_selected, run.seed).to(self.settings.device)
        return Trained(fixed_theta(is_selected))

    def _finish(self, run: Run, prepared: LayerMethod, trained: Trained | None) -> None:
        """Test a run's mask and save the result."""
        s, method, engine = self.settings, method_named(run.method), prepared.engine
        began = time.perf_counter()
        if trained is None:
            trained = self._untrained(run, prepared)
        pairs = self._pairs(run)
        scores, saved = {}, {}
        for part, batch in pairs.parts.items():
            best = answers(engine, trained.theta, batch, s.temperature[1])
            scores[part] = {mask: self._scores(best[mask] == batch.label, batch) for mask in best}
            if part not in pairs.tests:
                continue
            best |= {name: self._baseline(run, name, 1.0 if name == "full" else 0.0, part) for name in BASELINES}
            if method.release:
                best["reconstruction"] = self._baseline(run, run.method, 0.0, part)
            hits = {name: batch.answered(best_M == batch.label) for name, best_M in best.items()}
            for mask in MASKS:
                ends = seed_intervals(hits[mask].numpy(), pairs.tests[part], s.cluster)
                scores[part][mask]["interval95"] = ends
            saved |= {f"outcome_{OUTCOME[part]}{name}": hit_N for name, hit_N in hits.items()}
            if s.ravel:
                saved |= {
                    f"right_{OUTCOME[part]}{name}": batch.n_right(best_M == batch.label).int()
                    for name, best_M in best.items()
                }
            if part == "test":
                kept = {name: best[name][batch.step == 0].int() for name in KEPT_ANSWERS}
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
                name: self._three(saved[key], pairs) if (key := f"outcome_{name}") in saved else None
                for name in (*BASELINES, "reconstruction")
            },
            "history": trained.history,
            "words": words_of(self.subject.tokenizer, torch.cat(list(kept.values())).tolist()),
            "pairs": pairs.file.name,
            "verified": self.spec.verified.for_result() if self.spec.verified else None,
            "seconds": round(trained.seconds + time.perf_counter() - began, 3),
            **self.spec.provenance,
        }
        tensors = {"theta": theta, **(prepared.featurizer.saved() if prepared.featurizer else {})}
        self.lease.require()
        tensors |= {f"answer_{name}": best_N for name, best_N in kept.items()}
        self.spec.store.write(run, result, tensors | saved)
        if self.spec.wandb_mode:
            wandb_log.log(run, result, s.output, self.spec.wandb_mode)

    def _prepared(self, run: Run) -> LayerMethod:
        """A run's method at its layer."""
        method, inputs, store = method_named(run.method), self.spec.inputs, self.spec.store
        follows, uses_examples = method.variant == "features", method.uses_examples
        is_drawn = method.variant or method.size or uses_examples
        key = (run.method, run.seed if is_drawn else None, run.target if follows or uses_examples else None)
        if key not in self.prepared:
            x_RD = self.cache.residuals[run.layer][:, 0]
            trained = store.read_tensors(replace(run, method=method.of)) if follows else {}
            examples = None
            if uses_examples:
                class_R = inputs.prompts.values_of(run.target) if self.settings.ravel else None
                examples = Examples.of(self.spec.training_pairs(run), x_RD, class_R)
            featurizer, sae = build_featurizer(run, inputs, self.settings, trained.get("rotation"), examples)
            l0 = featurizer.l0(x_RD)
            engine = ENGINES[self.settings.engine](self.subject, self.cache, run.layer, featurizer)
            theta = None
            if method.size:
                theta = engine.narrow(theta_of_size(method, featurizer, examples).to(self.settings.device))
            about = None
            if sae is not None:
                digest = inputs.sae_digests[method.release, run.layer]
                about = {"file": sae.path, "digest": digest, "k": sae.k, "decoder_norms": sae.decoder_norms}
                if is_own(method.release):  # as SAELens has it
                    about["config"] = find(method.release).config
            has_tensors = featurizer.is_trained or featurizer.saved()
            own = featurizer if has_tensors else None
            prepared = LayerMethod(engine, featurizer.n_features, l0, about, own, theta)
            if featurizer.is_trained:  # each run gets its own
                return prepared
            self.prepared[key] = prepared
        return self.prepared[key]

    def _scores(self, hit_M, batch: PairBatch) -> dict:
        """The scores of a part's questions; of RAVEL's also by the first token and by the whole answer of each pair."""
        kind_N = batch.first.kind
        found = score(batch.answered(hit_M), kind_N)
        for rule in SCORING if self.settings.ravel else ():
            if rule == "first" or batch.step.any():  # in training only first tokens are asked for
                by_rule = score(batch.answered(hit_M, rule), kind_N)
                found[rule] = {name: by_rule[name] for name in SCORES}
        return found

    def _three(self, hit_N, pairs: Pairs) -> dict[str, float]:
        scores = score(hit_N, pairs.parts["test"].first.kind)
        return {name: scores[name] for name in SCORES}

    def _baseline(self, run: Run, method: str, mask: float, part: str) -> torch.Tensor:
        """[M] int64: the answers to the questions of a test with a constant mask over a method's features."""
        key = (run.target, run.seed, method, mask, part)
        if key not in self.baselines:
            name = method if method_named(method).release else "full"
            engine = self._prepared(Run(run.target, name, run.layer, run.seed)).engine
            theta = untrained(engine, mask, self.settings.device).theta
            temperature = self.settings.temperature[1]
            self.baselines[key] = answers(engine, theta, self._pairs(run).parts[part], temperature)["hard"]
        return self.baselines[key]
