"""A grid on one model: check everything before it is done, and read its results.

Nothing is written before all that can be checked has been: the cities, the model,
every SAE file, and what is already in the output folder.
"""

import sys
from dataclasses import dataclass, field, replace
from functools import partial

from common.errors import UserError
from common.files import write_json
from data.names import HELD_OUT, KINDS, PARTS, isolation
from data.pairs import batch_of, make_pairs, named
from data.ravel_pairs import SPLIT, Table, draw_ravel, named_ravel, shared_first_tokens
from featurizers.methods import Method, method_named, ordered
from grid import ravel, wandb_log
from grid.devices import device_name, settle
from grid.inputs import answers_path, read_inputs, set_up
from grid.layers import model_info, saes_of
from grid.plan import plan
from grid.selfcheck import keep, verified
from grid.settings import Settings, read_settings
from grid.shares import Share, share_of, shared_out
from grid.spec import GridSpec, Pairs, is_original, schedule_of
from grid.trainer import Trainer
from results.pairs import NamedPairs
from results.provenance import difference, provenance
from results.reading import digest_of
from results.run import Run
from results.store import Store

TRAINING = ("epochs", "batch_size", "batching", "lr", "temperature", "precision")
ANOTHER = "redo it with --force, or keep both with another --output"
RESULT_FORMAT = 3  # of the result files; a result of another format is another configuration


def training_settings(method: Method) -> tuple[str, ...]:
    """Which settings of training decide a method's result; the temperature only where a mask is trained."""
    if not method.is_trained and method.variant != "features":
        return ()
    return tuple(key for key in TRAINING if key != "temperature" or method.fixed_mask is None)


def require_sizes(runs: list[Run], d_model: int) -> None:
    """Raises UserError if a method's size is no less than the number of dimensions; of an SAE's latents any is."""
    methods = ((name, method_named(name)) for name in ordered(run.method for run in runs))
    large = [name for name, method in methods if method.size and not method.release and method.size >= d_model]
    if large:
        raise UserError(f"{large[0]} is no part of the {d_model} dimensions of the vector; name a size below {d_model}")


@dataclass(frozen=True)
class Again:
    """A share of a grid, to be made an experiment of its own on another machine.

    argv: of main.py; replaced: see Experiment.
    """

    argv: list[str]
    share: Share
    replaced: dict[Run, tuple]

    def __call__(self) -> "Experiment":
        settings = read_settings(self.argv)
        settle(settings)
        runs = [run for run in plan(settings, model_info(settings)) if share_of(run, settings.per) == self.share]
        settings.layers = [self.share.layer]
        return Experiment(settings, Store(settings.output, settings.model), runs, replaced=self.replaced)


@dataclass
class Experiment:
    """A grid on one model: shared inputs, and what is to do.  A job of `grid.work`."""

    settings: Settings
    store: Store
    runs: list[Run]
    pairs: dict[tuple[str, int], Pairs] = field(default_factory=dict)  # by target and seed
    replaced: dict[Run, tuple] | None = None  # with --force: stamps of results that do not count; None: those there now
    done: dict[Run, dict] = field(default_factory=dict)  # results that were there before
    worker = Trainer

    def left(self) -> list[Share]:
        s = self.settings
        return list(shared_out((run for run in self.runs if s.force or not self.store.is_done(run)), s.per))

    def again(self, share: Share) -> Again:
        s = self.settings
        of_share = [run for run in self.runs if share_of(run, s.per) == share]
        return Again(s.argv, share, {run: self.store.stamp(run) for run in of_share} if s.force else {})

    def prepare(self) -> GridSpec:
        """Check everything, write pairs and cities, and tell what is to be trained.  Raises UserError."""
        wandb_mode = wandb_log.mode() if self.settings.wandb else None  # what is wrong with it is told before all else
        spec = replace(self.check(), wandb_mode=wandb_mode)
        device = device_name(self.settings.device)
        if spec.configs:
            spec.verified = verified(self.settings, self.inputs, self.store, device)
        self.store.prepare()
        write_json(self.store.root / "cities.json", self.inputs.known)
        if self.inputs.answered:
            write_json(answers_path(self.settings), self.inputs.answered)
        for pairs in self.pairs.values():
            write_json(pairs.file, pairs.names)
        if spec.verified:
            keep(spec.verified, self.settings, self.inputs, self.store, device)
        print(f"{len(self.runs)} runs: {len(self.done)} done before, {len(spec.configs)} to do", file=sys.stderr)
        if wandb_mode:  # what was done before without --wandb is logged too
            for run, result in self.done.items():
                wandb_log.log(run, result, self.settings.output, wandb_mode)
        return spec

    def check(self) -> GridSpec:
        """The same without writing anything, and without the self-check."""
        self.read()
        require_sizes(self.runs, self.subject.d_model)
        todo = self._todo()
        self.inputs.check_saes(saes_of(todo))
        self.inputs.check_saes(saes_of(run for run in todo if is_original(run)), raw_residual=True)
        for (target, _), pairs in self.pairs.items():
            self._require_no_orphans(target, pairs, set(todo))
        return GridSpec(
            settings=self.settings,
            inputs=self.inputs,
            store=self.store,
            pairs=self.pairs,
            configs={run: self.config(run) for run in todo},
            provenance=provenance(device_name(self.settings.device)),
            replaced=self.replaced,
            done_before={run: self.config(run) for run in self.done},
        )

    def read(self) -> None:
        """Read the inputs and draw the pairs; nothing is written.  Raises UserError."""
        s = self.settings
        set_up(s, saes_of(self.runs))
        self.inputs = read_inputs(s, saes_of(self.runs))
        self.subject, self.prompts = self.inputs.subject, self.inputs.prompts
        self.n_entities, self.prompts_digest = len(self.prompts), self.prompts.digest()
        make = self._make_pairs
        if s.ravel:
            table = Table(self.prompts)
            make = partial(self._ravel_pairs, table)
            self.scored = {a: self._rule(a) for a in s.ravel.facts.attributes}
        for target in s.targets:
            for seed in s.seeds:
                pairs = make(target, seed)
                if any(method_named(run.method).is_trained for run in self.runs):
                    schedule_of(s).sizes(pairs.parts["train"])  # that they suffice is seen before anything is written
                self.pairs[target, seed] = pairs
        if s.ravel:  # only what some pair needs is run through the model
            self.inputs.prompts = self.prompts = table.asked()

    def results(self) -> list[dict]:
        """The results of all runs, once they are done.

        Raises UserError, also if another command did one meanwhile with another configuration.
        """
        for run in self.runs:
            if run not in self.done:
                self.done[run] = self.read_done(run, ANOTHER)
        return [self.done[run] for run in self.runs]

    # ------------------------------------------------------------ pairs

    def _make_pairs(self, target: str, seed: int) -> Pairs:
        s = self.settings
        pairs = make_pairs(self.prompts, target, s.mode, s.split, seed, s.max_pairs)
        parts = {part: batch_of(pairs[part], self.prompts, target) for part in PARTS}
        return self._named(named(pairs, self.prompts), parts, target, seed)

    def _ravel_pairs(self, table: Table, target: str, seed: int) -> Pairs:
        s = self.settings
        whole = [attribute for attribute, rule in self.scored.items() if rule == "whole"]
        pairs = draw_ravel(self.prompts, target, seed, s.max_pairs, whole)
        groups = [KINDS[0], *(isolation(attribute) for attribute in s.ravel.facts.attributes if attribute != target)]
        parts = {part: table.batch(pairs[part], groups, whole, continues=part != "train") for part in SPLIT}
        return self._named(named_ravel(pairs, self.prompts), parts, target, seed)

    def _rule(self, attribute: str) -> str:
        """How answers about an attribute count: by their first token, or whole where too many begin alike."""
        rule = self.settings.ravel.scored
        if rule == "auto":
            rule = "whole" if shared_first_tokens(self.prompts, attribute) > ravel.ALIKE else "first"
        return rule

    def _named(self, names: dict, parts: dict, target: str, seed: int) -> Pairs:
        s = self.settings
        file = self.store.pairs_path(target, s.mode, s.split, seed)
        tests = {part: NamedPairs.of(names, part) for part in HELD_OUT.values() if part in parts}
        return Pairs(names, parts, tests, digest_of(names), file)

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
        decisive, has_sae = training_settings(method), method.release is not None
        return {
            "format": RESULT_FORMAT,
            "model": s.model,
            "model_digest": self.inputs.model_digest,
            **{key: getattr(run, key) for key in ("target", "method", "layer", "seed")},
            **{key: getattr(s, key) for key in ("mode", "split", "prompt", "unfiltered", "max_pairs", "engine")},
            **{key: getattr(s, key) for key in ("one_token", "dtype")},
            "attention": self.subject.attention,
            **(self._ravel_config() if s.ravel else {}),
            "n_cities": self.n_entities,
            "cities_digest": self.prompts_digest,
            "pairs_digest": pairs.digest,
            **{key: getattr(s, key) if key in decisive else None for key in TRAINING},
            "raw_residual": s.raw_residual or is_original(run) if has_sae else None,
            "error_term": s.error_term if has_sae else None,
            "sae_digest": self.inputs.sae_digests.get((method.release, run.layer)),
        }

    def _ravel_config(self) -> dict:
        chosen = self.settings.ravel
        return {
            "facts": chosen.facts.entity_type,
            "attributes": list(chosen.facts.attributes),
            "limits": self.inputs.known["limits"],
            "scored": self.scored,
        }

    def read_done(self, run: Run, remedy: str) -> dict:
        """A result that is done.  Raises UserError, which ends with the remedy, if its configuration is another."""
        result = self.store.read(run)
        differs = difference(result["config"], self.config(run))
        if differs:
            raise UserError(f"{self.store.json_path(run)} was made with another configuration ({differs}); {remedy}")
        return result

    def _todo(self) -> list[Run]:
        """The runs that are not done.  Raises UserError if one was done with another configuration."""
        if self.replaced is None:
            self.replaced = {run: self.store.stamp(run) for run in self.runs} if self.settings.force else {}
        todo = []
        for run in self.runs:
            if self.store.stamp(run) in (None, self.replaced.get(run)):
                todo.append(run)
            else:
                self.done[run] = self.read_done(run, ANOTHER)
        return todo
