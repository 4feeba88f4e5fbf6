"""What the commands work on: the model, the cities it knows, and the SAEs asked for."""

import sys
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from common.progress import bar
from data.facts import Entity, read_cities
from data.prompts import Prompts, build_prompts, known_facts
from decoder.activations import ActivationCache
from featurizers.methods import METHODS
from grid import ravel
from grid.layers import asked_layers
from grid.settings import InputSettings
from imports import torch
from models import Subject, load_subject
from results.store import Store
from saes.autoencoder import SparseAutoencoder
from saes.loading import family_named, is_mirror, load_sae
from saes.names import is_own
from saes.releases import locate, release_named
from saes.source import find
from toy import world as toy


@dataclass
class Inputs:
    """Everything that is read before work begins, and fingerprints of it."""

    settings: InputSettings
    subject: Subject
    prompts: Prompts  # of the entities that take part
    known: dict  # the report on who takes part, and who does not and why
    sae_paths: dict[tuple[str, int], Path]  # by release and layer
    sae_digests: dict[tuple[str, int], str]
    model_digest: str
    cache: ActivationCache | None  # of the prompts that take part, at the layers asked for
    answered: dict | None = None  # what the model answered to RAVEL's prompts, as its file keeps it

    def activations(self, layers: list[int], progress: bool = True) -> ActivationCache:
        """What is frozen of the prompts at these layers; computed anew where it is not at hand."""
        if self.cache is None or not set(layers) <= set(self.cache.residuals):
            self.cache = self.subject.harvest(self.prompts, layers, progress=progress, answers=False)
        return self.cache

    def load_sae(self, release: str, layer: int, raw_residual: bool | None = None) -> SparseAutoencoder:
        """Read and check an SAE.  raw_residual: by default what the command line says.  Raises UserError."""
        raw = self.settings.raw_residual if raw_residual is None else raw_residual
        path = self.sae_paths[release, layer]
        family = release_named(release).family
        return load_sae(family, path, layer, raw, self.subject.d_model).to(self.settings.device)

    def check_saes(self, needed: list[tuple[str, int]], raw_residual: bool | None = None) -> None:
        """Read them all once, so that a damaged file is found before anything is written.  Raises UserError.

        Each is let go at once and read again when its turn comes: no more than one is ever held.
        """
        for release, layer in bar(needed, desc="check SAEs", unit="file", disable=not needed):
            self.load_sae(release, layer, raw_residual)


def set_up(settings: InputSettings, needed: list[tuple[str, int]] = ()) -> None:
    """Before the model is read: threads, and the toy world if that is asked for.

    needed: SAEs, by release and layer.  Raises UserError, before the toy world is built, for files that are not its.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    if settings.model == "toy":
        if settings.ravel is None and settings.cities.parent != settings.place.folder:
            read_cities(settings.cities)
        if settings.saes.parent != settings.place.folder:
            _locate_saes(settings, needed, toy.Recipe().n_layers)
        toy.ensure(settings.place.folder)


def read_inputs(settings: InputSettings, needed: list[tuple[str, int]]) -> Inputs:
    """Read cities, model and the whereabouts of the SAEs needed (release, layer); say who takes part.

    Raises UserError for what is wrong with any of them; nothing is written.
    """
    cities = [] if settings.ravel else read_cities(settings.cities)
    subject = load_subject(settings.place.path, settings.device, settings.dtype, settings.spread)
    paths = _locate_saes(settings, needed, subject.n_layers)
    _say_what_to_know(paths, settings)
    layers = sorted({*asked_layers(settings, subject.n_layers), *(layer for _, layer in needed)})
    digest = subject.digest()
    if settings.ravel:
        cache, found = None, ravel.ask(settings, subject, digest, answers_path(settings))
        prompts, answered, known = found.prompts, found.content, found.report
    else:
        cache, known = _known_prompts(settings, subject, cities, layers)
        prompts, answered = cache.prompts, None
    known |= {"names": [e.name for e in prompts.entities]}
    print(describe(known, prompts), file=sys.stderr)
    if len(prompts) < 2:
        if settings.ravel:
            remedy = "ask about more with --max-entities and --max-templates" if len(prompts) else "use another model"
            raise UserError(
                f"{settings.model} answers prompts about {len(prompts)} of {known['entities asked about']} entities "
                f"rightly, pairs need two; {remedy}"
            )
        raise UserError(
            f"{settings.model} knows both facts of {len(prompts)} of the {len(cities)} cities in {settings.cities}, "
            "pairs need two; use more cities with --cities, or --unfiltered"
        )
    digests = {
        (release, layer): family_named(release_named(release).family).digest(path)
        for (release, layer), path in paths.items()
    }
    return Inputs(settings, subject, prompts, known, paths, digests, digest, cache, answered)


def answers_path(settings: InputSettings) -> Path:
    """Where it is kept what the model answered to RAVEL's prompts."""
    return Store(settings.output, settings.model).root / f"answered-{settings.ravel.facts.entity_type}.json"


def _locate_saes(settings: InputSettings, needed: list[tuple[str, int]], n_layers: int) -> dict[tuple[str, int], Path]:
    found = {}
    for release, layer in needed:
        path = locate(release, settings.saes, layer, n_layers)
        if not path.exists():
            rest = " ".join(m for m in METHODS if not METHODS[m].release)
            raise UserError(
                f"there is no {release} SAE of layer {layer} at {path}; ./setup.sh {release_named(release).family} "
                f"downloads GPT-2 small's, --saes names another folder, and --methods {rest} leaves SAEs out"
            )
        found[release, layer] = path
    return found


def _say_what_to_know(paths: dict[tuple[str, int], Path], settings: InputSettings) -> None:
    """Notes on SAEs that are read from a mirror, or whose settings leave something open."""
    for (release, layer), path in paths.items():
        notes = find(release).remarks(settings.model) if is_own(release) else []
        if is_mirror(release_named(release).family, path):
            notes = [f"{release} layer {layer} is read from its mirror, {path}, not from Apollo's own run", *notes]
        for note in notes:
            print(f"note: {note}", file=sys.stderr)


def _known_prompts(
    settings: InputSettings, subject: Subject, cities: list[Entity], layers: list[int]
) -> tuple[ActivationCache, dict]:
    """The prompts of the cities that take part, run once, and a report on who does not take part and why."""
    prompts = build_prompts(cities, subject.tokenizer, settings.prompt, settings.one_token)
    longest, limit = prompts.longest(), subject.structure.n_positions
    if limit is not None and longest > limit:
        raise UserError(
            f"{settings.model} reads {limit} tokens, the prompts have {longest}; use another model, or --prompt bare"
        )
    cache = subject.harvest(prompts, layers)
    if settings.unfiltered:
        known = {
            "cities": len(cities),
            **{why: len(names) for why, names in prompts.skipped.items()},
            "unfiltered": True,
        }
    else:
        chosen, known = known_facts(prompts, cache.best_R)
        cache = cache.keep(chosen)
        prompts = cache.prompts
    known |= {
        "labels shared by several values": prompts.collisions(),
        "prompts": {template.attribute: template.filled("{city}") for template in prompts.templates},
        "patched at": "the last token of the city",
        "right answer": "the first token of the value's first word, as the tokenizer splits prompt, blank and word",
        "tokens": {city.name: prompts.tokens_of(i) for i, city in enumerate(prompts.entities)},
        "left out": {why: names for why, names in prompts.skipped.items() if names},
    }
    return cache, known


def describe(known: dict, prompts: Prompts) -> str:
    """One line: how many entities take part, and why others do not."""
    if "prompts asked" in known:
        asked, right, kept = (known[name] for name in ("prompts asked", "answered rightly", "kept"))
        used = sum(template["kept"] for template in known["templates"])
        return (
            f"{right:,} of {asked:,} prompts are answered rightly, {kept:,} take part: {len(prompts)} of "
            f"{known['entities asked about']} entities, {used} of {len(known['templates'])} templates"
        )
    why = [f"{len(names)} {reason}" for reason, names in known["left out"].items()]
    shared = [group for groups in known["labels shared by several values"].values() for group in groups]
    text = f"{len(prompts)} of {known['cities']} cities take part" + (f" (left out: {', '.join(why)})" if why else "")
    return text + (f"; counted as one answer: {', '.join(shared)}" if shared else "")
