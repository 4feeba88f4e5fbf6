"""RAVEL's pairs: nothing leaks, the labels are right, every attribute weighs the same."""

import itertools
import random
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from data.batches import PairBatch
from data.facts import Entity, Template
from data.names import isolation
from data.prompts import Prompt, Prompts
from data.ravel_pairs import SPLIT, Table, _Pool, draw_ravel, named_ravel, shared_first_tokens

ATTRIBUTES = ("country", "continent", "language")
PARTS = ("train", "validation", "test")


def made(seed: int, n: int = 60, known: float = 0.8) -> Prompts:
    """n entities, six templates of each attribute, of which a share is known; some answers have two tokens."""
    rng = random.Random(seed)
    entities = [
        Entity(f"e{i}", {a: f"{a} {rng.randrange(3 + 2 * k)}" for k, a in enumerate(ATTRIBUTES)}, PARTS[i % 3])
        for i in range(n)
    ]
    templates = [Template(a, f"{a} {j} ", "?", PARTS[j % 3]) for a in ATTRIBUTES for j in range(6)]
    rows = []
    for number, template in enumerate(templates):
        for i, entity in enumerate(entities):
            if rng.random() < known:
                value = entity.value(template.attribute)
                answer = (int(value[-1]) // 2 * 2 + 100, 200 + int(value[-1]))[: 2 if value[-1] in "45" else 1]
                if len(answer) == 1:
                    answer = (100 + int(value[-1]),)
                rows.append(Prompt(i, template.attribute, (1, 2, i + 10, 3), 2, 1, answer[0], number, answer))
    return Prompts(entities, rows, {}, templates, ATTRIBUTES)


SEEDED = st.integers(0, 10_000)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDED, target=st.sampled_from(ATTRIBUTES), cap=st.integers(10, 300))
def test_nothing_leaks_and_every_pair_differs(seed, target, cap):
    prompts = made(seed)
    parts = draw_ravel(prompts, target, seed, cap)
    assert parts == draw_ravel(prompts, target, seed, cap)
    assert list(parts) == list(SPLIT)
    rows, entities, templates = prompts.rows, prompts.entities, prompts.templates
    used = {part: {k: set() for k in ("entity", "template")} for part in parts}
    answer_of = {(p.template, p.entity): p for p in rows}
    for part, pairs in parts.items():
        assert len(set(pairs)) == len(pairs)
        for b, s, kind in pairs:
            base, source = rows[b], rows[s]
            for row in (base, source):
                used[part]["entity"].add(entities[row.entity].name)
                used[part]["template"].add(str(templates[row.template]))
                assert (entities[row.entity].part, templates[row.template].part) == SPLIT[part]
            assert kind == ("cause" if base.attribute == target else isolation(base.attribute))
            asked = answer_of[base.template, source.entity]  # the model answers base's template with the source
            assert asked.label != base.label
            assert entities[base.entity].value(base.attribute) != entities[source.entity].value(base.attribute)
        counts = Counter(kind for _, _, kind in pairs)
        assert counts["cause"] <= cap
        assert all(n <= max(1, cap // 2) for kind, n in counts.items() if kind != "cause")
    for part in ("validation", "test"):
        assert not used["train"]["entity"] & used[part]["entity"]
    assert not used["train"]["template"] & used["test_templates"]["template"]
    assert not used["validation"]["entity"] & used["test"]["entity"]


def test_sources_ask_for_anything():
    prompts = made(0)
    parts = draw_ravel(prompts, "country", 0, 300)
    asked = Counter(prompts.rows[s].attribute for _, s, kind in parts["train"] if kind == "cause")
    assert set(asked) == set(ATTRIBUTES)
    assert min(asked.values()) > 0.2 * asked.total()


def test_sources_with_rare_values_are_drawn_more_often():
    """Of 400 entities all but 40 share a value: by weights 1 / (20 + n) a rare one is drawn 380 / 60 times as often."""
    entities = [
        Entity(f"e{i}", {"country": "often" if i % 10 else f"rare {i % 20}", "continent": str(i % 7)}, "train")
        for i in range(400)
    ]
    numbers: dict[str, int] = {}
    templates = [Template(a, "", a, part) for a in ("country", "continent") for part in ("train", "test")]
    rows = [
        Prompt(
            i,
            t.attribute,
            (i,),
            0,
            1,
            numbers.setdefault(e.value(t.attribute), len(numbers)),
            number,
            (numbers.setdefault(e.value(t.attribute), len(numbers)),),
        )
        for number, t in enumerate(templates)
        for i, e in enumerate(entities)
    ]
    prompts = Prompts(entities, rows, {}, templates, ("country", "continent"))
    pairs = _Pool(prompts, "train", "train").draw("country", 3000, random.Random(0), may_begin_alike=False)
    is_rare = {i: not i % 10 for i in range(400)}
    # Bases with a rare value choose between 360 often and 20 of the other rare one: weights 360 / 380 and 20 / 40.
    rare = [is_rare[rows[s].entity] for b, s in pairs if is_rare[rows[b].entity]]
    expected = (20 / 40) / (20 / 40 + 360 / 380)
    assert abs(sum(rare) / len(rare) - expected) < 0.08
    assert len(rare) > 250


@settings(max_examples=15, deadline=None)
@given(seed=SEEDED)
def test_questions_of_pairs(seed):
    """Of each pair the tokens of the right answer, one after the other, behind the base prompt and what came before."""
    prompts, target, groups = made(seed), "language", ["cause", *map(isolation, ATTRIBUTES[:2])]
    pairs = draw_ravel(prompts, target, seed, 60, whole=["language"])
    table = Table(prompts)
    answer_of = {(p.template, p.entity): p.answer for p in prompts.rows}
    for part in SPLIT:
        batch = table.batch(pairs[part], groups, ["language"], continues=part != "train")
        rows = table.asked().rows
        starts = (batch.step == 0).nonzero()[:, 0].tolist()
        assert len(starts) == len(pairs[part])
        for (b, s, kind), begin, end in zip(pairs[part], starts, [*starts[1:], len(batch)], strict=True):
            base, source = prompts.rows[b], prompts.rows[s]
            answer = answer_of[base.template, source.entity] if kind == "cause" else base.answer
            assert tuple(batch.label[begin:end].tolist()) == (answer if part != "train" else answer[:1])
            assert set(batch.kind[begin:end].tolist()) == {groups.index(kind)}
            assert bool(batch.is_whole[begin]) == (part != "train" and base.attribute == "language")
            for step, question in enumerate(range(begin, end)):
                assert rows[batch.base[question]].tokens == base.tokens + answer[:step]
                assert rows[batch.base[question]].at == base.at
                assert rows[batch.source[question]].tokens == source.tokens
    rows = table.asked().rows
    assert len({(r.tokens, r.template) for r in rows}) == len(rows), "a row is there twice"
    assert {r.step for r in table.asked().rows} == {0, 1}
    assert all(not rows[r].step for a in ATTRIBUTES for r in table.asked().rows_about(a))


def test_answers_that_count_as_a_whole_may_begin_alike():
    prompts = made(3)
    first = draw_ravel(prompts, "language", 0, 300)
    whole = draw_ravel(prompts, "language", 0, 300, whole=["language"])
    answer_of = {(p.template, p.entity): p for p in prompts.rows}

    def alike(pairs) -> int:
        found = [(prompts.rows[b], answer_of[prompts.rows[b].template, prompts.rows[s].entity]) for b, s, _ in pairs]
        return sum(base.label == other.label for base, other in found)

    assert not any(alike(pairs) for pairs in first.values())
    assert not alike(whole["train"])  # where the first token is all that is trained on
    assert alike(whole["test"]) > 5


def test_what_is_known_of_too_little():
    prompts = made(0)
    few = prompts.pick([r for r, p in enumerate(prompts.rows) if p.attribute != "continent"])
    with pytest.raises(UserError, match=r"no isolation:continent pair for train .*leave it out of --attributes"):
        draw_ravel(few, "country", 0)


def test_pair_file():
    prompts = made(1)
    pairs = draw_ravel(prompts, "country", 0, 20)
    named = named_ravel(pairs, prompts)
    for part, found in pairs.items():
        for (b, s, kind), (base, source, named_kind, base_template, source_template, *answers) in zip(
            found, named[part], strict=True
        ):
            assert (base, source, named_kind) == (
                prompts.entities[prompts.rows[b].entity].name,
                prompts.entities[prompts.rows[s].entity].name,
                kind,
            )
            assert named["templates"][base_template] == str(prompts.templates[prompts.rows[b].template])
            assert named["templates"][source_template] == str(prompts.templates[prompts.rows[s].template])
            assert named["asked_for"][base_template] == prompts.rows[b].attribute
            assert named["asked_for"][source_template] == prompts.rows[s].attribute
            (other,) = (
                p for p in prompts.rows if (p.template, p.entity) == (prompts.rows[b].template, prompts.rows[s].entity)
            )
            assert answers == [list(prompts.rows[b].answer), list(other.answer)]
    names = {name for part in pairs for pair in named[part] for name in pair[:2]}
    assert named["facts"] == {e.name: e.values for e in prompts.entities if e.name in names}


def test_pairs_are_right_if_all_their_tokens_are():
    """By hand: three pairs, of 1, 2 and 3 tokens; the first counts by its first token alone, as does the last."""
    step, whole = [0, 0, 1, 0, 1, 2], [False, True, True, False, False, False]
    pairs = PairBatch.of(*[range(6)] * 3, [0, 1, 1, 1, 1, 1], step, whole)
    for hits, by_rule in (
        ([1, 1, 1, 1, 1, 1], ([1, 1, 1], [1, 1, 1], [1, 1, 1])),
        ([0, 1, 0, 1, 1, 0], ([0, 1, 1], [0, 0, 0], [0, 0, 1])),
        ([1, 0, 1, 1, 1, 1], ([1, 0, 1], [1, 0, 1], [1, 0, 1])),
        ([1, 1, 1, 1, 0, 1], ([1, 1, 1], [1, 1, 0], [1, 1, 1])),
    ):
        hit_M = torch.tensor(hits, dtype=torch.bool)
        found = [pairs.answered(hit_M, rule).long().tolist() for rule in ("first", "whole", None)]
        assert found == list(by_rule)
    assert pairs.first.kind.tolist() == [0, 1, 1]


def test_how_often_answers_begin_alike():
    """By hand: values A, A, B, C with first tokens 1, 1, 1, 2: of ten ordered pairs of different values four do."""
    values, labels = "AABC", (1, 1, 1, 2)
    entities = [Entity(str(i), {"country": value}, "train") for i, value in enumerate(values)]
    rows = [Prompt(i, "country", (i,), 0, 1, label) for i, label in enumerate(labels)]
    prompts = Prompts(entities, rows, {}, [Template("country", "", "")], ("country",))
    by_hand = [labels[a] == labels[b] for a, b in itertools.permutations(range(4), 2) if values[a] != values[b]]
    assert (sum(by_hand), len(by_hand)) == (4, 10)
    assert shared_first_tokens(prompts, "country") == 0.4
