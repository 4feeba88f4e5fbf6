"""Every saved score, recomputed from the files alone.

The grid is run as a user would; what it wrote is then checked by a computation that
shares no code with the project: the checkpoint through transformers, theta and
rotation from the result's tensors, the pairs from the pair file, the SAEs from their
published files, and a plain forward hook that replaces one vector.
"""

import csv
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from helpers_saes import READERS, Latents
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import main

OTHER = {"country": "continent", "continent": "country"}
AT = -8  # the city's position: "X is a city in the country of"
FEW_SHOT = {
    "country": "Toronto is a city in the country of Canada. Beijing is a city in the country of China. "
    "Miami is a city in the country of United States. Santiago is a city in the country of Chile. "
    "London is a city in the country of England.",
    "continent": "Toronto is a city in the continent of North America. Beijing is a city in the continent of Asia. "
    "Miami is a city in the continent of North America. Santiago is a city in the continent of South America. "
    "London is a city in the continent of Europe.",
}
SAE_METHODS = ("openai", "apollo-e2e", "apollo-e2e+ds", "bloom")
METHODS = ("none", "full", "neuron", "das", *SAE_METHODS)
ROTATED = ("das", "pca", "rlap", "random")  # whose directions lie beside theta
PARTS = ("train", "validation", "test")


# ---------------------------------------------------------------- the model, and what a patch does


class Judge:
    """A model, its facts and its vectors; row r is a prompt, (attribute, city), one attribute after the other."""

    def __init__(self, folder: Path, style: str):
        self.folder = folder
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
        with open(folder / "cities.csv", encoding="utf-8") as file:
            facts = list(csv.DictReader(file))
        self.names = [fact["city"] for fact in facts]
        self.row, self.tokens, labels = {}, {}, []
        for attribute in OTHER:
            before = FEW_SHOT[attribute] if style == "few-shot" else "<|endoftext|>"
            texts = [f"{before} {city} is a city in the {attribute} of" for city in self.names]
            self.tokens[attribute] = torch.tensor(tokenizer(texts)["input_ids"])
            assert self.tokens[attribute][:, AT : AT + 1].tolist() == tokenizer(self.names)["input_ids"]
            for fact in facts:
                self.row[attribute, fact["city"]] = len(labels)
                labels.append(tokenizer(" " + fact[attribute].split()[0])["input_ids"][0])
        self.labels = torch.tensor(labels)
        self.vectors: dict[int, torch.Tensor] = {}
        self.latents: dict[tuple, Latents] = {}

    def vectors_after(self, layer: int) -> torch.Tensor:
        """[rows, d_model]: every prompt's city vector after this block."""
        if layer not in self.vectors:
            found = []
            for tokens in self.tokens.values():
                with torch.no_grad():
                    states = self.model(tokens, output_hidden_states=True).hidden_states
                assert layer < len(states) - 2  # the last of them has gone through the final LayerNorm
                found.append(states[layer + 1][:, AT])
            self.vectors[layer] = torch.cat(found)
        return self.vectors[layer]

    def latents_after(self, method: str, layer: int, raw: bool) -> Latents:
        key = (method, layer, raw)
        if key not in self.latents:
            x = self.vectors_after(layer)
            self.latents[key] = READERS[method](self.folder / "saes" / method, x, layer, raw)
        return self.latents[key]

    def answers(self, base: torch.Tensor, layer: int, vectors: torch.Tensor) -> torch.Tensor:
        """The most likely next token of prompts [N] with these vectors [N, d_model] in the city's place."""
        found = torch.full((len(base),), -1)
        for i, tokens in enumerate(self.tokens.values()):  # prompts about another attribute may be longer
            of_attribute = base // len(self.names) == i
            if of_attribute.any():
                chosen = tokens[base[of_attribute] % len(self.names)]
                found[of_attribute] = self.answers_to(chosen, layer, vectors[of_attribute])
        return found

    def answers_to(self, tokens: torch.Tensor, layer: int, vectors: torch.Tensor) -> torch.Tensor:
        def replace(module, args, output):
            assert output.shape == (*tokens.shape, vectors.shape[1])
            output = output.clone()
            output[:, AT] = vectors
            return output

        handle = self.model.transformer.h[layer].register_forward_hook(replace)
        try:
            with torch.no_grad():
                return self.model(tokens).logits[:, -1].argmax(-1)
        finally:
            handle.remove()

    def patched(self, result: dict, tensors: dict, mask: torch.Tensor, base, source) -> torch.Tensor:
        """The vectors that take the place of the base's, [N, d_model]."""
        config, x = result["config"], self.vectors_after(result["layer"])
        method, _, control = result["method"].partition(":")
        method, _, _ = method.partition("@")
        if method in SAE_METHODS:
            latents = self.latents_after(method, result["layer"], config["raw_residual"])
            mixed = (1 - mask) * latents.z[base] + mask * latents.z[source]
            if control == "permuted":  # latent i writes row order[i] of the decoder
                order = torch.randperm(mixed.shape[1], generator=torch.Generator().manual_seed(result["seed"]))
                mixed = torch.zeros_like(mixed).index_copy(1, order, mixed)
            patched = latents.decode(mixed, base)
            if config["error_term"]:
                patched = patched + (x[base] - latents.decode(latents.z[base], base))
            return patched
        rotation = tensors["rotation"] if method in ROTATED else torch.eye(x.shape[1])
        along = torch.diag(mask.double().expand(rotation.shape[1]))
        projector = rotation.double() @ along @ rotation.double().T
        return (x[base] + (x[source] - x[base]).double() @ projector).float()

    def score(self, result: dict, tensors: dict, pairs: list, mask: torch.Tensor) -> dict:
        target = result["target"]
        asked = [target if kind == "cause" else OTHER[target] for _, _, kind in pairs]
        base = torch.tensor([self.row[a, b] for a, (b, _, _) in zip(asked, pairs, strict=True)])
        source = torch.tensor([self.row[a, s] for a, (_, s, _) in zip(asked, pairs, strict=True)])
        is_cause = torch.tensor([kind == "cause" for _, _, kind in pairs])
        right = torch.where(is_cause, self.labels[source], self.labels[base])
        patched = self.patched(result, tensors, mask, base, source)
        hits = self.answers(base, result["layer"], patched) == right
        n_cause, n_isolation = int(is_cause.sum()), int((~is_cause).sum())
        cause, isolation = int(hits[is_cause].sum()) / n_cause, int(hits[~is_cause].sum()) / n_isolation
        return {
            "cause": cause,
            "isolation": isolation,
            "disentangle": (cause + isolation) / 2,
            "n_cause": n_cause,
            "n_isolation": n_isolation,
        }


# ---------------------------------------------------------------- grids


@dataclass
class Saved:
    """One result as it lies on disk."""

    json_file: Path

    def __post_init__(self):
        self.result = json.loads(self.json_file.read_text())
        self.tensors = load_file(self.json_file.with_suffix(".safetensors"))
        target_folder = self.json_file.parent.parent
        self.pairs = json.loads((target_folder / self.result["pairs"]).read_text())


def run_grid(output: Path, *flags: str) -> dict[tuple, Saved]:
    """{(target, method, layer): result} of a grid on the toy world, read from the files that it leaves."""
    assert main.main(["--model", "toy", "--device", "cpu", "--max-pairs", "120", "--output", str(output), *flags]) == 0
    found = [Saved(file) for file in sorted((output / "toy").glob("*/*/layer*.json"))]
    return {tuple(saved.result[key] for key in ("target", "method", "layer")): saved for saved in found}


VARIANTS = {
    "strict": ["--methods", *METHODS, "--layers", "2", "4", "--epochs", "2"],
    "paper": [
        *("--mode", "paper", "--methods", "none", "full", "neuron", "das", "bloom", "--layers", "2"),
        *("--targets", "continent", "--epochs", "1", "--temperature", "10", "0.1", "--seeds", "1"),
    ],
    "strict by pairs": [
        *("--split", "pairs", "--methods", "das", "openai", "--layers", "1", "--targets", "continent"),
        *("--epochs", "1", "--temperature", "1", "0.5"),
    ],
    "paper by cities": [
        *("--mode", "paper", "--split", "cities", "--methods", "neuron", "apollo-e2e+ds", "--layers", "2"),
        *("--epochs", "1", "--targets", "country"),
    ],
    "error term": [
        *("--error-term", "--methods", "neuron", *SAE_METHODS, "--layers", "2", "--targets", "country"),
        *("--epochs", "1"),
    ],
    "raw residual": [
        *("--raw-residual", "--mode", "paper", "--methods", *SAE_METHODS, "--layers", "2"),
        *("--epochs", "1", "--targets", "country"),
    ],
    "hot end": [  # where a mask is soft, fixed masks are still 0 and 1
        *("--methods", "none", "full", "neuron", "--layers", "2", "--targets", "country", "--epochs", "1"),
        *("--temperature", "100", "100"),
    ],
    # The toy is lost in these prompts, but those of the two attributes differ in length, as the paper's do;
    # and with this target, test pairs come in another order than that of their prefixes.
    "few-shot": [
        *("--prompt", "few-shot", "--unfiltered", "--mode", "paper", "--methods", "full", "neuron", "apollo-e2e+ds"),
        *("--layers", "1", "--targets", "continent", "--epochs", "1", "--max-pairs", "60"),
    ],
    "controls": [
        *("--methods", "neuron", "neuron:features", "neuron:shuffled", "das", "das:random", "das:features"),
        *("das:shuffled", "bloom", "bloom:permuted", "bloom:features", "bloom:shuffled", "--layers", "2"),
        *("--epochs", "1", "--targets", "country"),
    ],
    "subspaces": [
        *("--methods", "das:cause", "das@8", "das@8:cause", "pca", "pca:cause", "pca@8", "rlap@8", "random@8"),
        *("bloom:cause", "bloom@8", "--layers", "2", "--epochs", "2", "--targets", "country"),
    ],
    "both": [
        *("--raw-residual", "--error-term", "--methods", "apollo-e2e", "bloom", "--layers", "3"),
        *("--epochs", "1", "--targets", "continent"),
    ],
}


@pytest.fixture(scope="module")
def judges(toy_world) -> dict[str, Judge]:
    """By style of prompt."""
    return {style: Judge(toy_world, style) for style in ("bare", "few-shot")}


@pytest.fixture
def judge(judges, request) -> Judge:
    """The one for the variant that a test is about."""
    is_few_shot = request.node.callspec.params["name"] == "few-shot" if hasattr(request.node, "callspec") else False
    return judges["few-shot" if is_few_shot else "bare"]


@pytest.fixture(scope="module")
def grids(toy_world, tmp_path_factory):
    """name -> what the grid of that name left; each is run once."""
    done = {}

    def grid(name: str) -> dict[tuple, Saved]:
        if name not in done:
            done[name] = run_grid(tmp_path_factory.mktemp("results"), *VARIANTS[name])
        return done[name]

    return grid


# ---------------------------------------------------------------- the checks


def test_the_grid_is_whole(grids):
    found = set(grids("strict"))
    assert found == {(target, method, layer) for target in OTHER for method in METHODS for layer in (2, 4)}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_saved_score_can_be_recomputed(grids, judge, name):
    """All scores of test pairs; of the other parts, those of two methods."""
    wrong = []
    for key, saved in grids(name).items():
        result, theta = saved.result, saved.tensors["theta"]
        end = result["config"]["temperature"]
        hard = (theta > 0).float()
        soft = torch.sigmoid(theta / end[1]) if end else hard  # a fixed mask has no temperature: it is 0 or 1
        for part in PARTS if result["method"] in ("das", "bloom") and result["layer"] < 4 else ("test",):
            scores = {"hard": judge.score(result, saved.tensors, saved.pairs[part], hard)}
            if torch.equal(soft, hard):
                scores["soft"] = scores["hard"]
            else:
                scores["soft"] = judge.score(result, saved.tensors, saved.pairs[part], soft)
            for kind, expected in scores.items():
                found = result[part][kind]
                wrong += [(key, part, kind, k, found[k], v) for k, v in expected.items() if abs(found[k] - v) > 1e-9]
    assert not wrong


@pytest.mark.parametrize("name", VARIANTS)
def test_every_saved_baseline_can_be_recomputed(grids, judge, name):
    wrong, known = [], {}
    for key, saved in grids(name).items():
        result = saved.result
        method = result["method"]
        neuron = {**result, "method": "neuron"}
        wanted = {"none": (neuron, 0.0), "full": (neuron, 1.0)}
        if method.partition(":")[0].partition("@")[0] in SAE_METHODS:
            wanted["reconstruction"] = (result, 0.0)
        else:
            assert result["baselines"]["reconstruction"] is None
        for baseline, (like, value) in wanted.items():
            of = (result["target"], result["layer"], method if baseline == "reconstruction" else baseline)
            if of not in known:
                known[of] = judge.score(like, saved.tensors, saved.pairs["test"], torch.tensor(value))
            found = result["baselines"][baseline]
            assert set(found) == {"cause", "isolation", "disentangle"}
            wrong += [(key, baseline, k, v, known[of][k]) for k, v in found.items() if abs(v - known[of][k]) > 1e-9]
    assert not wrong


def test_doing_nothing_is_the_model_s_own_answer(grids, judge):
    """Strict pairs: never right on cause, always on isolation; the model knows every fact."""
    with torch.no_grad():
        answers = [judge.model(tokens).logits[:, -1].argmax(-1) for tokens in judge.tokens.values()]
    assert torch.equal(torch.cat(answers), judge.labels)
    for saved in grids("strict").values():
        assert saved.result["baselines"]["none"] == {"cause": 0.0, "isolation": 1.0, "disentangle": 0.5}
    for saved in grids("paper").values():  # here it is right wherever the two cities' answers are equal
        target, pairs = saved.result["target"], saved.pairs["test"]
        cause = [pair for pair in pairs if pair[2] == "cause"]
        equal = sum(judge.labels[judge.row[target, b]] == judge.labels[judge.row[target, s]] for b, s, _ in cause)
        assert 0 < equal < len(cause)
        assert saved.result["baselines"]["none"]["cause"] == pytest.approx(int(equal) / len(cause), abs=1e-9)


@pytest.mark.parametrize("name", VARIANTS)
def test_theta_and_rotation_are_as_described(grids, judge, name):
    for (_, method, layer), saved in grids(name).items():
        result, theta = saved.result, saved.tensors["theta"]
        x = judge.vectors_after(layer)
        n_features = x.shape[1]
        outcomes = {f"outcome_{name}" for name, scores in result["baselines"].items() if scores}
        expected = {"theta", "outcome_soft", "outcome_hard", "answer_soft", "answer_hard", "answer_none"} | outcomes
        method, _, control = method.partition(":")
        method, _, size = method.partition("@")
        assert set(saved.tensors) == (expected | {"rotation"} if method in ROTATED else expected)
        if method in ROTATED:
            rotation = saved.tensors["rotation"]
            n_features = int(size) if size and method != "pca" else n_features
            torch.testing.assert_close(rotation.T @ rotation, torch.eye(n_features), rtol=0, atol=1e-5)
        if size:
            assert result["n_selected"] == int(size) and set(theta.abs().tolist()) <= {0, float("inf")}
        if method in SAE_METHODS:
            latents = judge.latents_after(method, layer, result["config"]["raw_residual"])
            n_features = latents.z.shape[1]
            fires = latents.z > 0
            dead = ~fires.any(0)
            assert torch.equal(theta[dead], torch.zeros(int(dead.sum())))  # what never fires is never trained
            assert (theta[~dead] != 0).float().mean() > 0.5
            assert result["l0"] == pytest.approx(fires.sum(1).double().mean().item(), abs=1e-2)
        else:
            assert result["l0"] is None
        assert theta.dtype == torch.float32
        assert theta.shape == (n_features,)
        assert result["n_features"] == n_features
        assert result["n_selected"] == int((theta > 0).sum())
        if control == "features":
            trained = grids(name)["country", method, layer]
            assert result["n_selected"] == trained.result["n_selected"] > 0
            assert not torch.equal(theta > 0, trained.tensors["theta"] > 0)
            if method == "das":
                assert torch.equal(saved.tensors["rotation"], trained.tensors["rotation"])
        if method in ("none", "full"):
            assert result["n_selected"] == (n_features if method == "full" else 0)


def test_the_flags_reach_the_sae(grids):
    """The same cell with other flags has another reconstruction or other scores: the checks above see them apart."""
    for method in ("apollo-e2e", "bloom"):
        strict = grids("strict")["country", method, 2].result
        kept = grids("error term")["country", method, 2].result
        assert kept["baselines"]["reconstruction"] == kept["baselines"]["none"]
        assert kept["config"]["error_term"] and not strict["config"]["error_term"]
        raw = grids("raw residual")["country", method, 2].result
        assert raw["config"]["raw_residual"] and not strict["config"]["raw_residual"]
        assert raw["l0"] != strict["l0"]


# ---------------------------------------------------------------- pairs


def cities_of(pairs: list) -> set[str]:
    return {city for base, source, _ in pairs for city in (base, source)}


@pytest.mark.parametrize("name", VARIANTS)
def test_pair_files_obey_their_mode_and_split(grids, judge, name):
    for (target, _, _), saved in grids(name).items():
        mode, split, seed = (saved.result[key] for key in ("mode", "split", "seed"))
        assert saved.result["pairs"] == f"pairs-{mode}-{split}-seed{seed}.json"
        assert set(saved.pairs) == {*PARTS, "facts"}
        everything = [tuple(pair) for part in PARTS for pair in saved.pairs[part]]
        assert len(everything) == len(set(everything))  # no pair twice, in one part or in two
        assert cities_of(everything) <= set(judge.names)
        differ = []
        for base, source, kind in everything:
            attribute = {"cause": target, "isolation": OTHER[target]}[kind]
            differ.append(bool(judge.labels[judge.row[attribute, base]] != judge.labels[judge.row[attribute, source]]))
        shared = cities_of(saved.pairs["test"]) & (
            cities_of(saved.pairs["train"]) | cities_of(saved.pairs["validation"])
        )
        if mode == "strict":
            assert all(differ)
        else:
            assert any(differ) and not all(differ)
        if split == "cities":
            assert not shared
            assert not cities_of(saved.pairs["train"]) & cities_of(saved.pairs["validation"])
        else:
            assert len(shared) > 40


def test_pairs_are_the_same_for_every_method_and_layer(grids):
    """And differ between targets: one file per target."""
    found = {}
    for (target, _, _), saved in grids("strict").items():
        found.setdefault(target, []).append(saved.pairs)
    for pairs in found.values():
        assert all(other == pairs[0] for other in pairs)
    assert found["country"][0] != found["continent"][0]


# ---------------------------------------------------------------- which SAE file a score belongs to


def test_a_result_belongs_to_the_sae_file_that_was_read(toy_world, tmp_path, capsys):
    """Apollo's largest samples_N.pt is the one that counts; with another in its place the result is another's."""
    folder = tmp_path / "saes" / "apollo-e2e" / "layer02"
    shutil.copytree(toy_world / "saes" / "apollo-e2e" / "layer02", folder)
    read = folder / "samples_400000.pt"
    earlier = folder / "samples_200000.pt"
    shutil.copy(read, earlier)  # as large as the other
    flags = ["--model", "toy", "--device", "cpu", "--methods", "apollo-e2e", "--layers", "2", "--targets", "country"]
    flags += ["--epochs", "1", "--max-pairs", "16", "--saes", str(tmp_path / "saes"), "--output", str(tmp_path / "out")]
    assert main.main(flags) == 0

    content = torch.load(earlier, weights_only=True)
    altered = {key: 2 * value for key, value in content.items()}
    torch.save(altered, earlier)  # never read
    assert main.main(flags) == 0
    assert "1 done before, 0 to do" in capsys.readouterr().err
    torch.save(altered, read)
    assert main.main(flags) == 2
    assert "made with another configuration (sae_digest" in capsys.readouterr().err
