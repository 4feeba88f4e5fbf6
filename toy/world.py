"""The toy world: a small GPT-2 that knows 120 cities, planted so that the right answer is known.

A GPT-2 that is merely trained on the facts keeps them in one entangled code.  This
one is trained with an interchange loss as well: after block 2 a fixed random
rotation Q gives 32 dimensions to country and 32 to continent, and swapping one of
the two subspaces between two cities must change that answer and not the other.  So
a rotation that disentangles exists by construction, single neurons do not, and an
SAE whose latents are Q's axes (the oracle) does.

That DAS beats neurons and neurons beat SAEs here is built in.  A toy score checks
the machinery; it says nothing about real models or published SAEs.

    python -m toy                 # build it under saved_models/toy, if it is not there
"""

import dataclasses
import itertools
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from common.building import build_once
from common.files import writing
from common.paths import HOME
from common.progress import bar
from data.facts import Entity, read_cities
from data.names import PAPER
from data.prompts import EXAMPLES, Prompts, build_prompts
from decoder.loading import quiet
from imports import functional, tokenizers, torch, transformers
from saes.autoencoder import SparseAutoencoder
from saes.loading import save_sae
from saes.names import hook_point
from saes.releases import RELEASES, locate
from toy import saes as toy_saes

COUNTRIES = {  # 5 continents of 4 countries; 6 cities of each are taken from data/cities.csv
    "Europe": ("France", "Germany", "Italy", "Spain"),
    "Asia": ("Japan", "China", "India", "Turkey"),
    "Africa": ("Egypt", "Nigeria", "Kenya", "Morocco"),
    "North America": ("United States", "Canada", "Mexico", "Cuba"),
    "South America": ("Brazil", "Argentina", "Peru", "Chile"),
}
CITIES_PER_COUNTRY = 6
START, UNKNOWN = "<|endoftext|>", "<unk>"

# How the facts lie in the residual after the planted block.
PLANTS = (
    "rotation",  # in two subspaces of a random rotation: the toy world itself
    "neurons",  # in two halves of the coordinates: single neurons disentangle
    "none",  # in one entangled code (only whole vectors are interchanged); see tests/conftest.py for its width
)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the toy world; a cached world of another recipe is built anew."""

    seed: int = 0
    plant: str = "rotation"
    version: int = 1  # of this file's procedure
    n_layers: int = 6
    d_model: int = 64
    n_heads: int = 4
    planted_layer: int = 2
    steps: int = 450
    batch_size: int = 48  # sequences, and as many interchanges
    lr: float = 2e-3


def toy_cities() -> list[Entity]:
    """The 120 cities: the first six of each country in data/cities.csv, few-shot examples left out."""
    examples = {example["city"] for example in EXAMPLES}
    table = [city for city in read_cities(HOME / "data" / "cities.csv") if city.name not in examples]
    chosen = []
    for continent, countries in COUNTRIES.items():
        for country in countries:
            found = [c for c in table if (c.value("country"), c.value("continent")) == (country, continent)]
            chosen += found[:CITIES_PER_COUNTRY]
    return chosen


def toy_tokenizer(cities: list[Entity]):
    """A word-level tokenizer in which every word of the prompts and values is one token."""
    return word_tokenizer(f"{c.name} is a city in the {a} of {c.value(a)}" for c in cities for a in PAPER)


def word_tokenizer(texts: Iterable[str]):
    """A tokenizer in which every word of these texts is one token; it adds no start token."""
    words = dict.fromkeys([START, UNKNOWN, *(word for text in texts for word in text.split())])
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=START, eos_token=START, unk_token=UNKNOWN
    )


# ---------------------------------------------------------------- the model


def planted_rotation(recipe: Recipe) -> torch.Tensor:
    """Q [d_model, d_model], whose columns carry the attributes: country in the first half, continent in the other."""
    if recipe.plant == "neurons":
        return torch.eye(recipe.d_model)
    generator = torch.Generator().manual_seed(recipe.seed)
    return torch.nn.init.orthogonal_(torch.empty(recipe.d_model, recipe.d_model), generator=generator)


def planted_subspaces(recipe: Recipe, prompts: Prompts) -> tuple[torch.Tensor, ...]:
    """Of each attribute, the columns of Q that carry it."""
    n = len(prompts.attributes)
    return planted_rotation(recipe)[:, : recipe.d_model // n * n].chunk(n, dim=1)


def _states(blocks, x_BLD) -> list:
    """Residuals before and after each of these blocks, on whole sequences, causally as transformers calls them."""
    return list(itertools.accumulate(blocks, lambda x, block: block(x), initial=x_BLD))


def _embed(model, tokens_BL):
    positions = torch.arange(tokens_BL.shape[1])
    return model.transformer.wte(tokens_BL) + model.transformer.wpe(positions)


def _tokens(prompts: Prompts) -> torch.Tensor:
    """[R, L]: in this tokenizer all prompts are equally long."""
    return torch.tensor([prompt.tokens for prompt in prompts.rows])


def _logits(model, x_BLD):
    return model.lm_head(model.transformer.ln_f(x_BLD))


def train_model(recipe: Recipe, prompts: Prompts, tokenizer, progress: bool = True):
    """A GPT2LMHeadModel that knows all facts, with the interchange loss that plants them.

    prompts: every template with every entity, template by template.
    """
    torch.manual_seed(recipe.seed)
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=64,
        n_layer=recipe.n_layers,
        n_embd=recipe.d_model,
        n_head=recipe.n_heads,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = transformers.GPT2LMHeadModel(config)
    with torch.no_grad():
        model.transformer.wte.weight *= 5  # at the default scale the facts are learned three times as slowly
    subspace = {a: X @ X.T for a, X in zip(prompts.attributes, planted_subspaces(recipe, prompts), strict=True)}
    tokens, labels, n, n_templates = _tokens(prompts), prompts.labels(), len(prompts), len(prompts.templates)
    asks = torch.tensor([prompts.attributes.index(template.attribute) for template in prompts.templates])
    before, behind = model.transformer.h[: recipe.planted_layer + 1], model.transformer.h[recipe.planted_layer + 1 :]
    at = prompts.rows[0].at - tokens.shape[1]  # from the end
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, betas=(0.9, 0.98), weight_decay=0.0)
    rate = transformers.get_cosine_schedule_with_warmup(optimizer, 50, int(recipe.steps * 1.1))
    generator = torch.Generator().manual_seed(recipe.seed + 1)

    def draw(high: int, size: int = recipe.batch_size):
        return torch.randint(high, (size,), generator=generator)

    swaps = (*prompts.attributes, "whole") if recipe.plant != "none" else ("whole",)
    for _ in bar(range(recipe.steps), desc="toy: model", disable=not progress):
        rows = draw(len(prompts.rows))
        sequence = torch.cat([tokens[rows], labels[rows, None]], dim=1)
        base, source, asked = draw(n), draw(n), draw(n_templates)
        base_row, source_row = asked * n + base, asked * n + source
        # A source may ask for anything, where there is more than one template for an attribute.
        seen_row = draw(n_templates) * n + source if n_templates > len(prompts.attributes) else source_row
        swapped = draw(len(swaps))
        x_BLD = _embed(model, torch.cat([sequence[:, :-1], tokens[base_row], tokens[seen_row]]))
        x_BLD = _states(before, x_BLD)[-1]
        plain, x_base, x_source = x_BLD.split(recipe.batch_size)
        language_loss = functional.cross_entropy(
            _logits(model, _states(behind, plain)[-1]).flatten(0, 1), sequence[:, 1:].flatten()
        )
        difference = x_source[:, at] - x_base[:, at]
        patch = torch.zeros_like(difference)
        right = labels[base_row].clone()
        for i, swap in enumerate(swaps):
            chosen = swapped == i
            patch[chosen] = difference[chosen] @ subspace[swap] if swap != "whole" else difference[chosen]
            changes = chosen if swap == "whole" else chosen & (asks[asked] == prompts.attributes.index(swap))
            right[changes] = labels[source_row[changes]]
        x_base = torch.cat([x_base[:, :at], (x_base[:, at] + patch)[:, None], x_base[:, at + 1 :]], dim=1)
        answers = _logits(model, _states(behind, x_base)[-1][:, -1])
        loss = language_loss + functional.cross_entropy(answers, right)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate.step()
    return model.eval().requires_grad_(False)


# ---------------------------------------------------------------- SAEs


def train_saes(model, prompts: Prompts, seed: int, progress: bool = True) -> dict[str, list]:
    """{release: one SparseAutoencoder per layer}, of all four published kinds."""
    blocks = model.transformer.h
    generator = torch.Generator().manual_seed(seed + 2)
    with torch.no_grad():
        residuals = _states(blocks, _embed(model, _tokens(prompts)))[1:]

    def after(layer: int):
        def run(x_BLD):
            states = _states(blocks[layer + 1 :], x_BLD)
            return _logits(model, states[-1]), states[1:]

        return run

    saes = toy_saes.train_on_vectors(torch.stack([x.flatten(0, 1) for x in residuals]), generator, progress)
    total = toy_saes.MODEL_STEPS * len(blocks)
    with bar(total=total, desc="toy: SAEs end to end", disable=not progress) as done:
        for layer in range(len(blocks)):
            pair = toy_saes.train_end_to_end(after(layer), residuals[layer], layer, generator, done)
            for release, sae in pair.items():
                saes.setdefault(release, []).append(sae)
    return saes


def oracle_sae(recipe: Recipe):
    """The SAE whose latents are the planted axes, one for each sign: ReLU with encoder [Q, -Q], exact."""
    Q = planted_rotation(recipe)
    W_enc = torch.cat([Q, -Q], dim=1)
    zeros = torch.zeros(2 * recipe.d_model), torch.zeros(recipe.d_model)
    return SparseAutoencoder(
        *("bloom", recipe.planted_layer, "", W_enc, zeros[0], W_enc.T.contiguous(), zeros[1]),
        subtract_b_dec=True,
        centred=True,
    )


# ---------------------------------------------------------------- on disk


def ensure(folder: str | Path, recipe: Recipe | None = None, saes: bool = True, progress: bool = True) -> Path:
    """Build the toy world in this folder unless it is there already.

    The folder is a Hugging Face checkpoint with cities.csv, world.json (the recipe)
    and saes/ in the layout of saved_models/saes; saes/oracle is the oracle SAE.  A world
    of another recipe is replaced.

    Raises UserError if it cannot be written.
    """
    recipe = recipe or Recipe()

    def build(building: Path) -> None:
        if progress:
            print("building the toy world (once, about a minute)", file=sys.stderr)
        _build(building, recipe, saes, progress)

    return build_world(Path(folder), recipe, build)


def build_world(folder: Path, recipe: Recipe, build: Callable[[Path], object]) -> Path:
    """Have `build` fill this folder, unless a world of the recipe is there.  Raises UserError if it cannot write."""

    def is_built() -> bool:
        try:
            return json.loads((folder / "world.json").read_text()) == dataclasses.asdict(recipe)
        except (OSError, ValueError):
            return False

    def build_and_sign(building: Path) -> None:
        with torch.random.fork_rng(devices=[]):
            build(building)
        (building / "world.json").write_text(json.dumps(dataclasses.asdict(recipe), indent=1) + "\n")

    with writing(f"write the toy world to {folder}", ""):
        build_once(folder, is_built, build_and_sign)
    return folder


def train_and_save(folder: Path, recipe: Recipe, prompts: Prompts, tokenizer, progress: bool):
    """The model that `train_model` gives, saved with its tokenizer as a Hugging Face checkpoint."""
    model = train_model(recipe, prompts, tokenizer, progress)
    with quiet():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def _build(folder: Path, recipe: Recipe, saes: bool, progress: bool) -> None:
    cities = toy_cities()
    tokenizer = toy_tokenizer(cities)
    prompts = build_prompts(cities, tokenizer, "bare")
    model = train_and_save(folder, recipe, prompts, tokenizer, progress)
    lines = ["city,country,continent", *(f"{c.name},{c.value('country')},{c.value('continent')}" for c in cities)]
    (folder / "cities.csv").write_text("\n".join(lines) + "\n")
    if saes:
        trained = train_saes(model, prompts, recipe.seed, progress)
        for release, per_layer in trained.items():
            for layer, sae in enumerate(per_layer):
                path = locate(release, folder / "saes", layer, recipe.n_layers)
                save_sae(RELEASES[release].family, path, sae, recipe.n_layers)
        oracle = folder / "saes" / "oracle" / hook_point(recipe.planted_layer, recipe.n_layers)
        save_sae("bloom", oracle, oracle_sae(recipe), recipe.n_layers)
