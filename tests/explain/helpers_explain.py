"""Masks that the command line trained and explained; and patched prompts the plain way.

Plain: whole prompts through the whole model, with a forward hook that replaces a vector.
"""

import csv
import json
from pathlib import Path
from typing import NamedTuple

import torch
from helpers_saes import READERS
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import main
from toy import world as toy

PLANTED = toy.Recipe().planted_layer
METHODS = ("neuron", "das", "openai")
TOP = 25  # effects of so many: of fewer than the masks select
MAX_PAIRS = 60
OTHER = {"country": "continent", "continent": "country"}
AT = -8  # the city's position: "X is a city in the country of"


class Judge:
    """One result of the toy world with its test pairs, N in all; shares no code with the project."""

    def __init__(self, world: Path, result_file: Path, saes: Path | None = None):
        self.result = json.loads(result_file.read_text())
        self.tensors = load_file(result_file.with_suffix(".safetensors"))
        named = json.loads((result_file.parent.parent / self.result["pairs"]).read_text())
        self.model = AutoModelForCausalLM.from_pretrained(world).eval()
        tokenizer = AutoTokenizer.from_pretrained(world)
        target, self.layer = self.result["target"], self.result["layer"]
        with open(world / "cities.csv", encoding="utf-8") as file:
            self.facts = {fact["city"]: fact for fact in csv.DictReader(file)}

        def tokens_of(city: str, attribute: str) -> list[int]:
            return tokenizer(f"<|endoftext|> {city} is a city in the {attribute} of")["input_ids"]

        self.is_cause_N = torch.tensor([kind == "cause" for _, _, kind in named["test"]])
        asked = [target if kind == "cause" else OTHER[target] for _, _, kind in named["test"]]
        pairs = [(*pair, attribute) for pair, attribute in zip(named["test"], asked, strict=True)]
        self.base_NL, self.source_NL = (torch.tensor([tokens_of(p[i], p[3]) for p in pairs]) for i in (0, 1))
        right = [self.facts[p[1 if p[2] == "cause" else 0]][p[3]] for p in pairs]
        self.label_N = torch.tensor([tokenizer(value.split()[0])["input_ids"][0] for value in right])
        x_ND = torch.cat([self.vectors(self.base_NL), self.vectors(self.source_NL)])
        self.n = len(pairs)
        method, _, _ = self.result["method"].partition(":")
        if method in READERS:
            latents = READERS[method]((saes or world / "saes") / method, x_ND, self.layer, False)
            self.features, self.decode = latents.z, lambda z: latents.decode(z, torch.arange(self.n))
        else:
            rotation = self.tensors.get("rotation", torch.eye(x_ND.shape[1]))
            self.features, self.decode = x_ND @ rotation, lambda f: f @ rotation.T

    def vectors(self, tokens_NL) -> torch.Tensor:
        with torch.no_grad():
            return self.model(tokens_NL, output_hidden_states=True).hidden_states[self.layer + 1][:, AT]

    def logits(self, features: list[int]) -> torch.Tensor:
        """[N, vocabulary] if exactly these features are taken from the source."""
        mixed = self.features[: self.n].clone()
        mixed[:, features] = self.features[self.n :][:, features]
        vectors = self.decode(mixed)

        def replace(module, args, output):
            output = output.clone()
            output[:, AT] = vectors
            return output

        with self.model.transformer.h[self.layer].register_forward_hook(replace), torch.no_grad():
            return self.model(self.base_NL).logits[:, -1]

    def scores(self, features: list[int]) -> dict[str, float]:
        hits = self.logits(features).argmax(-1) == self.label_N
        cause, isolation = (hits[kind].double().mean().item() for kind in (self.is_cause_N, ~self.is_cause_N))
        return {"cause": cause, "isolation": isolation, "disentangle": (cause + isolation) / 2}

    def nats(self, features: list[int]) -> float:
        """Cross-entropy of the right answers; either kind of pairs weighs the same."""
        loss_N = torch.nn.functional.cross_entropy(self.logits(features).double(), self.label_N, reduction="none")
        return (loss_N[self.is_cause_N].mean() + loss_N[~self.is_cause_N].mean()).item() / 2


class Explained(NamedTuple):
    """OUTPUT/toy, the flags that made it, and where its SAEs are."""

    root: Path
    flags: list[str]
    saes: Path

    def name(self, method: str, seed: int = 0) -> str:
        return f"country/{method}/layer{PLANTED:02d}-seed{seed}"

    def judge(self, world: Path, method: str) -> Judge:
        return Judge(world, self.root / f"{self.name(method)}.json", self.saes)


def explain(output: Path, saes: Path, flags: list[str], top: int) -> Explained:
    flags = ["--model", "toy", "--layers", str(PLANTED), "--targets", "country", "--saes", str(saes), *flags]
    flags += ["--output", str(output)]
    assert main.main(flags) == 0
    assert main.main([*flags, "--explain", "--top", str(top)]) == 0
    return Explained(output / "toy", flags, saes)
