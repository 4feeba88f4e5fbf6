"""What the user got wrong is told in one line, with exit code 2, and nothing is written."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from helpers_cli import error_line, fails, finish, require_words, snapshot, start
from safetensors.torch import load_file, save_file

from common.paths import HOME
from main import main
from toy import world as toy

TOY = ("--model", "toy", "--device", "cpu")


@pytest.fixture
def output(tmp_path) -> Path:
    """An output folder that does not exist yet."""
    return tmp_path / "results"


# ---------------------------------------------------------------- flags

METHODS = "none, full, neuron, das, openai, apollo-e2e, apollo-e2e+ds, bloom"
FLAGS = [
    # flags, what the error names
    ("--methods nerun", ["method", "'nerun' (did you mean neuron?)", METHODS, "or all"]),
    ("--methods das bloom2", ["method", "'bloom2' (did you mean bloom?)", METHODS]),
    ("--methods xyz", ["method", "'xyz'; known", METHODS, "pca, METHOD:cause and METHOD@SIZE"]),
    ("--methods mdas", ["'mdas'", "mdas is das here, and its das is das:cause", "docs/ravel.md"]),
    ("--methods das dbm", ["'dbm'", "dbm is neuron:cause", "docs/ravel.md"]),
    ("--methods rlap", ["rlap needs a size", "rlap@64"]),
    ("--methods das@", ["das@ needs sizes", "--sizes 16 64", "das@64"]),
    ("--methods das@x", ["'das@x'", "sizes are numbers from 1 on", "rlap"]),
    ("--methods das@0", ["'das@0'", "sizes are numbers from 1 on"]),
    ("--methods neuron@8", ["'neuron@8'", "of das, pca, rlap, random and SAEs"]),
    ("--methods rlap@8:cause", ["rlap@8 has no variant", "it has none"]),
    ("--methods das --sizes 8", ["--sizes", "named with an @", "das@"]),
    ("--methods das@ --sizes 8 0", ["--sizes", "0", "from 1 on"]),
    ("--methods none das@64 --layers 2", ["das@64", "64 dimensions", "below 64"]),
    ("--targets contry", ["target", "'contry'", "country, continent"]),
    ("--targets all", ["target", "'all'", "country, continent"]),
    ("--layers 6", ["layer 6", "out of range", "toy", "0 to 5"]),
    ("--layers 2 99", ["layer 99", "out of range", "0 to 5"]),
    ("--layers -1", ["layer -1", "out of range", "0 to 5"]),
    ("--layers two", ["layer 'two'", "not a number", "all", "--layers 0 1 2"]),
    ("--layers 2.5", ["layer '2.5'", "not a number", "--layers 0 1 2"]),
    ("--layers 2 all", ["layer 'all'", "not a number", "--layers 0 1 2"]),
    ("--layers", ["--layers", "expected at least one argument", "--help"]),
    ("--seeds -1", ["seed -1", "negative", "0, 1, 2"]),
    ("--seeds one", ["seed 'one'", "not a number", "--seeds 0 1 2"]),
    ("--seeds 1e3", ["seed '1e3'", "not a number"]),
    # torch takes seeds of 64 bits; a larger one must not get as far as training
    (f"--seeds {2**70} --methods das --layers 2 --epochs 1", ["seed", str(2**70)]),
    ("--epochs 0", ["--epochs", "0", "at least 1"]),
    ("--epochs -3", ["--epochs", "-3", "at least 1"]),
    ("--epochs 1.5", ["--epochs", "'1.5'", "--help"]),
    ("--batch-size 0", ["--batch-size", "0", "at least 1"]),
    ("--max-pairs 0", ["--max-pairs", "0", "at least 1"]),
    ("--threads 0", ["--threads", "0", "at least 1"]),
    ("--lr 0", ["--lr", "0.0", "positive", "0.001"]),
    ("--lr -0.001", ["--lr", "-0.001", "positive"]),
    ("--lr nan", ["--lr", "nan", "positive"]),
    ("--lr inf", ["--lr", "inf", "positive"]),
    ("--lr fast", ["--lr", "'fast'", "--help"]),
    ("--temperature 10 0", ["--temperature", "10.0, 0.0", "positive", "10 0.1"]),
    ("--temperature -1 0.1", ["--temperature", "-1.0, 0.1", "positive"]),
    ("--temperature nan 0.1", ["--temperature", "nan", "positive"]),
    ("--temperature 10", ["--temperature", "2 arguments", "--help"]),
    ("--mode original", ["--mode", "'original'", "paper", "strict"]),
    ("--split thirds", ["--split", "'thirds'", "pairs", "cities"]),
    ("--prompt long", ["--prompt", "'long'", "few-shot", "bare"]),
    ("--engine quick", ["--engine", "'quick'", "fast", "nnsight"]),
    ("--precision fp8", ["--precision", "'fp8'", "fp32", "bf16"]),
    ("--precision bf16 --mode paper", ["--precision bf16", "not the paper's", "--mode strict", "fp32"]),
    ("--precision bf16 --engine nnsight", ["nnsight", "exact", "--precision bf16", "--engine fast"]),
    ("--precision tf32 --device cpu", ["--precision tf32", "CUDA", "cpu", "fp32"]),
    ("--device tpu", ["--device", "'tpu'", "cpu", "cuda"]),
    ("--nonsense", ["--nonsense; see --help"]),
    ("--layer 3", ["--layer 3 (did you mean --layers?)", "--help"]),
    ("country", ["country", "--help"]),
]


@pytest.mark.parametrize(("flags", "words"), FLAGS, ids=[flags for flags, _ in FLAGS])
def test_flags(capsys, output, toy_world, flags, words):
    require_words(fails(capsys, output, *TOY, *flags.split()), words)


def test_flags_that_are_right_are_taken(capsys, output, toy_world):
    """The rows above fail for what they say and not for what they share."""
    assert main([*TOY, "--methods", "none", "--layers", "2", "--dry-run", "--output", str(output)]) == 0
    assert "2 runs, 0 done, 2 to do" in capsys.readouterr().out


def test_as_a_process(output):
    """The exit status and the line are those of the process too."""
    code, out, err = finish(start(*TOY, "--methods", "nerun", "--output", output))
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    require_words(error_line(err), ["'nerun'", METHODS])
    assert not output.exists()


def test_no_cuda(capsys, output):
    if torch.cuda.is_available():
        pytest.skip("there is a cuda device here")
    require_words(fails(capsys, output, *TOY, "--device", "cuda"), ["--device cuda", "no cuda device", "--device cpu"])


def test_no_mps(capsys, output):
    if torch.backends.mps.is_available():
        pytest.skip("there is a mps device here")
    require_words(fails(capsys, output, *TOY, "--device", "mps"), ["--device mps", "no mps device", "--device cpu"])


# ---------------------------------------------------------------- SAE files

OPENAI = "openai/2.pt"
APOLLO = "apollo-e2e/layer02/samples_400000.pt"
BLOOM = "bloom/blocks.3.hook_resid_pre/sae_weights.safetensors"
METHOD = {OPENAI: "openai", APOLLO: "apollo-e2e", BLOOM: "bloom"}
SMALL = ("--targets", "country", "--max-pairs", "16", "--epochs", "1")


@pytest.fixture
def saes(tmp_path, toy_world) -> Path:
    """The toy world's SAEs, to be damaged."""
    return Path(shutil.copytree(toy_world / "saes", tmp_path / "saes"))


def sae_fails(capsys, output, saes: Path, file: str) -> str:
    """The method of this file fails, and what could be done before it (neuron, layer 1) is not done."""
    return fails(
        capsys, output, *TOY, *SMALL, "--saes", saes, "--methods", "neuron", METHOD[file], "--layers", "1", "2"
    )


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def rewrite(path: Path, change) -> None:
    """Load an SAE file, let `change` alter its dict, and save it again."""
    content = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    change(content)
    if path.suffix == ".safetensors":
        save_file({key: value.contiguous() for key, value in content.items()}, path)
    else:
        torch.save(content, path)


def test_undamaged_saes_are_taken(capsys, output, saes):
    """So the damage, and not the copy, is what the tests below see."""
    for file in METHOD:
        rewrite(saes / file, lambda _: None)
    argv = [*TOY, *SMALL, "--saes", str(saes), "--methods", *METHOD.values(), "--layers", "1", "2"]
    assert main([*argv, "--output", str(output)]) == 0
    assert len(list(output.rglob("layer*.json"))) == 6


@pytest.mark.parametrize("file", METHOD, ids=METHOD.values())
def test_missing_sae(capsys, output, saes, file):
    """The file of OpenAI's, the folders of the others."""
    path = saes / (file if file == OPENAI else Path(file).parent)
    path.unlink() if path.is_file() else shutil.rmtree(path)
    line = sae_fails(capsys, output, saes, file)
    require_words(line, [f"no {METHOD[file]} SAE of layer 2", path, "--saes", "--methods none full neuron das"])


@pytest.mark.parametrize("file", METHOD, ids=METHOD.values())
def test_missing_sae_folder(capsys, output, tmp_path, toy_world, file):
    line = sae_fails(capsys, output, tmp_path / "nowhere", file)
    require_words(line, [f"no {METHOD[file]} SAE of layer 1", tmp_path / "nowhere", "--saes"])


@pytest.mark.parametrize("file", [APOLLO, BLOOM], ids=["apollo-e2e", "bloom"])
def test_sae_folder_without_weights(capsys, output, saes, file):
    """Its small files alone are no SAE."""
    (saes / file).unlink()
    line = sae_fails(capsys, output, saes, file)
    require_words(line, [(saes / file).parent, "download"])


@pytest.mark.parametrize("file", METHOD, ids=METHOD.values())
def test_truncated_sae(capsys, output, saes, file):
    cut_in_half(saes / file)
    require_words(sae_fails(capsys, output, saes, file), [saes / file, "truncated", "download it again"])


@pytest.mark.parametrize("file", METHOD, ids=METHOD.values())
def test_empty_sae(capsys, output, saes, file):
    (saes / file).write_bytes(b"")
    require_words(sae_fails(capsys, output, saes, file), [saes / file, "truncated", "download it again"])


@pytest.mark.parametrize("file", METHOD, ids=METHOD.values())
def test_a_web_page_in_place_of_an_sae(capsys, output, saes, file):
    (saes / file).write_text("<!doctype html>\n<title>Sign in</title>\n" * 100)
    require_words(sae_fails(capsys, output, saes, file), [saes / file, "download it again"])


def test_bloom_as_openai(capsys, output, saes):
    shutil.copy(saes / BLOOM, saes / OPENAI)
    require_words(sae_fails(capsys, output, saes, OPENAI), [saes / OPENAI])


def test_openai_as_bloom(capsys, output, saes):
    shutil.copy(saes / OPENAI, saes / BLOOM)
    require_words(sae_fails(capsys, output, saes, BLOOM), [saes / BLOOM, "safetensors"])


def test_openai_as_apollo(capsys, output, saes):
    shutil.copy(saes / OPENAI, saes / APOLLO)
    line = sae_fails(capsys, output, saes, APOLLO)
    require_words(line, [saes / APOLLO, "not an apollo SAE", "pre_bias", "looks like openai's"])


def test_apollo_as_openai(capsys, output, saes):
    shutil.copy(saes / APOLLO, saes / OPENAI)
    line = sae_fails(capsys, output, saes, OPENAI)
    require_words(line, [saes / OPENAI, "not an openai SAE", "pre_bias", "looks like apollo's"])


def _narrow(content: dict) -> None:
    for key, weight in content.items():
        for axis, size in enumerate(getattr(weight, "shape", ())):
            if size == 64:
                content[key] = content[key].narrow(axis, 0, 32).clone()


@pytest.mark.parametrize("file", METHOD, ids=METHOD.values())
def test_sae_of_another_width(capsys, output, saes, file):
    rewrite(saes / file, _narrow)
    require_words(sae_fails(capsys, output, saes, file), [saes / file, "width 32", "64 wide", "--saes"])


def _weight(content: dict, letters: str) -> str:
    """The key of the encoder or decoder."""
    return next(key for key in content if letters in key and not key.endswith("bias"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("file", METHOD, ids=METHOD.values())
def test_sae_that_is_not_finite(capsys, output, saes, file, value):
    def spoil(content: dict) -> None:
        content[_weight(content, "enc")][3, 5] = value

    rewrite(saes / file, spoil)
    require_words(sae_fails(capsys, output, saes, file), [saes / file, "W_enc", "NaN or infinite", "download it again"])


@pytest.mark.parametrize("file", METHOD, ids=METHOD.values())
def test_sae_whose_shapes_disagree(capsys, output, saes, file):
    def spoil(content: dict) -> None:
        key = _weight(content, "dec")
        content[key] = content[key][:-1, :-1].clone()

    rewrite(saes / file, spoil)
    require_words(sae_fails(capsys, output, saes, file), [saes / file, "W_dec", "shape", "[256, 64]", "damaged"])


@pytest.mark.parametrize("file", METHOD, ids=METHOD.values())
def test_sae_that_lacks_a_tensor(capsys, output, saes, file):
    rewrite(saes / file, lambda content: content.pop(_weight(content, "dec")))
    require_words(sae_fails(capsys, output, saes, file), [saes / file, "no tensor", "dec"])


class Trap:
    """What it leaves in a pickle makes a file when it is unpickled."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


class SystemTrap(Trap):
    """The same with a plain string as its argument."""

    def __reduce__(self):
        return os.system, (f"touch '{self.marker}'",)


@pytest.mark.parametrize("trap", [Trap, SystemTrap])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("file", [OPENAI, APOLLO], ids=["openai", "apollo-e2e"])
def test_a_pickle_that_would_run_code(capsys, output, saes, tmp_path, file, zipped, trap):
    marker = tmp_path / "marker"
    content = torch.load(saes / file, weights_only=True) | {"stats": trap(marker)}
    torch.save(content, saes / file, _use_new_zipfile_serialization=zipped)
    line = sae_fails(capsys, output, saes, file)
    assert not marker.exists()
    require_words(line, [saes / file, "pickle", "not loaded", "publisher's own file"])
    torch.load(saes / file, weights_only=False)
    assert marker.exists(), "this trap would never have closed"


def test_yaml_that_would_run_code(capsys, output, saes, tmp_path):
    marker, config = tmp_path / "marker", (saes / APOLLO).with_name("final_config.yaml")
    config.write_text(f'saes: !!python/object/apply:os.system ["touch {marker}"]\n')
    require_words(sae_fails(capsys, output, saes, APOLLO), [config, "cannot read", "download it again"])
    assert not marker.exists()


def test_bloom_of_another_layer(capsys, output, saes):
    """Only cfg.json tells: the folder has the right name."""
    config = (saes / BLOOM).with_name("cfg.json")
    assert '"blocks.3.hook_resid_pre"' in config.read_text()
    config.write_text(config.read_text().replace("blocks.3.hook_resid_pre", "blocks.5.hook_resid_pre"))
    line = sae_fails(capsys, output, saes, BLOOM)
    require_words(line, [config.parent, "layer 4", "not of layer 2", "right folder"])


def test_apollo_of_another_layer(capsys, output, saes):
    shutil.copy(saes / APOLLO.replace("layer02", "layer03"), saes / APOLLO)
    require_words(sae_fails(capsys, output, saes, APOLLO), [saes / APOLLO, "layer 3", "not of layer 2", "right file"])


@pytest.mark.parametrize(("file", "name"), [(BLOOM, "cfg.json"), (APOLLO, "final_config.yaml")])
@pytest.mark.parametrize("text", ['{"hook_point": "bl', "- a list\n", ""])
def test_damaged_sae_settings(capsys, output, saes, file, name, text):
    path = (saes / file).with_name(name)
    path.write_text(text)
    require_words(sae_fails(capsys, output, saes, file), [path, "download"])


@pytest.mark.parametrize("k", [0, 257, "8", None])
def test_topk_with_a_wrong_k(capsys, output, saes, k):
    rewrite(saes / OPENAI, lambda content: content["activation_state_dict"].update(k=k))
    require_words(sae_fails(capsys, output, saes, OPENAI), [saes / OPENAI, f"k = {k!r}", "from 1 to its latents"])


def test_unknown_activation(capsys, output, saes):
    rewrite(saes / OPENAI, lambda content: content.update(activation="JumpReLU"))
    require_words(sae_fails(capsys, output, saes, OPENAI), [saes / OPENAI, "'JumpReLU'", "TopK and ReLU"])


def test_scaled_bloom(capsys, output, saes):
    rewrite(saes / BLOOM, lambda content: content.update(scaling_factor=torch.full((256,), 2.0)))
    require_words(sae_fails(capsys, output, saes, BLOOM), [saes / BLOOM, "scaling_factor"])


# ---------------------------------------------------------------- cities

HEAD = "city,country,continent\n"
LYON = "Lyon,France,Europe\n"
CITIES = {
    # file name and content -> what the error names
    "no column": ("c.csv", "city,country\nLyon,France\n", ["c.csv", "no column continent", "city,country,continent"]),
    "no header": ("c.csv", LYON, ["c.csv", "no column city, country, continent"]),
    "empty file": ("c.csv", "", ["c.csv", "no column city, country, continent"]),
    "no rows": ("c.csv", HEAD, ["c.csv", "holds no cities"]),
    "empty value": ("c.csv", HEAD + LYON + "Rome,,Europe\n", ["c.csv", "line 3", "country is empty"]),
    "blank value": ("c.csv", HEAD + "Rome,Italy,  \n", ["c.csv", "line 2", "continent is empty"]),
    "short row": ("c.csv", HEAD + LYON + "Rome,Italy\n", ["c.csv", "line 3", "continent is empty"]),
    "no city": ("c.csv", HEAD + LYON + ",Italy,Europe\n", ["c.csv", "line 3", "city is empty"]),
    "twice": (
        "c.csv",
        HEAD + LYON + "Lyon,Canada,North America\n",
        ["c.csv", "line 3", "Lyon", "Canada, North America", "France, Europe", "keep one"],
    ),
    "open quote": ("c.csv", HEAD + LYON + '"Rome,Italy,Europe\n' + LYON, ["c.csv", "line 3", "is it a csv?"]),
    "latin-1": ("c.csv", (HEAD + "Zürich,Switzerland,Europe\n").encode("latin-1"), ["c.csv", "UTF-8", "--cities"]),
    "utf-16": ("c.csv", (HEAD + LYON).encode("utf-16-le"), ["c.csv", "UTF-8", "--cities"]),
    "broken json": ("c.json", '{"Lyon": {"Country": "Fra', ["c.json", "not valid json"]),
    "list json": ("c.json", '["Lyon", "Rome"]', ["c.json", "RAVEL", "Continent"]),
    "flat json": ("c.json", '{"Lyon": "France"}', ["c.json", "RAVEL", "Continent"]),
    "json without a fact": ("c.json", '{"Lyon": {"Country": "France"}}', ["c.json", "Lyon", "continent is empty"]),
    "json with a number": ("c.json", '{"Lyon": {"Country": 33, "Continent": "E"}}', ["c.json", "Lyon", "country"]),
    "all unknown to the tokenizer": (
        "c.csv",
        HEAD + "Atlantis,France,Europe\nNew Atlantis,France,Europe\n",
        ["none of the 2 cities", "2 with a token that the tokenizer does not know", "Atlantis", "--cities"],
    ),
    "one known": ("c.csv", HEAD + LYON, ["c.csv", "both facts of 1 of the 1 cities", "--cities", "--unfiltered"]),
    "none known": (
        "c.csv",
        HEAD + "Lyon,Japan,Asia\nKobe,France,Europe\n",
        ["c.csv", "toy", "both facts of 0 of the 2 cities", "--cities", "--unfiltered"],
    ),
    "too few for the split": (
        "c.csv",
        HEAD + LYON + "Kobe,Japan,Asia\n",
        ["2 known cities", "pair for", "mode strict", "split cities", "--cities", "--split pairs --mode paper"],
    ),
}


@pytest.mark.parametrize(("name", "content", "words"), CITIES.values(), ids=CITIES)
def test_cities(capsys, output, tmp_path, toy_world, name, content, words):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    line = fails(capsys, output, *TOY, "--methods", "none", "--layers", "2", "--epochs", "1", "--cities", path)
    require_words(line, words)


def test_the_cities_of_these_tests_are_the_toy_worlds(toy_world):
    """The rows above call Lyon and Kobe known, and words that it has not seen unknown."""
    text = (toy_world / "cities.csv").read_text()
    assert "\nLyon,France,Europe\n" in text
    assert "\nKobe,Japan,Asia\n" in text
    assert "Atlantis" not in text


@pytest.mark.parametrize("name", ["absent.csv", "."])
def test_no_such_cities(capsys, output, tmp_path, name):
    line = fails(capsys, output, *TOY, "--methods", "none", "--cities", tmp_path / name)
    require_words(line, ["cannot read the cities in", tmp_path / name, "--cities"])


def test_cities_unknown_to_the_tokenizer_are_skipped_and_counted(capsys, output, tmp_path, toy_world):
    """France is a word of the tokenizer and so may be a city; Wakanda is no word that it could answer with."""
    path = tmp_path / "cities.csv"
    more = "Atlantis,France,Europe\nNew Atlantis,Spain,Europe\nFrance,Wakanda,Africa\nLyon,France,Europe\n"
    path.write_text((toy_world / "cities.csv").read_text() + more)
    argv = [*TOY, *SMALL, "--methods", "none", "--layers", "2", "--cities", str(path), "--output", str(output)]
    assert main(argv) == 0
    unknown, unanswerable = (
        "with a token that the tokenizer does not know",
        "with a value that the tokenizer cannot spell",
    )
    err = capsys.readouterr().err
    assert f"120 of 123 cities take part (left out: 2 {unknown}, 1 {unanswerable})" in err
    known = json.loads((output / "toy" / "cities.json").read_text())
    assert (known["cities"], known[unknown], known[unanswerable], known["known"]) == (123, 2, 1, 120)
    assert not {"Atlantis", "New Atlantis", "France"} & set(known["names"])


# ---------------------------------------------------------------- the output folder


def test_output_below_a_file(capsys, tmp_path, toy_world):
    """Permissions would not stop root, a file in the way does."""
    file = tmp_path / "file"
    file.write_text("kept")
    line = fails(capsys, file / "results", *TOY, *SMALL, "--methods", "none", "--layers", "2")
    require_words(line, ["cannot write to", file / "results", "--output"])
    assert file.read_text() == "kept"


def test_output_is_a_file(capsys, tmp_path, toy_world):
    file = tmp_path / "file"
    file.write_text("kept")
    line = fails(capsys, file, *TOY, *SMALL, "--methods", "none", "--layers", "2")
    require_words(line, ["cannot write to", file, "--output"])


def test_the_models_folder_is_a_file(capsys, output, toy_world):
    output.mkdir()
    (output / "toy").write_text("kept")
    line = fails(capsys, output, *TOY, *SMALL, "--methods", "none", "--layers", "2")
    require_words(line, ["cannot write to", output / "toy", "--output"])


def test_output_is_a_link_to_nowhere(capsys, tmp_path, toy_world):
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere" / "at all")
    line = fails(capsys, link, *TOY, *SMALL, "--methods", "none", "--layers", "2")
    require_words(line, ["cannot write to", link, "--output"])


NEURON = (*TOY, *SMALL, "--methods", "neuron", "--layers", "2")


@pytest.fixture(scope="module")
def neuron_results(toy_world, tmp_path_factory) -> Path:
    """An output folder with one result; not to be changed."""
    folder = tmp_path_factory.mktemp("neuron") / "results"
    assert main([*NEURON, "--output", str(folder)]) == 0
    return folder


@pytest.fixture
def done(neuron_results, output) -> Path:
    """The json of that result in a copy of its output folder."""
    shutil.copytree(neuron_results, output)
    return output / "toy" / "country" / "neuron" / "layer02-seed0.json"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--epochs 2", ["epochs 1 there, 2 now"]),
        ("--lr 0.5", ["lr 0.003 there, 0.5 now"]),
        ("--temperature 10 0.1", ["temperature [1.0, 0.1] there, [10.0, 0.1] now"]),
        ("--precision bf16", ['precision "fp32" there, "bf16" now']),
        ("--engine nnsight --batch-size 4", ['engine "fast" there, "nnsight" now', "batch_size 16 there, 4 now"]),
    ],
)
def test_results_of_another_configuration(capsys, output, done, flags, words):
    line = fails(capsys, output, *NEURON, *flags.split())
    require_words(line, [done, "another configuration", *words, "--force", "--output"])


def test_results_of_another_configuration_are_redone_by_force(output, done):
    assert len(json.loads(done.read_text())["history"]) == 1
    assert main([*NEURON, "--epochs", "2", "--force", "--output", str(output)]) == 0
    result = json.loads(done.read_text())
    assert result["config"]["epochs"] == 2
    assert [row["epoch"] for row in result["history"]] == [1, 2]


def test_results_with_another_sae(capsys, output, saes):
    """The file that is read is the one that counts: of an Apollo run, the last."""
    shutil.copy(saes / APOLLO, (saes / APOLLO).with_name("samples_200000.pt"))
    argv = (*TOY, *SMALL, "--saes", str(saes), "--methods", "apollo-e2e", "--layers", "2")
    assert main([*argv, "--output", str(output)]) == 0
    shutil.copy(saes / APOLLO.replace("apollo-e2e", "apollo-e2e+ds"), saes / APOLLO)
    line = fails(capsys, output, *argv)
    require_words(line, ["apollo-e2e/layer02-seed0.json", "another configuration", "sae_digest", "--force"])


def test_results_that_need_the_pair_file_as_it_is(capsys, output, done):
    """A run of another layer would overwrite the pairs that an earlier result refers to."""
    line = fails(capsys, output, *NEURON, "--layers", "3", "--max-pairs", "8")
    require_words(line, [done, "other pairs", "pairs-strict-cities-seed0.json", "--output", "--force"])


def test_a_broken_result(capsys, output, done):
    cut_in_half(done)
    require_words(fails(capsys, output, *NEURON), ["cannot read the result", done, "--force"])
    assert main([*NEURON, "--force", "--output", str(output)]) == 0
    assert json.loads(done.read_text())["method"] == "neuron"


def test_earlier_results_survive_a_damaged_sae(capsys, output, done, saes):
    cut_in_half(saes / OPENAI)
    before = snapshot(output)
    require_words(sae_fails(capsys, output, saes, OPENAI), [saes / OPENAI, "truncated"])
    assert done.exists()
    assert snapshot(output) == before


@pytest.mark.parametrize("kind", ["tensors", "json"])
def test_the_disk_is_full(capsys, monkeypatch, output, done, kind):
    """It is told like any other error, and what was finished is kept."""
    before = snapshot(output)
    full = "No space left on device"

    def save_file(*_, **__):
        raise safetensors.SafetensorError(f"Error while serializing: I/O error: {full} (os error 28)")

    def replace(source, target):
        if Path(target).name == "layer03-seed0.json":
            raise OSError(errno.ENOSPC, full)
        rename(source, target)

    rename = os.replace
    if kind == "tensors":
        monkeypatch.setattr(safetensors.torch, "save_file", save_file)
    else:
        monkeypatch.setattr(os, "replace", replace)
    capsys.readouterr()
    assert main([*NEURON, "--layers", "2", "3", "--output", str(output)]) == 2
    line = error_line(capsys.readouterr().err)
    file = done.with_name("layer03-seed0.json" if kind == "json" else "layer03-seed0.safetensors")
    require_words(line, ["cannot write", file, full, "same command again"])
    monkeypatch.undo()
    after = snapshot(output)
    assert [name for name in before if "/layer02" in name and after[name] != before[name]] == []
    assert not list(output.rglob(".*.tmp"))
    assert not done.with_name("layer03-seed0.json").exists()
    assert main([*NEURON, "--layers", "2", "3", "--output", str(output)]) == 0
    assert done.with_name("layer03-seed0.json").exists()


def test_stdout_on_a_full_device_is_one_line(output, done):
    """What is on disk is whole, and says so."""
    with open("/dev/full", "w") as full:
        process = subprocess.run(
            [sys.executable, HOME / "main.py", *NEURON, "--output", output],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert process.returncode == 1
    assert "Traceback" not in process.stderr
    assert process.stderr.splitlines()[-1].startswith("error: cannot write to stdout: no space left on its device")
    assert done.exists()


def test_what_needs_no_model_is_told_before_the_toy_world_is_built(capsys, output, tmp_path, monkeypatch):
    """A missing SAE in a folder that was named, a broken table of cities, a mode of wandb that there is not."""
    monkeypatch.setattr(toy, "ensure", lambda *_, **__: pytest.fail("it was built"))
    monkeypatch.setenv("WANDB_MODE", "sometimes")
    (tmp_path / "c.csv").write_text("name,land\nLyon,France\n")
    for flags, words in (
        (["--methods", "bloom", "--saes", tmp_path / "none"], ["no bloom SAE", "none"]),
        (["--cities", tmp_path / "c.csv"], ["c.csv", "column"]),
        (["--wandb"], ["WANDB_MODE", "sometimes"]),
        (["--against", "all"], ["--against", "one method"]),
        (["--methods", "das:features"], ["das:features", "add das to --methods"]),
        (["--methods", "das:permuted"], ["das has no variant 'das:permuted'", "das:random, das:cause, das:features"]),
    ):
        require_words(fails(capsys, output, "--model", "toy", *map(str, flags)), words)
