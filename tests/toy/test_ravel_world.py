"""RAVEL's protocol on a world whose answer is known, and its scores recomputed from files alone."""

import json
import re

import pytest
import torch
from helpers_cli import error_line, finish, require_words
from helpers_forks import fork
from helpers_grid import require_no_leftovers
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import main
import models
import stats
import visualisation
from results.collecting import read_folder
from results.store import Store

ATTRIBUTES = ("country", "continent", "language")
LAYER = 2
GRID = ("--templates", "ravel", "--layers", str(LAYER), "--device", "cpu", "--max-pairs", "300")
TESTS = {"test": "outcome_", "test_templates": "outcome_templates_"}


def flags(world, output, *more) -> list[str]:
    facts = world / "ravel_city_entity_attributes.json"
    return ["--model", str(world), "--facts", str(facts), *GRID, *more, "--output", str(output)]


@pytest.fixture(scope="module")
def done(ravel_world, tmp_path_factory):
    """The folder of the results of das, its controls and the baselines for all three targets; what was printed."""
    output = tmp_path_factory.mktemp("ravel")
    methods = ("--methods", "none", "full", "das", "das:features", "das:shuffled")
    assert main.main(flags(ravel_world, output, *methods)) == 0
    (root,) = output.iterdir()
    return root


def test_planted_answer(done):
    """das finds it for entities and for templates that it has not seen; controls show that this is no chance."""
    results = read_folder(done).results
    assert len(results) == 3 * 5
    for result in results:
        found = [result[part]["hard"] for part in TESTS]
        for scores in found:
            if result["method"] == "das":
                assert scores["disentangle"] >= 0.93, (result["target"], scores)
            elif result["method"] in ("none", "full"):
                assert scores["disentangle"] == 0.5
            elif result["method"] == "das:shuffled":  # labels that mean nothing: worse than to patch nothing
                assert scores["disentangle"] <= 0.5, (result["target"], scores)
            else:  # as many random features of the same rotation
                assert scores["disentangle"] <= 0.7, (result["target"], scores)


def test_both_tests_are_printed_and_kept(done, ravel_world, capsys):
    methods = ("--methods", "none", "full", "das", "das:features", "das:shuffled")
    assert main.main(flags(ravel_world, done.parent, *methods)) == 0  # all is done: nothing is asked or trained again
    out, err = capsys.readouterr()
    assert "0 to do" in err
    assert "asking" not in err
    assert max(len(line) for line in out.splitlines() if str(done) not in line and str(ravel_world) not in line) <= 80
    for target in ATTRIBUTES:
        for held_out in ("entities", "templates"):
            assert f"mode ravel, {held_out} held out" in out.partition(f"\n{target}: ")[2]
    kept = json.loads((done / "estimates.json").read_text())
    assert len(kept["scores"]) == len(kept["templates_held_out"]["scores"])
    require_no_leftovers(done)


def test_formulas_of_others(done, ravel_world, capsys):
    """Here every answer is one token and all begin differently, so SAEBench's cause and MIB's share are plain means."""
    kept = json.loads((done / "estimates.json").read_text())
    for content, part in ((kept, "test"), (kept["templates_held_out"], "test_templates")):
        rows = {(row["target"], row["method"]): row for row in content["by_formulas_of_others"]}
        assert rows.keys() == {
            (t, m) for t in ATTRIBUTES for m in ("none", "full", "das", "das:features", "das:shuffled")
        }
        for result in read_folder(done).results:
            tensors = load_file(
                (done / f"{result['target']}/{result['method']}/layer02-seed0").with_suffix(".safetensors")
            )
            hit_N, right_N = (tensors[f"{name}_{'templates_' * (part != 'test')}hard"] for name in ("outcome", "right"))
            assert torch.equal(hit_N.int(), right_N)
            row, is_cause = rows[result["target"], result["method"]], result["test_pairs"].group_N == 0
            if part == "test":
                assert row["saebench"]["cause"] == pytest.approx(hit_N[is_cause].double().mean().item())
                assert row["saebench"]["isolation"] == pytest.approx(hit_N[~is_cause].double().mean().item())
            assert row["mib"]["accuracy"] == pytest.approx(hit_N.double().mean().item())
            assert row["ravel"]["disentangle"] == pytest.approx(result[part]["hard"]["disentangle"], abs=0.05)
    assert main.main(flags(ravel_world, done.parent, "--methods", "none", "das")) == 0
    assert "the same test pairs by others' formulas" in capsys.readouterr().out


def test_report(done, tmp_path):
    """Both tests are on the page, each under its own name; the page speaks of what was run."""
    assert visualisation.main(["--results", str(done.parent), "--output", str(tmp_path), "--report"]) == 0
    page = (tmp_path / "report.html").read_text()
    assert "All scores, templates held out" in page
    assert "If they hold the target\n(country, continent or language) and nothing else" in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    kept = json.loads((done / "estimates.json").read_text())
    for target in ATTRIBUTES:
        for content, prefix in ((kept, ""), (kept["templates_held_out"], "templates-")):
            [table] = re.findall(rf'<table id="{prefix}scores-{target}".*?</table>', page, re.DOTALL)
            of_das = next(row for row in table.split("<tr")[1:] if 'data-method="das"' in row)
            shown = [float(number) for number in re.findall(r"<td>([\d.]+)</td>", of_das)[1:4]]
            wanted = [
                score["mean"]
                for name in ("cause", "isolation", "disentangle")
                for score in content["scores"]
                if [score[k] for k in ("target", "method", "mask", "score")] == [target, "das", "hard", name]
            ]
            assert shown == pytest.approx(wanted, abs=6e-4)


class Plain:
    """Answers of the checkpoint to whole prompts, by transformers and a hook."""

    def __init__(self, folder):
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    def tokens(self, template: str, entity: str) -> tuple[torch.Tensor, int]:
        """Of the prompt behind the start token, and the place of the entity."""
        before = template.partition("%s")[0].split()
        tokens = self.tokenizer(f"<|endoftext|> {template.replace('%s', entity)}", return_tensors="pt")["input_ids"]
        return tokens, 1 + len(before)

    def vector(self, template: str, entity: str):
        tokens, at = self.tokens(template, entity)
        with torch.no_grad():
            return self.model(tokens, output_hidden_states=True).hidden_states[LAYER + 1][0, at]

    def answer(self, template: str, entity: str, vector=None) -> str:
        tokens, at = self.tokens(template, entity)

        def write(_, __, output):
            x = (output if torch.is_tensor(output) else output[0]).clone()
            x[0, at] = vector
            return x if torch.is_tensor(output) else (x, *output[1:])

        hook = self.model.transformer.h[LAYER].register_forward_hook(write) if vector is not None else None
        with torch.no_grad():
            best = int(self.model(tokens).logits[0, -1].argmax())
        if hook:
            hook.remove()
        return self.tokenizer.decode([best])


@pytest.mark.parametrize("part", TESTS)
def test_scores_recomputed_from_files(done, ravel_world, part):
    """Every tenth pair, by its names and templates, the rotation and theta; right is what the table says."""
    plain, target = Plain(ravel_world), "language"
    path = done / target / "das" / f"layer{LAYER:02d}-seed0.json"
    result, tensors = json.loads(path.read_text()), load_file(path.with_suffix(".safetensors"))
    named = json.loads((done / target / result["pairs"]).read_text())
    rotation, mask = tensors["rotation"], (tensors["theta"] > 0).float()
    for i, (base, source, kind, asked, seen, *_) in enumerate(named[part]):
        if i % 10:
            continue
        base_template, source_template = named["templates"][asked], named["templates"][seen]
        x_base, x_source = plain.vector(base_template, base), plain.vector(source_template, source)
        patched = x_base + ((x_source - x_base) @ rotation * mask) @ rotation.T
        attribute = target if kind == "cause" else kind.partition(":")[2]
        right = named["facts"][source if kind == "cause" else base][attribute]
        hit = plain.answer(base_template, base, patched) == right
        assert hit == bool(tensors[f"{TESTS[part]}hard"][i]), (base, source, kind)
    hits = tensors[f"{TESTS[part]}hard"].double()
    kinds = [kind for _, _, kind, *_ in named[part]]
    share = {kind: hits[[k == kind for k in kinds]].mean().item() for kind in set(kinds)}
    assert share.keys() == {"cause", "isolation:country", "isolation:continent"}
    isolation = (share["isolation:country"] + share["isolation:continent"]) / 2
    assert result[part]["hard"]["cause"] == pytest.approx(share["cause"], abs=1e-12)
    assert result[part]["hard"]["isolation"] == pytest.approx(isolation, abs=1e-12)


def test_model_is_asked_once(done, ravel_world, tmp_path, monkeypatch, capsys):
    """What it answered is kept; another question, another model or a damaged file is asked anew."""
    asked = []
    real = models.Subject.likeliest

    def likeliest(subject, prompts, *args, **named):
        asked.append(len(prompts.rows))
        return real(subject, prompts, *args, **named)

    monkeypatch.setattr(models.Subject, "likeliest", likeliest)
    few = ("--methods", "none", "--targets", "country", "--attributes", "Country", "language")
    assert main.main(flags(ravel_world, tmp_path, *few)) == 0
    assert asked == [2 * 5 * 120]
    assert main.main(flags(ravel_world, tmp_path, *few)) == 0
    assert len(asked) == 1
    (root,) = tmp_path.iterdir()
    (root / "answered-city.json").write_text("{}")
    assert main.main(flags(ravel_world, tmp_path, *few)) == 0
    assert len(asked) == 2
    capsys.readouterr()
    assert main.main(flags(ravel_world, tmp_path, *few, "--max-entities", "60")) == 2
    assert asked[2:] == [2 * 5 * 60]
    require_words(error_line(capsys.readouterr().err), ("another configuration", "limits"))


def test_one_of_several_commands_asks(done, ravel_world, tmp_path):
    """As Slurm's tasks do, that start at once in a folder that was made for them."""
    Store(tmp_path, str(ravel_world)).root.mkdir(parents=True)
    few = ("--methods", "none", "--targets", "country")
    commands = [fork(*flags(ravel_world, tmp_path, *few)) for _ in range(2)]
    ended = [finish(command) for command in commands]
    assert [status for status, _, _ in ended] == [0, 0], ended
    assert sum("asking" in err for _, _, err in ended) == 1
    assert len({out for _, out, _ in ended}) == 1
    require_no_leftovers(Store(tmp_path, str(ravel_world)).root)


def test_plan(ravel_world, tmp_path, capsys):
    """Counted from the files: test entities and their countries; nothing is asked."""
    split = json.loads((ravel_world / "ravel_city_entity_to_split.json").read_text())
    facts = json.loads((ravel_world / "ravel_city_entity_attributes.json").read_text())
    held_out = [name for name, part in split.items() if part == "test"]
    n_countries = len({facts[name]["Country"] for name in held_out})
    argv = flags(ravel_world, tmp_path / "out", "--methods", "neuron", "das", "--targets", "language", "--plan")
    assert main.main(argv) == 0
    out, err = capsys.readouterr()
    text = " ".join(out.split())
    require_words(text, [f"{len(split)} cities of RAVEL's {len(split)}, as if the model knew them all"])
    require_words(
        text, [f"600 test pairs a seed, 1 seed, {len(held_out)} cities of {n_countries} countries among them"]
    )
    least = stats.plan_difference(n_countries, 600, n_cities=len(held_out))
    require_words(text, [f"a difference is found of {least:.3f} in one comparison"])
    assert "asking" not in err
    assert not (tmp_path / "out").exists()


BAD = [
    (["--templates", "few-shot", "--attributes", "country"], ["--attributes is for RAVEL's prompts"]),
    (["--templates", "bare", "--top-entities", "3"], ["--top-entities is for RAVEL's prompts"]),
    (["--templates", "bare", "--mode", "ravel"], ["--mode and --split ravel", "--templates ravel"]),
    (["--unfiltered"], ["--unfiltered is for the paper's prompts"]),
    (["--one-token"], ["--one-token is for the paper's prompts"]),
    (["--plan", "--max-entities", "3"], ["would touch 1 of countries", "--cluster"]),
    (["--mode", "strict"], ["--templates ravel goes with --mode ravel, not strict"]),
    (["--split", "cities"], ["--templates ravel goes with --split ravel, not cities"]),
    (["--mode", "paper"], ["--templates ravel goes with --mode ravel, not paper"]),
    (["--attributes", "country", "lagnuage"], ["city has no attribute 'lagnuage' (did you mean language?)"]),
    (["--attributes", "country"], ["isolation needs a second attribute"]),
    (["--targets", "timezone"], ["unknown target 'timezone'", "country, continent, language"]),
    (["--facts", "cities.csv"], ["--templates ravel needs RAVEL's facts, not cities.csv", "nobel_prize_winner"]),
    (["--cluster", "contry"], ["--cluster is 'contry' (did you mean country?)"]),
    (["--max-entities", "0"], ["--max-entities is 0"]),
    (["--top-templates", "1"], ["no cause pair for", "--max-templates"]),
]


@pytest.mark.parametrize(("more", "words"), BAD)
def test_flags_that_make_no_sense(ravel_world, tmp_path, capsys, more, words):
    argv = flags(ravel_world, tmp_path / "out", "--methods", "none", *more)
    assert main.main(argv) == 2
    require_words(error_line(capsys.readouterr().err), words)
    assert not (tmp_path / "out").exists()
