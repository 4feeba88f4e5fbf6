"""Explain every finished result that the command line names: main.py --explain."""

import sys
import textwrap
from dataclasses import dataclass

from common.errors import UserError
from common.text import one_line, shortened
from data.facts import Entity
from explain.effects import Effects, Judged, curves, needed, single_effects
from explain.features import STRONGEST, describe, rounded
from explain.files import FORMAT, NAMED, done_before, write_explanation
from explain.links import page_of
from explain.overlap import Selection, agreement, overlaps, space_of
from explain.subsets import Subsets
from explain.table import table
from featurizers.directions import FixedDirections
from featurizers.methods import method_named
from grid.experiment import Experiment
from grid.features import build_featurizer
from grid.layers import ModelInfo
from grid.settings import Settings
from imports import np, torch
from masks.engines import FastEngine
from results.reading import as_floats, digest_of
from results.run import Run
from results.store import Store
from saes.names import can_be_same

SHOWN = 24  # features of which the file keeps every city's value, for the heat map
SAME = 0.99  # share of outcomes that must come out as they were saved: rounding may turn a few


def explain_results(settings: Settings, store: Store, runs: list[Run], info: ModelInfo) -> None:
    """Do what the command line asks for and print the table.  Raises UserError."""
    fixed = [name for name in dict.fromkeys(run.method for run in runs) if method_named(name).size]
    if fixed:
        text = f"note: no mask selects features of {', '.join(fixed)}, which are left out"
        print(one_line(text), file=sys.stderr)
    trained = [run for run in runs if _has_mask(run) and run.layer < info.n_layers - 1]
    done = [run for run in trained if store.is_done(run)]
    if not done:
        raise UserError(
            f"none of the {len(trained)} masks that these flags name is finished in {store.root}; train them by the "
            "same command without --explain, or name another --output"
        )
    experiment = Experiment(settings, store, done)
    experiment.read()
    results = {run: experiment.read_done(run, "give the flags that it was made with") for run in done}
    explainer = Explainer(experiment, results, info)
    found = [explanation for layer in sorted({run.layer for run in done}) for explanation in explainer.layer(layer)]
    missing = f"; {len(trained) - len(done)} more are not trained yet" if len(done) < len(trained) else ""
    print(f"explained: {len(found)}, {explainer.n_kept} of them before{missing}", file=sys.stderr)
    print(table(found))
    if found[0]["notice"]:
        print("\n" + textwrap.fill(found[0]["notice"], 79))
    print(f"\nexplanations: {store.root / 'explain'}")


def _has_mask(run: Run) -> bool:
    """Whether a mask that selects something belongs to it, its own or as large as another's."""
    method = method_named(run.method)
    return method.fixed_mask is None and not method.size


@dataclass
class Explainer:
    """Explains results layer by layer."""

    experiment: Experiment
    results: dict[Run, dict]
    info: ModelInfo
    n_kept: int = 0  # done before

    def __post_init__(self):
        self.settings, self.store = self.experiment.settings, self.experiment.store
        self.inputs = self.experiment.inputs
        name = self.info.name
        self.has_pages = self.info.has_published and name is not None and can_be_same("gpt2", name)

    def layer(self, layer: int) -> list[dict]:
        """Explain the results of a layer, and save each as soon as it is done."""
        runs = [run for run in self.results if run.layer == layer]
        self.engines: dict[tuple, FastEngine] = {}  # of featurizers without a rotation of their own
        tensors = {run: self.store.read_tensors(run) for run in runs}
        selections = [selection_of(run, tensors[run]) for run in runs]
        found = []
        for run, own in zip(runs, selections, strict=True):
            s = self.settings
            made_from = {"format": FORMAT, "result": self.results[run]["digest"], "top": s.top, "unit": s.cluster}
            kept = None if s.force else done_before(self.store.root, run, made_from)
            self.n_kept += kept is not None
            named = {key: getattr(run, key) for key in NAMED}
            content = kept or {"result": named, "made_from": made_from, **self._explain(run, tensors[run])}
            n = content["n_active"]  # other masks may be there by now, also where this one was explained before
            content |= {"overlaps": overlaps(own, selections, n), "agreement": agreement(own, selections, n)}
            if content.get("digest") != digest_of(content):
                write_explanation(self.store.root, content)
            found.append(content)
        return found

    def _engine(self, run: Run, tensors: dict) -> FastEngine:
        cache = self.inputs.activations(sorted({run.layer for run in self.results}))
        if "rotation" in tensors:
            featurizer = FixedDirections(tensors["rotation"].to(self.settings.device))
            return FastEngine(self.inputs.subject, cache, run.layer, featurizer)
        key = space_of(run)
        if key not in self.engines:
            featurizer, _ = build_featurizer(run, self.inputs, self.settings)
            self.engines[key] = FastEngine(self.inputs.subject, cache, run.layer, featurizer)
        return self.engines[key]

    def _explain(self, run: Run, tensors: dict) -> dict:
        """All that depends on this result alone."""
        result, pairs = self.results[run], self.experiment.pairs[run.target, run.seed]
        engine, judged = self._engine(run, tensors), Judged(result["test_pairs"], self.settings.cluster)
        alive_F = torch.arange(engine.n_features) if engine.bound.alive is None else engine.bound.alive.cpu()
        theta_F = tensors["theta"][alive_F]  # of the active features alone
        selected_S = torch.argsort(theta_F, descending=True, stable=True)[: int((theta_F > 0).sum())]
        index_S = alive_F[selected_S].tolist()
        subsets = Subsets(engine, pairs.parts["test"], selected_S)
        name = f"{run.target} {shortened(run.method, 17)} L{run.layer}"
        effects = single_effects(subsets, judged, self.settings.top, name)
        require_same(effects.mask_N, result, self.store.json_path(run))
        by_effect = np.concatenate([effects.order(), np.arange(len(effects.effect_T), len(selected_S))])
        orders = {"theta": np.arange(len(selected_S)), "effect": by_effect}
        found = curves(subsets, judged, orders, name)
        none_N = result["outcomes"]["none"]
        gain = at(judged.differences(effects.mask_N[None], none_N[None]), 0)
        none = result["baselines"]["none"]
        f_CS, cities = self._on_cities(run.target, engine, selected_S)
        attributes = self.inputs.prompts.attributes
        values = {attribute: [city.values.get(attribute, "") for city in cities] for attribute in attributes}
        are_latents = result["l0"] is not None
        words = describe(f_CS, [city.name for city in cities], values, run.target, are_latents)
        rows = self._rows(run, index_S, theta_F[selected_S], effects, words)
        return {
            "notice": result["notice"],
            "are_latents": are_latents,
            "n_features": result["n_features"],
            "n_active": engine.n_active,
            "n_selected": len(selected_S),
            "scores": {
                "mask": as_floats(judged.scores(effects.mask_N)),
                "empty": as_floats(judged.scores(effects.empty_N)),
                "none": none,
                "full": result["baselines"]["full"],
            },
            "gain": gain,
            "features": [rows[i] for i in by_effect],
            "curves": found,
            # Where the mask cannot be told from `none`, nothing above it is there to be explained.
            "needed": {k: needed(c, none["disentangle"]) if gain["low"] > 0 else None for k, c in found.items()},
            "cities": [{"name": c.name, **{a: c.values.get(a, "") for a in attributes}} for c in cities],
            "activations": [[rounded(x) for x in f_CS[:, i]] for i in by_effect[:SHOWN]],
        }

    def _on_cities(self, target: str, engine: FastEngine, selected_S: torch.Tensor) -> tuple[np.ndarray, list[Entity]]:
        """The selected features on the prompts that ask for the target, their mean for each entity [C, S]."""
        prompts = self.inputs.prompts
        rows = prompts.rows_about(target)
        every, place_R = np.unique([prompts.rows[r].entity for r in rows], return_inverse=True)
        f_RS = engine.bound.features_RF[torch.tensor(rows, device=engine.bound.features_RF.device)]
        f_RS = f_RS[:, selected_S.to(f_RS.device)].cpu().double().numpy()
        f_CS = np.zeros((len(every), f_RS.shape[1]))
        np.add.at(f_CS, place_R, f_RS)
        return f_CS / np.bincount(place_R)[:, None], [prompts.entities[i] for i in every]

    def _rows(
        self, run: Run, index_S: list[int], theta_S: torch.Tensor, effects: Effects, words: list[dict]
    ) -> list[dict]:
        """What the file says of each selected feature, in the order of theta; words: as `describe` has them."""
        T = len(effects.effect_T)
        return [
            {
                "feature": index,
                "theta": rounded(theta, 6),
                "effect": float(effects.effect_T[i]) if i < T else None,
                "lost": at(effects.lost, i) if i < T else None,
                "gained": at(effects.gained, i) if i < T else None,
                **about,
                "values": about["values"] if i < T else about["values"][:STRONGEST],
                "page": page_of(run.method, run.layer, index) if self.has_pages else None,
            }
            for i, (index, theta, about) in enumerate(zip(index_S, theta_S.tolist(), words, strict=True))
        ]


def selection_of(run: Run, tensors: dict) -> Selection:
    """What a run's hard mask selects."""
    selected = (tensors["theta"] > 0).nonzero()[:, 0].tolist()
    rotation = tensors.get("rotation")
    return Selection(run, frozenset(selected), None if rotation is None else rotation[:, selected].double().numpy())


def require_same(mask_N, result: dict, path) -> None:
    """Raises UserError if the whole mask's outcomes are not those that were saved."""
    same = float((mask_N == result["outcomes"]["hard"]).mean())
    if same < SAME:
        raise UserError(
            f"the mask of {path} answers {1 - same:.0%} of the test pairs otherwise here than when it was trained; "
            "another device or another version of torch? train it anew with --force"
        )


def at(found: dict[str, np.ndarray], i: int) -> dict[str, float]:
    return {key: float(values[i]) for key, values in found.items()}
