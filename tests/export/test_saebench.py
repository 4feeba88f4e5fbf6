"""SAEBench's result files, held against the fields that it gives them, and read by itself where it is installed."""

import json
import uuid

import pytest
from helpers_results import result, small_grid, write

import main

MINE = "sae:runs/mine"
CONFIG = {  # sae_bench/evals/ravel/eval_config.py of 0.6.0
    "entity_attribute_selection": dict,
    **dict.fromkeys(("top_n_entities", "top_n_templates", "num_pairs_per_attribute", "llm_batch_size"), int),
    **dict.fromkeys(("num_epochs", "n_generated_tokens", "random_seed"), int),
    "full_dataset_downsample": int | None,
    **dict.fromkeys(("train_test_split", "learning_rate"), float),
    **dict.fromkeys(("force_dataset_recompute", "train_mdas"), bool),
    **dict.fromkeys(("model_name", "llm_dtype", "artifact_dir"), str),
}
OUTPUT = {  # sae_bench/evals/base_eval_output.py and ravel/eval_output.py
    **dict.fromkeys(("eval_type_id", "eval_id", "sae_bench_commit_hash"), str),
    "eval_config": CONFIG,
    "datetime_epoch_millis": int,
    "eval_result_metrics": {"ravel": dict.fromkeys(("disentanglement_score", "cause_score", "isolation_score"), float)},
    "eval_result_details": list,
    **dict.fromkeys(("sae_lens_id", "sae_lens_release_id", "sae_lens_version"), str | None),
    "sae_cfg_dict": dict | None,
    "eval_result_unstructured": object,
}


def require_fields(value, fields, where: str = "") -> None:
    """Exactly these keys, each with a value of its type; true is no number."""
    if isinstance(fields, dict):
        assert isinstance(value, dict), where
        assert value.keys() == fields.keys(), where
        for key, kind in fields.items():
            require_fields(value[key], kind, f"{where}.{key}")
    else:
        assert isinstance(value, fields), where
        assert isinstance(value, bool) == (fields is bool) or fields is object, where


@pytest.fixture
def files(tmp_path) -> dict[str, dict]:
    small_grid(tmp_path, seeds=(0, 1, 2))
    about = {"config": {"architecture": "jumprelu", "d_sae": 256}, "k": None}
    write(tmp_path, result("country", MINE, 1, 0, hard=(0.25, 0.75), sae=about))
    write(tmp_path, result("continent", MINE, 1, 0, hard=(0.5, 0.25), sae=about))
    write(tmp_path, result("country", MINE, 1, 1, hard=(0.75, 1.0), sae=about))
    (tmp_path / "toy" / "labels.json").write_text(json.dumps({MINE: "mine/1"}))
    assert main.main(["--model", "toy", "--output", str(tmp_path), "--export", "saebench"]) == 0
    folder = tmp_path / "toy" / "export" / "saebench"
    return {path.name: json.loads(path.read_text()) for path in folder.iterdir()}


def test_a_file_for_each_sae_and_layer(files):
    names = [f"openai_layer_{layer}" for layer in (0, 1, 2)] + ["apollo-e2e_layer_1", "mine_1_custom_sae"]
    assert files.keys() == {f"{name}_eval_results.json" for name in names}


def test_every_field_is_there_with_its_type(files):
    for content in files.values():
        require_fields(content, OUTPUT)
        assert content["eval_type_id"] == "ravel"
        assert str(uuid.UUID(content["eval_id"])) == content["eval_id"]
        assert 0 <= content["datetime_epoch_millis"] <= 9999999999999
    assert len({content["eval_id"] for content in files.values()}) == len(files)


def test_saebench_itself_reads_them(files):
    outputs = pytest.importorskip("sae_bench.evals.ravel.eval_output")
    adapter = pytest.importorskip("pydantic").TypeAdapter(outputs.RAVELEvalOutput)
    for content in files.values():
        read = adapter.validate_python(content)
        assert read.eval_result_metrics.ravel.cause_score == content["eval_result_metrics"]["ravel"]["cause_score"]
        assert json.loads(read.to_json()) == content


def test_scores_are_means_over_seeds_and_then_over_attributes(files):
    content = files["mine_1_custom_sae_eval_results.json"]
    own = content["eval_result_unstructured"]
    assert own["city_results"] == {
        "city_Country": {"cause_score": 0.5, "isolation_score": 0.875, "disentangle_score": 0.6875},
        "city_Continent": {"cause_score": 0.5, "isolation_score": 0.25, "disentangle_score": 0.375},
    }
    assert content["eval_result_metrics"]["ravel"] == {
        **{"cause_score": 0.5, "isolation_score": 0.5625, "disentanglement_score": 0.53125}
    }
    assert own["by_seed"]["city_Country"]["1"] == {
        **{"cause_score": 0.75, "isolation_score": 1.0, "disentangle_score": 0.875}
    }
    low, high = own["intervals95"]["city_Country"]["disentangle_score"]
    assert low < 0.6875 < high
    assert (own["label"], own["interval_unit"]) == ("mine/1", "country")
    assert "not SAEBench" in own["protocol"]
    assert "not run by SAEBench" in content["sae_bench_commit_hash"]
    assert "toy world" in own["notice"]
    assert content["sae_cfg_dict"]["architecture"] == "jumprelu"


def test_results_without_an_sae_are_refused_in_one_line(tmp_path, capsys):
    write(tmp_path, result("country", "das", 0))
    assert main.main(["--model", "toy", "--output", str(tmp_path), "--export", "saebench"]) == 2
    assert "holds no result of an SAE" in capsys.readouterr().err
    assert not (tmp_path / "toy" / "export").exists()
