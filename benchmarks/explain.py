"""Time what main.py --explain computes of one mask: effects of single features, and the score of fewer features.

    python benchmarks/explain.py            some minutes
    python benchmarks/explain.py --layers 10

The toy world at layer 2 (neurons, where every feature differs in every pair, and an SAE), and GPT-2 small's shape with
an SAE of 24,576 latents: 320 pairs of either kind, effects of 50 features.  A mask there selects every second latent
that fires; `often` puts those first that fire on most prompts, which makes the most work, `any` draws the order.
"""

import argparse
import time

from fixtures import build_subject, random_sae
from turns import one_thread

from common.command import peak_gb
from common.paths import HOME
from data.facts import read_cities
from data.pairs import batch_of, make_pairs, named
from data.prompts import build_prompts
from explain.effects import Judged, curves, single_effects
from explain.subsets import Subsets
from featurizers.neuron import Neuron
from featurizers.sae import Sae
from imports import np, torch
from masks.engines import FastEngine
from models import load_subject
from results.pairs import NamedPairs
from saes.loading import load_sae
from saes.releases import locate
from toy import world as toy

TOP, PAIRS = 50, 320
WANTED = {"toy": 20, "GPT-2's shape": 180}  # seconds of processor time for the effects, at most
HEAD = "                                                   prompts run     effects   curve"
HEAD += "\n                L  features      selected pairs   of those asked        s       s"


def measure(model: str, name: str, engine: FastEngine, cache, mode: str, split: str, selected_S) -> bool:
    """Print a line; returns whether the effects took as little time as is wanted."""
    drawn = make_pairs(cache.prompts, "country", mode, split, 0, PAIRS)
    pairs = batch_of(drawn["test"], cache.prompts, "country")
    judged = Judged(NamedPairs.of(named(drawn, cache.prompts)), "country")
    subsets = Subsets(engine, pairs, selected_S)
    seconds = []
    for work in (
        lambda: single_effects(subsets, judged, TOP),
        lambda: curves(subsets, judged, {"theta": np.arange(len(selected_S))}),
    ):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
        if len(seconds) == 1:
            ran, asked = subsets.n_rows, subsets.n_asked
    print(
        f"{model:<14}{engine.layer_cache.layer:>3}  {name:<13}{len(selected_S):>9}{len(pairs):>6}"
        f"{ran:>9,} of {asked:>6,}{seconds[0]:>9.1f}{seconds[1]:>8.1f}",
        flush=True,
    )
    return seconds[0] <= WANTED[model]


def on_toy() -> list[bool]:
    folder = toy.ensure(HOME / "saved_models" / "toy", progress=False)
    subject = load_subject(str(folder))
    prompts = build_prompts(read_cities(folder / "cities.csv"), subject.tokenizer, "bare")
    layer = toy.Recipe().planted_layer
    cache = subject.harvest(prompts, [layer], progress=False)
    sae = Sae(load_sae("bloom", locate("bloom", folder / "saes", layer, subject.n_layers)))
    found = []
    for name, featurizer in (("neurons", Neuron(subject.d_model)), ("bloom", sae)):
        engine = FastEngine(subject, cache, layer, featurizer)
        found.append(measure("toy", name, engine, cache, "strict", "cities", torch.arange(min(engine.n_active, 80))))
    return found


def on_gpt2_shape(layers: list[int]) -> list[bool]:
    subject, prompts = build_subject()
    cache = subject.harvest(prompts, layers, progress=False)
    found = []
    for layer in layers:
        engine = FastEngine(subject, cache, layer, Sae(random_sae("bloom", cache.residuals[layer][:, 0], layer)))
        chosen_S = torch.randperm(engine.n_active, generator=torch.Generator().manual_seed(0))[: engine.n_active // 2]
        fires_S = (engine.bound.features_RF[:, chosen_S] != 0).sum(0)
        often_S = chosen_S[torch.argsort(fires_S, descending=True, stable=True)]
        for name, selected_S in (("bloom, any", chosen_S), ("bloom, often", often_S)):
            found.append(measure("GPT-2's shape", name, engine, cache, "paper", "pairs", selected_S))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--layers", type=int, nargs="*", default=[5, 10], choices=range(11), metavar="L")
    layers = parser.parse_args().layers
    one_thread()
    print(HEAD, flush=True)
    toys, shapes = on_toy(), on_gpt2_shape(layers) if layers else []
    print(f"\npeak memory {peak_gb():.2f} GB")
    for model, found in (("toy", toys), ("GPT-2's shape", shapes)):
        if found:
            print(f"wanted: effects, {model}, at most {WANTED[model]} s: {'met' if all(found) else 'MISSED'}")


if __name__ == "__main__":
    main()
