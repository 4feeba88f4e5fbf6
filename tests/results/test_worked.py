"""Worked pairs: from the files of a grid on the toy world, against whole prompts run with plain hooks."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_results import N, fingerprint, named_pairs, result, write
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import main
from results.estimates import Grid
from results.reading import Damaged, read_result
from results.worked import WorkedPair, worked_pairs

TARGETS = {"country": "continent", "continent": "country"}  # and the other fact
AT = -8  # the city in "Paris is a city in the country of"
FLAGS = ("--model", "toy", "--device", "cpu", "--layers", "1", "2", "--methods", "neuron", "--max-pairs", "60")


@pytest.fixture(scope="module")
def toy_grid(toy_world, tmp_path_factory) -> Path:
    """OUTPUT/toy of neurons at two layers, two seeds: some pairs of each kind fail."""
    output = tmp_path_factory.mktemp("worked")
    assert main.main([*FLAGS, "--epochs", "2", "--seeds", "4", "3", "--output", str(output)]) == 0
    return output / "toy"


class Hooked:
    """The toy's checkpoint, a whole prompt at a time, with one vector of one block replaced."""

    def __init__(self, folder: Path, layer: int):
        self.model, self.tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        self.block = self.model.eval().transformer.h[layer]

    def run(self, city: str, attribute: str, vector=None) -> tuple[torch.Tensor, str]:
        """The city's vector after the block, and the likeliest next word."""
        seen = []

        def hook(module, inputs, output):
            output = output.clone()
            seen.append(output[0, AT].clone())
            if vector is not None:
                output[0, AT] = vector
            return output

        tokens = self.tokenizer(f"<|endoftext|> {city} is a city in the {attribute} of", return_tensors="pt")
        handle = self.block.register_forward_hook(hook)
        with torch.no_grad():
            logits = self.model(**tokens).logits[0, -1]
        handle.remove()
        return seen[0], self.tokenizer.decode([int(logits.argmax())]).strip()


def by_hand(root: Path, toy_world: Path, target: str) -> tuple[dict, list[tuple]]:
    """The json of the mask that is best on validation, and of each test pair in order:
    (kind, base, source, asked, before, after, wanted), from prompts run one by one with the hard mask."""
    files = sorted((root / target / "neuron").glob("*.json"))
    contents = {(c["layer"], c["seed"]): c for c in (json.loads(file.read_text()) for file in files)}
    mean = {at: np.mean([contents[at, s]["validation"]["hard"]["disentangle"] for s in (3, 4)]) for at in (1, 2)}
    layer = max(mean, key=lambda at: (mean[at], -at))
    content = contents[layer, 3]
    mask = load_file(root / target / "neuron" / f"layer{layer:02d}-seed3.safetensors")["theta"] > 0
    pairs, hooked, found = json.loads((root / target / content["pairs"]).read_text()), Hooked(toy_world, layer), []
    for base, source, kind in pairs["test"]:
        asked = target if kind == "cause" else TARGETS[target]
        (x_base, before), (x_source, _) = hooked.run(base, asked), hooked.run(source, asked)
        _, after = hooked.run(base, asked, torch.where(mask, x_source, x_base))
        wanted = pairs["facts"][source if kind == "cause" else base][asked]
        found.append((kind, base, source, asked, before, after, wanted))
    return content, found


@pytest.mark.parametrize("target", TARGETS)
def test_three_pairs_are_those_of_whole_prompts(toy_grid, toy_world, target, capsys):
    content, every = by_hand(toy_grid, toy_world, target)
    is_right = [after == wanted.split()[0] for *_, after, wanted in every]
    expected = {}
    for name, kind, right in (
        ("worked", "cause", True),
        ("failed on cause", "cause", False),
        ("failed on isolation", "isolation", False),
    ):
        expected[name] = next(p[1:] for p, r in zip(every, is_right, strict=True) if p[0] == kind and r == right)
    estimates = json.loads((toy_grid / "estimates.json").read_text())
    (kept,) = [worked for worked in estimates["worked_pairs"] if worked["target"] == target]
    assert (kept["method"], kept["layer"], kept["seed"], kept["mask"]) == ("neuron", content["layer"], 3, "hard")
    keys = ("base", "source", "asked", "before", "after", "wanted")
    assert {pair["shown_as"]: tuple(pair[key] for key in keys) for pair in kept["pairs"]} == expected
    assert kept["lacking"] == []

    shutil.copytree(toy_grid, toy_grid.parent / f"again-{target}" / "toy")  # the table of a second run
    output = str(toy_grid.parent / f"again-{target}")
    assert main.main([*FLAGS, "--epochs", "2", "--seeds", "4", "3", "--output", output]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = lines.index(f"{target}: single test pairs, neuron at layer {content['layer']}, seed 3, hard mask")
    shown = [line.split() for line in lines[start + 2 : start + 5]]
    for cells, (*pair, wanted) in zip(shown, expected.values(), strict=True):
        assert cells[-6:] == [*pair, wanted.split()[0]]
    assert [cells[:-6] for cells in shown] == [["worked"], ["not", "cause"], ["not", "isol."]]
    assert all(len(line) < 80 for line in lines[start : start + 6])
    assert f'the first question: "{expected["worked"][0]} is a city in the {target} of"' in lines


def test_kept_answers_are_right_where_outcomes_are(toy_grid, toy_world):
    """Of every test pair; and without a patch the model says the base's value."""
    for target in TARGETS:
        content, every = by_hand(toy_grid, toy_world, target)
        saved = load_file(toy_grid / target / "neuron" / f"layer{content['layer']:02d}-seed3.safetensors")
        words = {int(token): word.strip() for token, word in content["words"].items()}
        assert saved["answer_hard"].dtype == torch.int32
        assert [words[token] for token in saved["answer_hard"].tolist()] == [after for *_, after, _ in every]
        assert [words[token] for token in saved["answer_none"].tolist()] == [before for *_, before, _, _ in every]
        wanted = [pair[-1].split()[0] for pair in every]
        for mask in ("hard", "soft", "none"):
            said = [words[token] for token in saved[f"answer_{mask}"].tolist()]
            assert [a == b for a, b in zip(said, wanted, strict=True)] == saved[f"outcome_{mask}"].tolist()


# ---------------------------------------------------------------- by hand


def read(root: Path) -> Grid:
    return Grid([read_result(path, root / "toy") for path in sorted((root / "toy").glob("*/*/layer*.json"))])


def test_a_kind_without_a_pair_is_named(tmp_path):
    """cause 1: no pair failed on it; isolation 0: the first isolation pair did."""
    words = {"7": " Peru", "8": "\n"}
    content = result("country", "das", 0, hard=(1.0, 0.0), words=words)
    write(tmp_path, content, answer_hard=np.full(2 * N, 7, np.int32), answer_none=np.full(2 * N, 8, np.int32))
    worked = worked_pairs(read(tmp_path), "country", "hard")
    base, source, _ = named_pairs(0)["test"][0]
    first = WorkedPair(
        "worked", base, source, "country", f"{base} is a city in the country of", r"'\n'", "Peru", "country 0"
    )
    assert worked.pairs[0] == first
    assert first.question == "city 0 is a city in the country of"
    assert [pair.shown_as for pair in worked.pairs] == ["worked", "failed on isolation"]
    assert worked.pairs[1].wanted == "continent 0"
    assert worked.lacking == ["failed on cause"]


def test_results_without_answers_are_read_and_said_to_be_without(tmp_path):
    write(tmp_path, result("country", "das", 0))
    worked = worked_pairs(read(tmp_path), "country", "hard")
    assert (worked.is_kept, worked.pairs, worked.lacking) == (False, [], [])
    assert worked_pairs(Grid([]), "country", "hard") is None


def test_the_best_on_validation_is_shown_not_the_best_on_test(tmp_path):
    for method, on_validation, on_test in (("das", 0.25, 1.0), ("neuron", 0.75, 0.5)):
        content = result("country", method, 0, hard=(on_test, on_test))
        shares = {"cause": on_validation, "isolation": on_validation, "disentangle": on_validation}
        content["validation"] = {m: {**content["validation"][m], **shares} for m in ("hard", "soft")}
        write(tmp_path, content)
    assert worked_pairs(read(tmp_path), "country", "hard").method == "neuron"


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (np.full(2 * N, 7, np.int32), {"8": "Peru"}),
        (np.full(2 * N - 1, 7, np.int32), {"7": "Peru"}),
        (np.full(2 * N, 7.0, np.float32), {"7": "Peru"}),
    ],
)
def test_answers_that_fit_nothing_are_refused(tmp_path, tensor, words):
    path = write(tmp_path, result("country", "das", 0, words=words), answer_hard=tensor)
    with pytest.raises(Damaged, match="its hard answers fit neither its pairs nor its words"):
        read_result(path, tmp_path / "toy")


def test_words_that_are_none_are_refused(tmp_path):
    path = write(tmp_path, result("country", "das", 0))
    content = json.loads(path.read_text()) | {"words": {"7": 1}}
    path.write_text(json.dumps({**content, "digest": fingerprint(content)}))
    with pytest.raises(Damaged, match="words is"):
        read_result(path, tmp_path / "toy")
