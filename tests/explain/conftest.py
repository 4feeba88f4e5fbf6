"""Masks of the toy world, trained and explained once by the command line."""

import shutil

import pytest
from helpers_explain import MAX_PAIRS, METHODS, TOP, Explained, explain


@pytest.fixture(scope="session")
def explained(toy_world, tmp_path_factory) -> Explained:
    """Three methods with two seeds at the planted layer, on few pairs."""
    flags = ["--methods", *METHODS, "--seeds", "0", "1", "--max-pairs", str(MAX_PAIRS)]
    return explain(tmp_path_factory.mktemp("explained"), toy_world / "saes", flags, TOP)


@pytest.fixture(scope="session")
def oracle(toy_world, tmp_path_factory) -> Explained:
    """The SAE whose latents are the planted directions, in Bloom's place; on as many pairs as the toy has."""
    saes = tmp_path_factory.mktemp("saes")
    shutil.copytree(toy_world / "saes" / "oracle", saes / "bloom")
    return explain(tmp_path_factory.mktemp("oracle"), saes, ["--methods", "bloom"], 32)
