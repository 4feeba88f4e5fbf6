"""A submission to MIB, read as MIB's own loader reads it, and patched with as MIB patches.

The reader is written after CausalAbstraction's `Featurizer.load_modules`, `SubspaceFeaturizerModule` and
`ResidualStream.load_modules`; none of our code is used in it.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_cli import error_line, require_words
from helpers_results import result, write

import main

D = 64
GEMMA = "google/gemma-2-2b"
UNIT = "ResidualStream(Layer-3,Token-entity_last_token)"


def rotation() -> np.ndarray:
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(D, D)))
    return q.astype(np.float32)


def theta() -> np.ndarray:
    return np.random.default_rng(1).normal(size=D).astype(np.float32)


@pytest.fixture
def submission(tmp_path):
    """DAS and neurons with one seed, DAS with another, an SAE, and the baselines."""
    for target in ("country", "continent"):
        for seed in (0, 1):
            write(tmp_path, result(target, "das", 3, seed, model=GEMMA), rotation=rotation(), theta=theta())
        write(tmp_path, result(target, "neuron", 3, model=GEMMA), theta=theta())
        write(tmp_path, result(target, "none", 3, model=GEMMA))
        write(tmp_path, result(target, "sae:runs/mine", 3, model=GEMMA))
    assert main.main(["--model", GEMMA, "--output", str(tmp_path), "--export", "mib"]) == 0
    return tmp_path / "google--gemma-2-2b" / "export" / "mib"


class Rotate(torch.nn.Module):
    """pyvene's LowRankRotateLayer."""

    def __init__(self, n: int, m: int):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(n, m), requires_grad=True)


class Subspace(torch.nn.Module):
    def __init__(self, rotate):
        super().__init__()
        self.rotate = rotate


def load_modules(base) -> tuple:
    """(features of a vector, vector of features and error, indices)"""
    saved = {kind: torch.load(f"{base}_{kind}", weights_only=True) for kind in ("featurizer", "inverse_featurizer")}
    info = saved["featurizer"]["model_info"]
    indices = json.loads(Path(f"{base}_indices").read_text())
    assert info["n_features"] == D
    if info["featurizer_class"] == "IdentityFeaturizerModule":
        assert info["inverse_featurizer_class"] == "IdentityInverseFeaturizerModule"
        assert all(content["state_dict"] == {} for content in saved.values())
        return (lambda x: (x, None)), (lambda *both: both[0]), indices
    assert (info["featurizer_class"], info["inverse_featurizer_class"]) == (
        "SubspaceFeaturizerModule",
        "SubspaceInverseFeaturizerModule",
    )
    matrix = info["additional_config"]["rotation_matrix"]
    assert matrix.numpy() == pytest.approx(rotation())
    modules = []
    for content in saved.values():
        layer = Rotate(*matrix.shape)
        layer.weight.data.copy_(matrix)
        layer = torch.nn.utils.parametrizations.orthogonal(layer)
        layer.requires_grad_(info["additional_config"]["requires_grad"])
        module = Subspace(layer)
        module.load_state_dict(content["state_dict"])
        modules.append(module)

    def features(x):
        r = modules[0].rotate.weight.T
        f = x @ r.T
        return f, x - f @ r

    return features, (lambda f, error: f @ modules[1].rotate.weight.T + error), indices


@pytest.mark.parametrize("method", ["das", "neuron"])
def test_mibs_patch_with_it_is_ours(submission, method):
    base = submission / f"{method}-seed0" / "ravel_task_Gemma2ForCausalLM_Country" / UNIT
    features, back, indices = load_modules(base)
    assert indices == np.flatnonzero(theta() > 0).tolist()
    x_base, x_source = torch.randn(2, D, generator=torch.Generator().manual_seed(2))
    f_base, error = features(x_base)
    f_source, _ = features(x_source)
    mixed = f_base.clone()
    mixed[indices] = f_source[indices]
    found = back(mixed, error).detach().double().numpy()
    turn = rotation().astype(float) if method == "das" else np.eye(D)
    difference = (x_source - x_base).double().numpy() @ turn
    wanted = x_base.double().numpy() + ((theta() > 0) * difference) @ turn.T
    assert found == pytest.approx(wanted, abs=2e-5)
    assert abs(found - x_base.numpy()).max() > 0.1


def test_a_folder_for_each_method_and_seed_as_mib_names_them(submission):
    found = {str(path.relative_to(submission)) for path in submission.rglob("*") if path.is_file()}
    kinds = ("featurizer", "inverse_featurizer", "indices")
    assert found == {
        f"{run}/ravel_task_Gemma2ForCausalLM_{variable}/{UNIT}_{kind}"
        for run in ("das-seed0", "das-seed1", "neuron-seed0")
        for variable in ("Country", "Continent")
        for kind in kinds
    }


def test_what_mib_has_not_is_refused_in_one_line(tmp_path, capsys):
    write(tmp_path, result("country", "das", 0))
    write(tmp_path, result("country", "openai", 3, model=GEMMA))
    for model, words in (("toy", ["ravel_task has no toy", GEMMA]), (GEMMA, ["no method", "neuron and das"])):
        assert main.main(["--model", model, "--output", str(tmp_path), "--export", "mib"]) == 2
        require_words(error_line(capsys.readouterr().err), words)
    assert not list(tmp_path.rglob("export"))
