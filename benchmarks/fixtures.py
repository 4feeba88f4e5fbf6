"""What the benchmarks measure on: GPT-2 small's shape or a larger one, random, its prompts, and SAEs of real size."""

from pathlib import Path

from machine import HOME

from data.batches import PairBatch
from data.facts import read_cities
from data.names import PAPER
from data.pairs import batch_of, make_pairs
from data.prompts import EXAMPLES, Prompts, build_prompts, sentence
from decoder.loading import DTYPES
from featurizers.base import Featurizer
from featurizers.das import Das, LowRankDas
from featurizers.methods import parts_of
from featurizers.neuron import Neuron
from featurizers.sae import Sae
from imports import functional, tokenizers, torch, transformers
from models import Subject
from saes.autoencoder import SparseAutoencoder
from saes.loading import save_sae
from saes.releases import locate, release_named

N_CITIES = 40  # as many as GPT-2 small knows in the paper
PROMPT_LENGTHS = {"country": 59, "continent": 61}  # and their lengths there
N_SUFFIX = 8  # tokens from the patched one on
N_FIRING = 100  # latents that fire on a vector, on average
K = 32  # of the TopK SAEs
WIDTHS = {"openai": 32_768, "bloom": 24_576, "apollo-e2e": 46_080}  # release -> latents
SKEW_ENTRY = 0.05  # of DAS's parameter at width 768, standard deviation: a rotation well away from its start
START, UNKNOWN = "<|endoftext|>", "<unk>"
SHAPES = {  # 12 layers, width 768, 50,257 words; 26 layers, width 2,304, 256,000 words
    "gpt2": transformers.GPT2Config(),
    "gemma-2-2b": transformers.Gemma2Config(
        **{"hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, "vocab_size": 256_000},
        **{"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256},
    ),
}


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


def build_subject(device: str = "cpu", shape: str = "gpt2", dtype: str = "float32") -> tuple[Subject, Prompts]:
    """A model of this shape with random weights; the paper's prompts for 40 cities, a token a word."""
    torch.manual_seed(0)
    with torch.device(device):  # billions of random numbers take a CPU long
        model = transformers.AutoModelForCausalLM.from_config(SHAPES[shape], dtype=DTYPES[dtype])
    table = [city for city in read_cities(HOME / "data" / "cities.csv") if city.name.isalpha()]
    cities = [table[i * len(table) // N_CITIES] for i in range(N_CITIES)]  # from all continents
    facts = [(c.name, a, c.value(a)) for c in cities for a in PAPER]
    facts += [(example["city"], a, example[a]) for example in EXAMPLES for a in PAPER]
    tokenizer = word_tokenizer([sentence(attribute, name, value) for name, attribute, value in facts])
    prompts = build_prompts(cities, tokenizer, "few-shot", one_token=True)
    found = [(PROMPT_LENGTHS[p.attribute], N_SUFFIX) == (len(p.tokens), len(p.tokens) - p.at) for p in prompts.rows]
    assert len(prompts) == N_CITIES and all(found)
    return Subject(model, tokenizer, "random", device), prompts


def training_pairs(prompts: Prompts, mode: str = "paper", split: str = "pairs") -> PairBatch:
    """Of target country, cause and isolation."""
    return batch_of(make_pairs(prompts, "country", mode, split, 0)["train"], prompts, "country")


def random_sae(release: str, x_RD, layer: int) -> SparseAutoencoder:
    """Random unit directions, of which about 100 fire on each vector [R, d_model]; of a TopK SAE 32.

    The vectors are centred or normalised as the family does, and their mean is taken off before encoding: else
    the same latents fire on all of them, and fewer are ever alive than with a published SAE, which would flatter
    the fast engine.
    """
    family = release_named(release).family
    is_topk = family == "openai"
    x_RD = x_RD.cpu().float()
    x_RD = x_RD - x_RD.mean(-1, keepdim=True)
    if is_topk:
        x_RD = x_RD / x_RD.std(-1, keepdim=True)
    mean = x_RD.mean(0)
    generator = torch.Generator().manual_seed(layer)
    W_dec = functional.normalize(torch.randn(WIDTHS[release], x_RD.shape[1], generator=generator), dim=1)
    W_enc = W_dec.T.contiguous()
    threshold = ((x_RD - mean) @ W_enc).topk(N_FIRING, dim=1).values[:, -1].mean()
    b_enc = torch.full((WIDTHS[release],), 0.0 if is_topk else -float(threshold))
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


def featurizer_of(method: str, x_RD, layer: int) -> Featurizer:
    """neuron, das away from its start, das@K at its start, or a release's SAE, for these vectors."""
    d_model, device = x_RD.shape[1], str(x_RD.device)
    if method == "neuron":
        return Neuron(d_model)
    if size := parts_of(method).size:
        return LowRankDas(d_model, size, seed=0, device=device)
    if method != "das":
        return Sae(random_sae(method, x_RD, layer).to(device))
    das = Das(d_model, seed=0, device=device)
    entry = SKEW_ENTRY * (768 / d_model) ** 0.5  # the norm of such a matrix grows as the root of its width
    das.move_to(entry * torch.randn(d_model, d_model, generator=torch.Generator().manual_seed(1)).to(device))
    return das


def gflops(subject: Subject, layer: int, n_suffix: int, n_rows: int = 16) -> tuple[float, float]:
    """Of a step's products with weights, forward and for the gradient of what enters: the layers', the head's."""
    sizes = [sum(w.numel() for w in module.parameters() if w.dim() == 2) for module in subject.layers.modules]
    layers = n_suffix * sum(sizes[layer + 1 : -1]) + sizes[-1]
    return tuple(2 * 2 * n_rows * n / 1e9 for n in (layers, subject.structure.head.weight.numel()))
