"""Prompts: where a city's tokens are, on GPT-2's tokenizer and on six kinds that are made here.

What the tokenizer's offsets say is checked by decoding: the tokens up to the patched one end with the city, and
those before it do not.
"""

import hashlib
import json

import pytest
import tokenizers
import transformers
from helpers_data import PAPER_CITIES, SHARED, make_city, paper_cities
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from common.errors import UserError
from common.paths import HOME
from data.facts import read_cities
from data.names import PAPER, PROMPT_STYLES
from data.prompts import MERGED, NO_LABEL, NOT_KNOWN, NOT_ONE, Prompts, build_prompts, sentence

START, UNKNOWN = "<s>", "<unk>"
VALUES = ("France", "Burkina Faso", "United States", "Europe", "Africa", "North America")
CITIES = [
    make_city("Paris", "France", "Europe"),
    make_city("Ouagadougou", "Burkina Faso", "Africa"),
    make_city("New York City", "United States", "North America"),
    make_city("L'Haÿ-les-Roses", "France", "Europe"),
    make_city("Coeur d'Alene", "United States", "North America"),
]


# ---------------------------------------------------------------- tokenizers of many kinds


def corpus() -> list[str]:
    names = [city.name for city in (*read_cities(HOME / "data" / "cities.csv")[::2], *CITIES[:3])]
    return [f"{sentence(a, name)} {value}." for name in names for a in PAPER for value in VALUES]


def wrapped(tokenizer: tokenizers.Tokenizer, **special):
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **{"bos_token": START, "unk_token": UNKNOWN, **special}
    )


def trained(model, trainer, pre_tokenizer, decoder, normalizer=None) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizer, decoder
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


def word_level():
    texts = [f"{sentence(a, city.name)} {city.value(a)}" for city in CITIES for a in PAPER]
    words = dict.fromkeys([START, UNKNOWN, *" ".join(texts).split()])
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return wrapped(tokenizer)


def byte_level_bpe(**options):
    """As GPT-2's and SmolLM2's: bytes, and the blank before a word belongs to its token."""
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, **options)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[START],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer = trained(models.BPE(), trainer, level, decoders.ByteLevel())
    return wrapped(tokenizer, unk_token=None)


def byte_level_bpe_untrimmed():
    """The same with offsets that count the blank to the word."""
    tokenizer = byte_level_bpe()
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def unigram():
    """As T5's and XGLM's: Metaspace; the words of the questions are pieces, those of cities are spelt by letters."""
    words = " ".join(f"{sentence(a, 'Paris')} {value}" for a in PAPER for value in VALUES).split()
    letters = sorted({letter for city in CITIES for letter in "▁" + city.name.replace(" ", "")})
    pieces = dict.fromkeys([*(f"▁{word}" for word in words), *letters], -5.0)
    tokenizer = tokenizers.Tokenizer(models.Unigram([(START, 0.0), (UNKNOWN, -20.0), *pieces.items()], unk_id=1))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace()
    return wrapped(tokenizer)


def word_piece():
    """As BERT's: punctuation is split off, and a word's later pieces begin with ##."""
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=[START, UNKNOWN], show_progress=False)
    model = models.WordPiece(unk_token=UNKNOWN)
    return wrapped(trained(model, trainer, pre_tokenizers.BertPreTokenizer(), decoders.WordPiece(cleanup=False)))


def sentence_piece_bpe(prepend: bool, start: bool):
    """As Llama 2's (prepend) and Gemma's: blanks are a letter of their own, what is unknown falls back to bytes.

    start: whether a post-processor adds the start token, as theirs do.
    """
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=[START, UNKNOWN], show_progress=False)
    blanks = [normalizers.Prepend("▁")] * prepend + [normalizers.Replace(" ", "▁")]
    split = pre_tokenizers.Split("▁", "merged_with_next")
    decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer = trained(models.BPE(), trainer, split, decoder, normalizers.Sequence(blanks))
    learnt = json.loads(tokenizer.to_str())["model"]
    vocabulary = learnt["vocab"] | {f"<0x{i:02X}>": len(learnt["vocab"]) + i for i in range(256)}
    merges = [tuple(merge) for merge in learnt["merges"]]
    tokenizer.model = models.BPE(vocabulary, merges, byte_fallback=True, unk_token=UNKNOWN)
    if start:
        tokenizer.post_processor = processors.TemplateProcessing(f"{START} $A", special_tokens=[(START, 0)])
    return wrapped(tokenizer)


KINDS = {
    "word level": word_level,
    "byte-level BPE": byte_level_bpe,
    "byte-level BPE, untrimmed": byte_level_bpe_untrimmed,
    "Unigram": unigram,
    "WordPiece": word_piece,
    "Llama's BPE": lambda: sentence_piece_bpe(prepend=True, start=True),
    "Gemma's BPE": lambda: sentence_piece_bpe(prepend=False, start=True),
    "Gemma's BPE without start": lambda: sentence_piece_bpe(prepend=False, start=False),
}
SPELLS_ALL = ("byte-level BPE", "byte-level BPE, untrimmed", "Llama's BPE", "Gemma's BPE")
MADE: dict = {}


def made(kind: str):
    if kind not in MADE:
        MADE[kind] = KINDS[kind]()
    return MADE[kind]


def decoded(tokenizer, tokens) -> str:
    return tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def squeezed(tokenizer, tokens) -> str:
    """Without blanks: some decoders put them around punctuation."""
    return "".join(decoded(tokenizer, tokens).split())


def require_found(prompts: Prompts, tokenizer) -> None:
    """By decoding alone: `at` is the city's last token, `n_own` how many it has, and the question ends the prompt."""
    for prompt in prompts.rows:
        spelt = prompts.entities[prompt.entity].name
        name = "".join(spelt.split())
        upto = squeezed(tokenizer, prompt.tokens[: prompt.at + 1])
        assert upto.endswith(name)
        assert not squeezed(tokenizer, prompt.tokens[: prompt.at]).endswith(name)
        assert squeezed(tokenizer, prompt.tokens[: prompt.at + 1 - prompt.n_own]) == upto.removesuffix(name)
        question = "".join(sentence(prompt.attribute, spelt).split())
        assert squeezed(tokenizer, prompt.tokens).endswith(question)


@pytest.mark.parametrize("style", PROMPT_STYLES[:2])
@pytest.mark.parametrize("kind", KINDS)
def test_build_prompts_finds_cities_of_several_tokens(kind, style):
    tokenizer = made(kind)
    prompts = build_prompts(CITIES, tokenizer, style)
    assert [prompts.entities[row.entity].name for row in prompts.rows] == 2 * [city.name for city in prompts.entities]
    assert {"Paris", "New York City"} <= {city.name for city in prompts.entities}
    if kind in SPELLS_ALL:
        assert [city.name for city in prompts.entities] == [city.name for city in CITIES]
    assert max(prompts.tokens_of(i) for i in range(len(prompts))) >= 3
    require_found(prompts, tokenizer)


@pytest.mark.parametrize("kind", ["Llama's BPE", "Gemma's BPE"])
@pytest.mark.parametrize("style", PROMPT_STYLES[:2])
def test_build_prompts_has_one_start_token_where_the_tokenizer_adds_it(kind, style):
    for prompt in build_prompts(CITIES, made(kind), style).rows:
        assert prompt.tokens.index(0) == 0
        assert prompt.tokens.count(0) == 1


@pytest.mark.parametrize("kind", ["word level", "byte-level BPE", "Gemma's BPE without start"])
def test_build_prompts_start_token_where_the_tokenizer_adds_none(kind):
    """Bare prompts begin with it all the same, few-shot prompts do not, as in the paper."""
    assert all(p.tokens.count(0) == 1 and p.tokens[0] == 0 for p in build_prompts(CITIES, made(kind), "bare").rows)
    assert not any(0 in p.tokens for p in build_prompts(CITIES, made(kind)).rows)


@pytest.mark.parametrize("kind", KINDS)
def test_build_prompts_label_is_the_next_token_in_context(kind):
    """Of the text with the value behind it, encoded as a whole."""
    tokenizer = made(kind)
    prompts = build_prompts(CITIES, tokenizer, "bare")
    for prompt in prompts.rows:
        text = decoded(tokenizer, prompt.tokens)
        word = prompts.entities[prompt.entity].value(prompt.attribute).split()[0]
        start = "" if tokenizer("a")["input_ids"][0] == 0 else f"{START} "
        whole = tokenizer(f"{start}{text.strip()} {word}")["input_ids"]
        assert whole[: len(prompt.tokens)] == list(prompt.tokens)
        assert prompt.label == whole[len(prompt.tokens)]
        assert word.startswith(decoded(tokenizer, [prompt.label]).strip())


def test_build_prompts_label_is_not_that_of_the_word_alone():
    """Llama's tokenizer makes two blanks of ' France', and of the first of them a token of its own."""
    tokenizer = made("Llama's BPE")
    alone = tokenizer(" France", add_special_tokens=False)["input_ids"]
    prompts = build_prompts([CITIES[0]], tokenizer)
    assert decoded(tokenizer, alone[:1]).strip() == ""
    assert decoded(tokenizer, [prompts.rows[0].label]).strip() != ""


LETTERS = st.characters(categories=("L", "M", "N"))
NAMES = st.builds(
    lambda words, joints: "".join(w + j for w, j in zip(words, [*joints, ""], strict=False)),
    st.lists(st.text(LETTERS, min_size=1, max_size=6), min_size=1, max_size=4),
    st.lists(st.sampled_from(["'", "’", "-", " ", ". ", "/", "--", "' "]), min_size=3, max_size=3),  # noqa: RUF001
).map(str.strip)


@settings(max_examples=80, deadline=None)
@given(
    names=st.lists(NAMES.filter(bool), min_size=1, max_size=3, unique=True), style=st.sampled_from(PROMPT_STYLES[:2])
)
@pytest.mark.parametrize("kind", SPELLS_ALL)
def test_build_prompts_any_name(kind, names, style):
    """Where every letter can be spelt every city takes part, and its last token is found."""
    tokenizer = made(kind)
    prompts = build_prompts([make_city(name, "France", "Europe") for name in names], tokenizer, style)
    assert [city.name for city in prompts.entities] == names
    require_found(prompts, tokenizer)


# ---------------------------------------------------------------- why cities are left out


def test_build_prompts_one_token():
    """--one-token leaves out what has several, and says so."""
    prompts = build_prompts(CITIES[:3], made("word level"), one_token=True)
    assert [city.name for city in prompts.entities] == ["Paris", "Ouagadougou"]
    assert prompts.skipped == {NOT_ONE: ["New York City"], NOT_KNOWN: [], MERGED: [], NO_LABEL: []}
    everyone = build_prompts(CITIES[:3], made("word level"))
    assert everyone.skipped == {NOT_KNOWN: [], MERGED: [], NO_LABEL: []}
    assert [everyone.tokens_of(i) for i in range(3)] == [1, 1, 3]


def test_build_prompts_says_why_cities_are_left_out():
    cities = [*CITIES[:1], make_city("Atlantis", "France", "Europe"), make_city("New York", "Wakanda", "Africa")]
    prompts = build_prompts(cities, made("word level"))
    assert [city.name for city in prompts.entities] == ["Paris"]
    assert prompts.skipped == {NOT_KNOWN: ["Atlantis"], MERGED: [], NO_LABEL: ["New York"]}
    with pytest.raises(UserError, match=r"none of the 2 cities .*1 with a token .*; 1 with a value .*Atlantis"):
        build_prompts(cities[1:], made("word level"))


@pytest.mark.parametrize(("style", "together"), [("bare", "Paris is"), ("few-shot", "Europe. Paris")])
def test_build_prompts_city_merged_with_its_neighbour(style, together):
    """The few-shot token stands in the prompts about continents alone, which is enough."""
    tokenizer = word_level()
    vocabulary = tokenizer.get_vocab()
    inner = tokenizer.backend_tokenizer
    inner.model = models.WordLevel(vocabulary | {together: len(vocabulary)}, unk_token=UNKNOWN)
    pattern = tokenizers.Regex(rf"{together}|\S+")
    inner.pre_tokenizer = pre_tokenizers.Split(pattern, "removed", invert=True)
    prompts = build_prompts(CITIES[:2], tokenizer, style)
    assert [city.name for city in prompts.entities] == ["Ouagadougou"]
    assert prompts.skipped[MERGED] == ["Paris"]


def test_build_prompts_needs_offsets():
    class Slow:
        is_fast = False

    with pytest.raises(UserError, match=r"Slow.*no offsets"):
        build_prompts(CITIES, Slow())


# ---------------------------------------------------------------- GPT-2's own tokenizer


@pytest.mark.parametrize(("attribute", "length"), [("country", 59), ("continent", 61)])
def test_build_prompts_with_gpt2s_tokenizer(gpt2_tokenizer, attribute, length):
    prompts = build_prompts(paper_cities(), gpt2_tokenizer, one_token=True)
    assert [c.name for c in prompts.entities] == PAPER_CITIES
    rows = [prompts.rows[row] for row in prompts.rows_about(attribute)]
    assert [len(row.tokens) for row in rows] == 40 * [length]
    assert {row.at for row in rows} == {length - 8}
    assert [gpt2_tokenizer.decode(row.tokens[-8]) for row in rows] == [" " + name for name in PAPER_CITIES]
    assert gpt2_tokenizer.decode(rows[0].tokens) == (
        f"Toronto is a city in the {attribute} of {'Canada' if attribute == 'country' else 'North America'}. "
        f"Beijing is a city in the {attribute} of {'China' if attribute == 'country' else 'Asia'}. "
        f"Miami is a city in the {attribute} of {'United States' if attribute == 'country' else 'North America'}. "
        f"Santiago is a city in the {attribute} of {'Chile' if attribute == 'country' else 'South America'}. "
        f"London is a city in the {attribute} of {'England' if attribute == 'country' else 'Europe'}. "
        f"Ankara is a city in the {attribute} of"
    )
    wanted = [" " + city.value(attribute).split()[0] for city in prompts.entities]
    assert [gpt2_tokenizer.decode(row.label) for row in rows] == wanted
    differing = [i for i, column in enumerate(zip(*(row.tokens for row in rows), strict=True)) if len(set(column)) > 1]
    assert differing == [length - 8]  # prompts differ in the city alone


def test_build_prompts_gpt2_skips_cities_of_several_tokens(gpt2_tokenizer):
    cities = [make_city("Paris", "France", "Europe"), make_city("Ouagadougou", "Burkina Faso", "Africa")]
    prompts = build_prompts(cities, gpt2_tokenizer, one_token=True)
    assert [c.name for c in prompts.entities] == ["Paris"]
    assert prompts.skipped[NOT_ONE] == ["Ouagadougou"]
    with pytest.raises(UserError, match=r"none of the 1 cities .*1 not one token.*Ouagadougou"):
        build_prompts(cities[1:], gpt2_tokenizer, one_token=True)


def test_build_prompts_gpt2_finds_ravels_cities(gpt2_tokenizer):
    """All of RAVEL's, of 1 to 5 tokens, by decoding."""
    file = SHARED / "ravel" / "ravel_city_entity_attributes.json"
    if not file.exists():
        pytest.skip("RAVEL's table is not at hand")
    prompts = build_prompts(read_cities(file), gpt2_tokenizer)
    assert len(prompts) == 3552
    assert {prompts.tokens_of(i) for i in range(len(prompts))} == {1, 2, 3, 4, 5}
    require_found(prompts, gpt2_tokenizer)


def test_collisions_of_values_that_share_their_first_token(gpt2_tokenizer):
    cities = [
        make_city("Jasper", "South Africa", "Africa"),
        make_city("Cork", "South Korea", "Asia"),
    ]  # one-token names
    collisions = build_prompts(cities, gpt2_tokenizer).collisions()
    assert collisions == {"country": ["South Africa / South Korea"], "continent": []}


OURS = ["Alexandria", "Cairo", "Tunis", "Kabul", "Beijing", "Shanghai", "Delhi", "Mumbai", "Jakarta", "Tehran"]
RAVELS = ["Adelaide", "Aden", "Akron", "Albany", "Aleppo", "Alert", "Alexandria", "Alice", "Alliance", "Alpine"]
AS_IT_WAS = {  # by the code of commit aaecdb3, which knew cities of one token of GPT-2's tokenizer alone
    # table, style -> cities, of one token, the first ten, digests of names, tokens, labels
    ("ours", "few-shot"): (269, 109, OURS, "d7a48d7196949cb1", "8b612e60475b4b39", "1c6a56db9a9326ba"),
    ("ours", "bare"): (269, 109, OURS, "d7a48d7196949cb1", "8e1cc0f83e8f1226", "1c6a56db9a9326ba"),
    ("ravel", "few-shot"): (3552, 380, RAVELS, "ff5f51eb7249300e", "5b918ef8e4ce3b96", "0b59d7711351d140"),
    ("ravel", "bare"): (3552, 380, RAVELS, "ff5f51eb7249300e", "e2968b2fc8cdb030", "0b59d7711351d140"),
}


@pytest.mark.parametrize(("table", "style"), AS_IT_WAS)
def test_build_prompts_one_token_is_as_it_was(gpt2_tokenizer, table, style):
    ravel = SHARED / "ravel" / "ravel_city_entity_attributes.json"
    file = {"ours": HOME / "data" / "cities.csv", "ravel": ravel}[table]
    if not file.exists():
        pytest.skip("RAVEL's table is not at hand")
    cities = read_cities(file)
    prompts = build_prompts(cities, gpt2_tokenizer, style, one_token=True)
    names = [city.name for city in prompts.entities]
    rows = [[prompts.rows[row] for row in prompts.rows_about(attribute)] for attribute in PAPER]
    tokens, labels = [[list(r.tokens) for r in of] for of in rows], [[r.label for r in of] for of in rows]
    digests = (hashlib.sha256(json.dumps(x).encode()).hexdigest()[:16] for x in (names, tokens, labels))
    assert (len(cities), len(names), names[:10], *digests) == AS_IT_WAS[table, style]
