"""Labels of users' own SAEs: how they are given, and whom they name."""

import pytest

from common.errors import UserError
from featurizers.labels import label_of, parse_labels
from saes.names import normalised


def test_a_size_and_a_variant_are_called_by_their_methods_label():
    labels = {"sae:runs/a": "mine"}
    names = ["sae:runs/a", "sae:runs/a:random", "sae:runs/b", "das", "das:random"]
    assert [label_of(name, labels) for name in names] == ["mine", "mine:random", "sae:runs/b", "das", "das:random"]
    assert [label_of(f"sae:runs/a{behind}", labels) for behind in ("@8", ":cause")] == ["mine@8", "mine:cause"]
    assert parse_labels(["sae:runs/a=x"], ["das", "sae:runs/a@8"]) == {"sae:runs/a": "x"}


def test_a_folder_has_one_name_whatever_stands_behind_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "a").mkdir(parents=True)
    (tmp_path / "runs" / "a@8").mkdir()
    for behind in ("", ":random", ":cause", "@64", "@"):
        assert normalised(f"sae:./runs/a/{behind}") == f"sae:runs/a{behind}"
    assert normalised("sae:runs/a@8/") == "sae:runs/a@8"  # a folder of that name
    assert normalised("sae:owner/name@64") == "sae:owner/name@64"


def test_the_text_may_have_an_equals_sign_and_so_may_the_folder(tmp_path):
    (tmp_path / "k=32").mkdir()
    own = [f"sae:{tmp_path}/k=32", "sae:runs/b"]
    assert parse_labels([f"sae:{tmp_path}/k=32/=mine, k=32"], own) == {own[0]: "mine, k=32"}
    assert parse_labels(["sae:runs/b=x=y", "sae:runs/b=z"], own) == {"sae:runs/b": "z"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("das=mine", ["--label", "das=mine", "own SAE"]),
        ("sae:runs/b", ["--label", "sae:runs/b", "a name for it"]),
        ("sae:runs/c=x", ["sae:runs/c", "did you mean sae:runs/b", "own SAEs are sae:runs/b"]),
        ("sae:runs/b=", ["a label is text"]),
        ("sae:runs/b= x", ["blanks"]),
        ("sae:runs/b=a\nb", ["one line"]),
        ("sae:runs/b=" + "x" * 41, ["at most 40"]),
        ("sae:runs/b=das", ["name of a method"]),
        ("sae:runs/b=sae:runs/c", ["name of a method"]),
    ],
)
def test_errors_are_one_line(given, words):
    with pytest.raises(UserError) as error:
        parse_labels([given], ["das", "sae:runs/b"])
    assert all(word in str(error.value) for word in words), error.value


def test_one_sae_has_one_name_however_its_folder_is_written(tmp_path, monkeypatch):
    (tmp_path / "here" / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    below = ["runs/mine", "runs/mine/", "./runs/mine", "runs/../runs/mine", f"{tmp_path}/here/runs/mine"]
    assert {normalised(f"sae:{path}") for path in [*below, "~/here/runs/mine"]} == {"sae:runs/mine"}
    assert {normalised(f"sae:{path}:random") for path in below} == {"sae:runs/mine:random"}
    assert {normalised(f"sae:{path}") for path in ("../else", f"{tmp_path}/else/", "~/else")} == {
        f"sae:{tmp_path}/else"
    }
    assert normalised(normalised("sae:./runs/mine")) == "sae:runs/mine"
    for hub in ("sae:owner/repo/folder", "sae:./nowhere", "sae:gpt2-small-res-jb/blocks.8.hook_resid_pre"):
        assert normalised(hub) == hub
