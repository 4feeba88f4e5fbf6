"""Labels as they are kept beside results."""

import pytest
from helpers_results import result, write

from common.errors import UserError
from results.collecting import read_folder
from results.labels import keep_labels, read_labels


def test_labels_are_kept_and_added_to(tmp_path):
    assert read_labels(tmp_path) == {}
    assert keep_labels(tmp_path, {"sae:a": "first"}) == {"sae:a": "first"}
    assert keep_labels(tmp_path, {"sae:b": "second"}) == {"sae:a": "first", "sae:b": "second"}
    assert keep_labels(tmp_path, {"sae:a": "other"}) == read_labels(tmp_path) == {"sae:a": "other", "sae:b": "second"}
    with pytest.raises(UserError, match="gives 'other' to sae:b, and sae:a has it"):
        keep_labels(tmp_path, {"sae:b": "other"})
    assert read_labels(tmp_path)["sae:b"] == "second"


@pytest.mark.parametrize("content", ["{", "[]", '{"das": "x"}', '{"sae:a": 3}', '{"sae:a": "x", "sae:b": "x"}'])
def test_a_damaged_file_is_named_and_left_out(tmp_path, content):
    write(tmp_path, result("country", "das", 0))
    (tmp_path / "toy" / "labels.json").write_text(content)
    found = read_folder(tmp_path / "toy")
    assert found.labels == {}
    assert len(found.results) == 1
    assert found.problems[0].startswith("labels.json (")
    with pytest.raises(UserError, match="remove it and give --label anew"):
        keep_labels(tmp_path / "toy", {"sae:a": "x"})
