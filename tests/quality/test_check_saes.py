"""eval_sae.py --check: what it prints is computed anew here, and what is wrong is said in a word."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers_cli import HOME
from helpers_saes import READERS
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import eval_sae
from quality import check as check_saes

FEW = ("--model", "toy", "--device", "cpu")


def check(capsys, *flags) -> tuple[int, list[str], str]:
    """(exit code, lines of stdout, stderr)"""
    capsys.readouterr()
    code = eval_sae.main(["--check", *FEW, *map(str, flags)])
    out, err = capsys.readouterr()
    assert all(len(line) <= 80 for line in out.splitlines() if "DAMAGED:" not in line and "missing" not in line)
    return code, out.splitlines(), err


def numbers(lines: list[str], layer: int, method: str) -> tuple[list[float], str]:
    """(latents, l0, explained twice, error twice) of an SAE's row, and the row's mark."""
    (row,) = [line for line in lines if re.match(rf" ?{layer} {re.escape(method)} ", line)]
    words = row.split()
    return [float(word) for word in words[2:8]], " ".join(words[8:])


@pytest.fixture
def saes(toy_world, tmp_path) -> Path:
    shutil.copytree(toy_world / "saes", tmp_path / "saes")
    return tmp_path / "saes"


@pytest.fixture(scope="module")
def vectors(toy_world) -> dict[int, torch.Tensor]:
    """The city's vectors of all prompts, by plain forward passes."""
    model = AutoModelForCausalLM.from_pretrained(toy_world).eval()
    tokenizer = AutoTokenizer.from_pretrained(toy_world)
    cities = [line.partition(",")[0] for line in (toy_world / "cities.csv").read_text().splitlines()[1:]]
    texts = [f"<|endoftext|> {city} is a city in the {a} of" for a in ("country", "continent") for city in cities]
    with torch.no_grad():
        states = model(torch.tensor(tokenizer(texts)["input_ids"]), output_hidden_states=True).hidden_states
    return {layer: states[layer + 1][:, -8] for layer in range(5)}


@pytest.mark.parametrize("method", ["openai", "bloom", "apollo-e2e+ds"])
def test_the_numbers(capsys, toy_world, vectors, method):
    code, lines, _ = check(capsys, "--methods", method, "--layers", "1", "3")
    assert code == 0
    for layer in (1, 3):
        x = vectors[layer].double()
        found, mark = numbers(lines, layer, method)
        expected = [256.0]
        for raw in (False, True):
            latents = READERS[method](toy_world / "saes" / method, vectors[layer], layer, raw)
            if len(expected) == 1:
                expected.append(float((latents.z > 0).double().sum(1).mean()))
            x_hat = latents.decode(latents.z, slice(None)).double()
            if raw and method.startswith("apollo"):  # the reader's raw one has its columns as stored: not what is asked
                continue
            error = (x - x_hat).pow(2).sum(1).mean()
            expected += [float(1 - error / (x - x.mean(0)).pow(2).sum(1).mean()), float(error)]
        found = [found[i] for i in ((0, 1, 2, 4) if len(expected) == 4 else (0, 1, 2, 4, 3, 5))]
        assert found == pytest.approx(expected, rel=6e-3, abs=6e-4)
        assert mark == ""


def test_family_release_and_all(capsys, toy_world):
    _, lines, _ = check(capsys, "--methods", "apollo", "--layers", "2")
    assert [line.split()[1] for line in lines if line.startswith(" 2")] == ["apollo-e2e", "apollo-e2e+ds"]
    _, lines, _ = check(capsys, "--layers", "2")
    assert len([line for line in lines if line.startswith(" 2")]) == 4


def test_what_reads_the_wrong_stream_is_marked(capsys, saes):
    """By the two readings; and in the table, for a decoder that is worse than none."""
    raw = check_saes.Reading(1.0, 1.0, 0.5)
    worse = check_saes.Reading(1.0, 2.0, -0.5)
    about = ("bloom", 2, "file", 256, None, {"min": 1.0, "median": 1.0, "max": 1.0})
    assert check_saes.Checked(*about, "centred", worse, raw).mark() == "RAW"
    assert check_saes.Checked(*about, "raw", worse, raw).mark() == "CENTRED"
    assert check_saes.Checked(*about, "normalised", worse, worse).mark() == "WRONG"
    assert check_saes.Checked("apollo-e2e+ds", *about[1:], "raw", worse, worse).mark() == "LOW"  # may be meant so
    assert check_saes.Checked(*about, "centred", raw, worse).mark() == ""
    assert check_saes.Checked(*about, "centred", raw, check_saes.Reading(1.0, 0.995, 0.502)).mark() == ""
    content = torch.load(saes / "openai" / "0.pt", weights_only=True)
    content["decoder.weight"] *= -1
    torch.save(content, saes / "openai" / "0.pt")
    code, lines, _ = check(capsys, "--methods", "openai", "--layers", "0", "--saes", saes)
    assert code == 0
    assert numbers(lines, 0, "openai")[1] == "WRONG"
    assert any(line.startswith("WRONG: ") for line in lines)


def test_missing_files_are_named_and_damaged_ones_too(capsys, saes):
    shutil.rmtree(saes / "apollo-e2e" / "layer02")
    (saes / "openai" / "3.pt").unlink()
    broken = saes / "bloom" / "blocks.2.hook_resid_pre" / "sae_weights.safetensors"
    content = load_file(broken)
    content["W_dec"][3, 4] = float("nan")
    save_file(content, broken)
    code, lines, err = check(capsys, "--saes", saes, "--layers", "1", "2", "3")
    assert code == 2
    assert f"missing in {saes}: openai 3, apollo-e2e 2" in lines
    assert " 1 bloom          DAMAGED, see below" in lines
    (told,) = [line for line in lines if line.startswith("DAMAGED: ")]
    assert str(broken) in told and "NaN" in told
    assert err.splitlines()[-1].startswith("error: 1 of 10 SAEs cannot be used")
    assert len([line for line in lines if re.match(r" [123] ", line)]) == 10


def test_nothing_to_check(capsys, tmp_path, toy_world):
    code, lines, err = check(capsys, "--saes", tmp_path / "none", "--layers", "1")
    assert (code, lines) == (2, [])
    assert "there is no SAE to check" in err and "openai 1" in err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--methods", "gemma"], ["gemma", "openai"]),
        (["--layers", "9"], ["layer 9", "0 to 5"]),
        (["--layers", "two"], ["'two'"]),
        (["--nonsense"], ["--nonsense"]),
        (["--raw-residual"], ["--raw-residual", "--check"]),
        (["--force"], ["--force", "--check"]),
        (["--dry-run"], ["--dry-run", "--check"]),
        (["--markdown"], ["--markdown", "--check"]),
    ],
)
def test_wrong_flags(capsys, toy_world, flags, words):
    code, lines, err = check(capsys, *flags)
    assert (code, lines) == (2, [])
    assert err.startswith("error: ") and all(word in err for word in words)


def test_as_a_process(toy_world):
    def run(*flags):
        return subprocess.run([sys.executable, HOME / "eval_sae.py", *flags], capture_output=True, text=True)

    process = run("--check", *FEW, "--methods", "openai", "--layers", "2")
    assert process.returncode == 0, process.stderr
    assert " 2 openai " in process.stdout
    wrong = run("--chekc")
    assert wrong.returncode == 2
    assert "did you mean --check" in wrong.stderr
