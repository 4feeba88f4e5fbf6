"""What the benchmarks measure on: GPT-2 small's shape with random weights, its prompts, and SAEs of real size."""

from __future__ import annotations

from pathlib import Path

from machine import HOME

from data.ravel_data_prep import ATTRIBUTES, EXAMPLES, Prompts, build_prompts, read_cities, sentence
from imports import functional, tokenizers, torch, transformers
from models import Subject
from saes.autoencoder import SparseAutoencoder
from saes.loading import save_sae
from saes.places import locate, release_named

N_CITIES = 40  # as many as GPT-2 small knows in the paper
PROMPT_LENGTHS = {"country": 59, "continent": 61}  # and their lengths there
N_FIRING = 100  # latents that fire on a vector, on average
K = 32  # of the TopK SAEs
START, UNKNOWN = "<|endoftext|>", "<unk>"


def word_tokenizer(texts: list[str]):
    """Every word and every full stop is one token, which gives the prompts the lengths they have in GPT-2."""
    splitter = tokenizers.pre_tokenizers.Whitespace()
    words = [START, UNKNOWN, *(word for text in texts for word, _ in splitter.pre_tokenize_str(text))]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(words))}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = splitter
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=START, eos_token=START, unk_token=UNKNOWN
    )


def random_model():
    """GPT-2 small's shape: 12 blocks, width 768, vocabulary 50,257."""
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(transformers.GPT2Config())


def build_subject() -> tuple[Subject, Prompts]:
    """A random model, and the paper's prompts for 40 cities."""
    table = [city for city in read_cities(HOME / "data" / "cities.csv") if city.name.isalpha()]
    cities = [table[i * len(table) // N_CITIES] for i in range(N_CITIES)]  # from all continents
    facts = [(c.name, a, c.value(a)) for c in cities for a in ATTRIBUTES]
    facts += [(example["city"], a, example[a]) for example in EXAMPLES for a in ATTRIBUTES]
    tokenizer = word_tokenizer([sentence(attribute, name, value) for name, attribute, value in facts])
    prompts = build_prompts(cities, tokenizer, "few-shot")
    lengths = {attribute: prompts.tokens[attribute].shape[1] for attribute in ATTRIBUTES}
    assert (len(prompts), lengths, prompts.suffix) == (N_CITIES, PROMPT_LENGTHS, 8), (len(prompts), lengths)
    return Subject(random_model(), tokenizer, "random"), prompts


def random_sae(release: str, n_latents: int, x_RD, layer: int) -> SparseAutoencoder:
    """Random unit directions, of which about 100 fire on each vector [R, d_model]; of a TopK SAE 32.

    The vectors are centred or normalised as the family does, and their mean is taken off
    before encoding: else the same latents fire on all of them, and fewer are ever alive
    than with a published SAE, which would flatter the fast engine.
    """
    family = release_named(release).family
    is_topk = family == "openai"
    x_RD = x_RD - x_RD.mean(-1, keepdim=True)
    if is_topk:
        x_RD = x_RD / x_RD.std(-1, keepdim=True)
    mean = x_RD.mean(0)
    generator = torch.Generator().manual_seed(layer)
    W_dec = functional.normalize(torch.randn(n_latents, x_RD.shape[1], generator=generator), dim=1)
    W_enc = W_dec.T.contiguous()
    threshold = ((x_RD - mean) @ W_enc).topk(N_FIRING, dim=1).values[:, -1].mean()
    b_enc = torch.zeros(n_latents) if is_topk else torch.full((n_latents,), -float(threshold))
    subtract_b_dec = family != "apollo"
    if not subtract_b_dec:
        b_enc -= mean @ W_enc
    reads = {"normalised": True, "k": K} if is_topk else {"centred": True}
    return SparseAutoencoder(family, layer, "", W_enc, b_enc, W_dec, mean, subtract_b_dec, **reads)


def write_sae(release: str, root: str | Path, sae: SparseAutoencoder, n_layers: int) -> Path:
    """In the publisher's own format; returns where."""
    path = locate(release, root, sae.layer, n_layers)
    save_sae(sae.family, path, sae, n_layers)
    return path
