"""Answers of several tokens, scored question by question, are what greedy decoding of the patched prompt writes."""

import pytest
import torch
from helpers_decoders import D, V, layers_of, tiny_subject

from data.facts import Entity, Template
from data.prompts import Prompt, Prompts
from data.ravel_pairs import Table
from featurizers.neuron import Neuron
from masks.engines import FastEngine
from masks.scores import answers

LAYER, LENGTH = 1, 3
ATTRIBUTES = ("country", "language")


def made(seed: int) -> Prompts:
    """Two templates with four entities of one to three tokens, of which the first template has the longer suffix."""
    generator = torch.Generator().manual_seed(seed)

    def draw(n: int) -> tuple[int, ...]:
        return tuple(torch.randint(V, (n,), generator=generator).tolist())

    names, rows = [draw(1 + i % 3) for i in range(4)], []
    for number, attribute in enumerate(ATTRIBUTES):
        before, after = draw(4 + number), draw(4 - 2 * number)
        rows += [
            Prompt(
                i, attribute, (*before, *name, *after), len(before) + len(name) - 1, len(name), 0, number, (0,) * LENGTH
            )
            for i, name in enumerate(names)
        ]
    entities = [Entity(f"e{i}", dict.fromkeys(ATTRIBUTES, str(i))) for i in range(4)]
    return Prompts(entities, rows, {}, [Template(a, "", "") for a in ATTRIBUTES], ATTRIBUTES)


def written(model, layers, base: Prompt, source: Prompt, mask) -> list[int]:
    """What the model writes greedily behind the patched base prompt: whole passes, a plain hook, no cache."""
    seen = {}

    def read(_, __, output):
        seen["x"] = (output if torch.is_tensor(output) else output[0])[0, source.at].clone()

    def write(_, __, output):
        x = (output if torch.is_tensor(output) else output[0]).clone()
        x[0, base.at] += mask * (seen["x"] - x[0, base.at])
        return x if torch.is_tensor(output) else (x, *output[1:])

    with torch.no_grad():
        hook = layers[LAYER].register_forward_hook(read)
        model(torch.tensor([source.tokens]))
        hook.remove()
        hook, tokens = layers[LAYER].register_forward_hook(write), list(base.tokens)
        for _ in range(LENGTH):
            tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
        hook.remove()
    return tokens[-LENGTH:]


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma3"])
def test_whole_answers_are_what_is_written(name):
    subject, prompts = tiny_subject(name), made(0)
    mask = (torch.rand(D, generator=torch.Generator().manual_seed(1)) < 0.5).float()
    pairs = [(b, s, "cause") for b in range(8) for s in range(8) if prompts.rows[b].entity != prompts.rows[s].entity]
    layers = layers_of(name, subject.model)
    greedy = [written(subject.model, layers, prompts.rows[b], prompts.rows[s], mask) for b, s, _ in pairs]
    # Of a third of the pairs that is the right answer; of the others it is right up to a token that is not.
    wanted = [
        tuple((token + (step == i % 3 - 1 and i % 2)) % V for step, token in enumerate(answer))
        for i, answer in enumerate(greedy)
    ]
    found, n_right = {"first": [], "whole": []}, []
    for pair, answer in zip(pairs, wanted, strict=True):
        table = Table(prompts)
        table.answer_of = dict.fromkeys(table.answer_of, answer)
        batch = table.batch([pair], ["cause"], [], continues=True)
        assert len(batch) == LENGTH
        cache = subject.harvest(table.asked(), [LAYER], progress=False)
        engine = FastEngine(subject, cache, LAYER, Neuron(D))
        theta = torch.where(mask > 0, torch.inf, -torch.inf)
        hit_M = answers(engine, theta, batch, 0.1)["hard"] == batch.label
        for rule, hits in found.items():
            hits += batch.answered(hit_M, rule).tolist()
        n_right += batch.n_right(hit_M).tolist()
    assert found["first"] == [answer[0] == right[0] for answer, right in zip(greedy, wanted, strict=True)]
    assert found["whole"] == [tuple(answer) == right for answer, right in zip(greedy, wanted, strict=True)]
    is_right = [[a == b for a, b in zip(*both, strict=True)] for both in zip(greedy, wanted, strict=True)]
    assert n_right == [[*of_pair, False].index(False) for of_pair in is_right]
    assert set(n_right) == {0, 1, LENGTH}
    for hits in found.values():
        assert 5 < sum(hits) < len(hits) - 3
