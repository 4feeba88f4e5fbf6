"""What RAVEL's templates cost on GPT-2 small's shape: to harvest many, and a training step beside the paper's.

    python benchmarks/ravel.py                     a quarter of an hour
    python benchmarks/ravel.py --entities 50       two minutes

Random tokens and weights.  Names have one to four tokens; templates have RAVEL's spread of lengths before the entity
(3 to 80 tokens, half of them below 16), and behind it as many as the paper's, so that suffixes are equally long.  The
steps that are compared take turns, each on a batch of 16 pairs with a mask over neurons.
"""

import argparse
import random

from fixtures import N_SUFFIX, build_subject, training_pairs
from step import Stepper
from turns import in_turns, one_thread, ratios, shown, spread, timed, verdict

from common.command import peak_gb
from data.batches import PairBatch
from data.facts import Entity, Template
from data.prompts import Prompt, Prompts
from featurizers.neuron import Neuron
from imports import torch
from masks.engines import FastEngine
from models import Subject

WANTED_STEP = 1.5  # RAVEL's / the paper's, at most
WANTED_MINUTES, WANTED_GB = 5, 6  # of the harvest, at most
LENGTHS = (3, 4, 5, 6, 8, 9, 10, 11, 12, 14, 16, 18, 22, 26, 30, 36, 44, 52, 64, 80)  # of templates before the entity


def ravel_prompts(n_entities: int, n_templates: int, vocabulary: int) -> Prompts:
    """Every template with every entity."""
    rng = random.Random(0)

    def draw(n: int) -> tuple[int, ...]:
        return tuple(rng.randrange(vocabulary) for _ in range(n))

    names, rows, templates = [draw(1 + i % 4) for i in range(n_entities)], [], []
    for number in range(n_templates):
        before, after = draw(LENGTHS[number % len(LENGTHS)]), draw(N_SUFFIX - 1)
        attribute = ("country", "continent")[number % 2]
        templates.append(Template(attribute, "", ""))
        rows += [
            Prompt(i, attribute, (*before, *name, *after), len(before + name) - 1, len(name), rng.randrange(99), number)
            for i, name in enumerate(names)
        ]
    entities = [Entity(str(i), {}) for i in range(n_entities)]
    return Prompts(entities, rows, {}, templates)


def step_of(subject: Subject, prompts: Prompts, layer: int, pairs: PairBatch) -> Stepper:
    cache = subject.harvest(prompts, [layer], progress=False, answers=False)
    featurizer = Neuron(subject.d_model)
    return Stepper(FastEngine(subject, cache, layer, featurizer), featurizer, torch.randn(subject.d_model), pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--entities", type=int, default=500, metavar="N", help="to harvest (500)")
    parser.add_argument("--templates", type=int, default=20, metavar="N", help="to harvest (20)")
    parser.add_argument("--layers", type=int, nargs="+", default=[0, 5, 10], choices=range(11), metavar="L")
    parser.add_argument("--turns", type=int, default=25, metavar="N")
    args = parser.parse_args()
    one_thread()
    subject, paper = build_subject()
    n_words = subject.model.config.vocab_size
    few = ravel_prompts(len(paper), args.templates, n_words)
    rng = torch.Generator().manual_seed(0)
    base, source = torch.randint(len(few.rows), (2, 2240), generator=rng)
    pairs = PairBatch.of(base, source, few.labels()[base], torch.arange(2240) % 2)
    verdicts = []
    print("                ms a step            RAVEL's / the paper's")
    print(" L    RAVEL's the paper's   median     min     max", flush=True)
    for layer in args.layers:
        steps = step_of(subject, few, layer, pairs), step_of(subject, paper, layer, training_pairs(paper))
        times = in_turns(args.turns, *steps)
        print(f"{layer:2}  {shown(times)}    {spread(ratios(*times))}", flush=True)
        verdicts.append(verdict(f"RAVEL's / the paper's at L = {layer}", ratios(*times), most=WANTED_STEP))
    before = peak_gb()
    prompts = ravel_prompts(args.entities, args.templates, n_words)
    seconds = timed(lambda: subject.harvest(prompts, [5], progress=False, answers=False)) / 1000
    n = len(prompts.rows)
    print(f"\nharvest of {args.entities} entities x {args.templates} templates = {n:,} prompts at layer 5:")
    print(f"{seconds:.0f} s, {n / seconds:.0f} a second; peak memory {peak_gb():.2f} GB ({before:.2f} before)")
    print(*verdicts, sep="\n")
    print(verdict("minutes of the harvest", [seconds / 60], most=WANTED_MINUTES))
    print(verdict("GB", [peak_gb()], most=WANTED_GB))


if __name__ == "__main__":
    main()
