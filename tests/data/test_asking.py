"""What a model is asked, and what of it is kept."""

import pytest
import tokenizers
import torch
import transformers

from common.errors import UserError
from data.asking import NAMED, Limits, drawn, known, questions
from data.facts import Entity, Facts, Template
from data.prompts import NOT_KNOWN

UNKNOWN = "<unk>"
PARTS = ("train", "validation", "test")
COUNTRIES = {"Paris": "France", "Boston": "United States", "Leeds": "United Kingdom", "Lima": "Peru"}
ENTITIES = [
    Entity(name, {"country": country, "continent": "Europe" if name in ("Paris", "Leeds") else "America"}, part)
    for (name, country), part in zip(COUNTRIES.items(), ("train", "train", "validation", "test"), strict=True)
]
TEMPLATES = [
    Template("country", "", " is in", "train"),
    Template("country", "Lima is in Peru and ", " is in", "test"),
    Template("continent", "the continent of ", " is", "train"),
]
FACTS = Facts("city", ("country", "continent"), ENTITIES, TEMPLATES)


@pytest.fixture(scope="module")
def tokenizer():
    """A word is a token; no start token."""
    texts = [t.filled(f"{e.name}") for t in TEMPLATES for e in ENTITIES]
    texts += [value for e in ENTITIES for value in e.values.values()] + ["England the"]
    words = dict.fromkeys([UNKNOWN, *(word for text in texts for word in text.split())])
    made = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=UNKNOWN)
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, unk_token=UNKNOWN)


class Model:
    """Writes what it is told to: text of a prompt -> the words that follow it, one after the other."""

    def __init__(self, tokenizer, says: dict[str, str]):
        self.tokenizer, self.says, self.passes = tokenizer, says, []

    def __call__(self, prompts):
        texts = [self.tokenizer.decode(row.tokens) for row in prompts.rows]
        self.passes.append(len(texts))
        words = [self._next(text) for text in texts]
        return torch.tensor([self.tokenizer.convert_tokens_to_ids(word) for word in words])

    def _next(self, text: str) -> str:
        for prompt, answer in self.says.items():
            words = [*prompt.split(), *answer.split()]
            if text.split() == words[: len(text.split())] and len(text.split()) >= len(prompt.split()):
                return words[len(text.split())] if len(words) > len(text.split()) else "and"
        return "is"


SAYS = {
    "Paris is in": "France",
    "Boston is in": "the United States",
    "Leeds is in": "England",
    "Lima is in": "United States",  # wrong at the end
    "Lima is in Peru and Paris is in": "France",
    "Lima is in Peru and Boston is in": "United Kingdom",  # wrong, but for its first token
    "Lima is in Peru and Leeds is in": "United Kingdom",
    "the continent of Paris is": "Europe",
    "the continent of Leeds is": "Europe",
    "the continent of Boston is": "America",
}


def test_what_is_asked(tokenizer):
    asked = questions(FACTS, tokenizer, Limits())
    texts = [tokenizer.decode(row.tokens) for row in asked.rows]
    assert len(texts) == 11  # of 12: Lima's template would give Lima's answer away
    assert "Lima is in Peru and Lima is in" not in texts
    assert asked.left_out == {NAMED: 1}
    for row, answers in zip(asked.rows, asked.answers, strict=True):
        assert tokenizer.decode(row.tokens[row.at]) == ENTITIES[row.entity].name
        if ENTITIES[row.entity].name == "Leeds" and row.attribute == "country":
            spelled = [tokenizer.decode(answer) for answer in answers]
            assert spelled == ["United Kingdom", "England", "the United Kingdom"]


def test_prompts_that_are_answered_whole_are_known_by_what_was_written(tokenizer):
    asked = questions(FACTS, tokenizer, Limits())
    model = Model(tokenizer, SAYS)
    written = asked.written(model)
    found = {tokenizer.decode(asked.rows[r].tokens): tokenizer.decode(answer) for r, answer in written.items()}
    right = {
        text: answer for text, answer in SAYS.items() if text not in ("Lima is in", "Lima is in Peru and Boston is in")
    }
    assert found == right
    # Only what may still become right is asked again: two of "United ..", one of "the ..", and then that once more.
    assert model.passes == [11, 3, 1]
    prompts, report = known(asked, written, Limits())
    assert [prompts.entities[p.entity].name for p in prompts.rows] == [
        *("Paris", "Boston", "Leeds"),
        *("Paris", "Leeds"),
        *("Paris", "Boston", "Leeds"),
    ]
    assert [e.name for e in prompts.entities] == ["Paris", "Boston", "Leeds"]
    boston = prompts.rows[1]
    assert tokenizer.decode(boston.answer) == "the United States"
    assert boston.label == boston.answer[0]
    assert (report["prompts asked"], report["answered rightly"], report["kept"]) == (11, 8, 8)
    assert [(t["asked"], t["right"]) for t in report["templates"]] == [(4, 3), (3, 2), (4, 3)]


def test_only_what_is_known_best_is_kept(tokenizer):
    asked = questions(FACTS, tokenizer, Limits())
    written = asked.written(Model(tokenizer, SAYS))
    prompts, report = known(asked, written, Limits(top_templates=1))
    assert [t["kept"] for t in report["templates"]] == [True, False, True]  # 3 of 4 against 2 of 3
    assert report["kept"] == len(prompts.rows) == 6
    prompts, _ = known(asked, written, Limits(top_entities=2))
    assert [e.name for e in prompts.entities] == ["Paris", "Leeds"]  # three prompts each, Boston two


def test_limits_draw_from_every_part():
    entities = [Entity(str(i), {"country": "x"}, PARTS[i % 10 // 5 + (i % 10 == 9)]) for i in range(100)]
    facts = Facts("city", ("country",), entities, [])
    chosen = drawn(facts.entities, 20)
    assert chosen == drawn(facts.entities, 20)
    assert [sum(e.part == part for e in chosen) for part in PARTS] == [10, 8, 2]
    assert drawn(entities, 100) == drawn(entities, None) == entities
    assert {e.part for e in drawn(entities, 1)} == set(PARTS)  # never none


def test_nothing_can_be_asked(tokenizer):
    facts = Facts("city", ("country",), [Entity("Xanadu", {"country": "Peru"}, "train")], TEMPLATES[:1])
    with pytest.raises(UserError, match=f"none of city's prompts .*1 {NOT_KNOWN}"):
        questions(facts, tokenizer, Limits())
