"""A checkout of its own, in which every host is a server on this machine and nobody else can be reached."""

import os

import pytest
import requests
import wandb
from helpers_downloads import Apollo, Bloom, OpenAI, some_bytes
from helpers_hosts import KEY, Hosts
from huggingface_hub import constants as hub_constants

from downloads import fetching, items
from downloads import hosts as product_hosts

OUTSIDE = ("https://openaipublic.blob.core.windows.net", "https://raw.githubusercontent.com")
KINDS = [pytest.param(OpenAI(), id="azure"), pytest.param(Bloom(), id="hub"), pytest.param(Apollo(), id="wandb")]


@pytest.fixture
def server():
    server = Hosts()
    yield server
    server.close()


@pytest.fixture
def home(tmp_path, monkeypatch, server, go_to):
    """A checkout of its own, in which every host is the server and nobody else can be reached."""
    home = tmp_path / "home"
    (home / "saved_models" / "saes").mkdir(parents=True)
    (home / "data").mkdir()
    monkeypatch.setattr(items, "HOME", home)
    monkeypatch.setattr(fetching, "PAUSE", 0)
    monkeypatch.setattr(product_hosts, "CHUNK", 1000)
    for name in list(os.environ):
        if name.startswith(("HF_", "WANDB_", "AZURE_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    for name in ("WANDB_DIR", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr(hub_constants, "ENDPOINT", server.url)
    template = hub_constants.HUGGINGFACE_CO_URL_TEMPLATE
    monkeypatch.setattr(
        hub_constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + template[template.index("/{repo_id}") :]
    )
    monkeypatch.setattr(hub_constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub_constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    go_to(server.url)
    yield home
    wandb.teardown()


@pytest.fixture
def go_to(monkeypatch):
    """Lead every host to an address, and forget what was known of them."""

    def lead(url: str) -> None:

        def elsewhere(asked: str) -> str:
            for host in OUTSIDE:
                asked = asked.replace(host, url)
            assert asked.startswith("http://127.0.0.1"), asked
            return asked

        ask = requests.Session.request

        def request(self, method, url, **options):
            return ask(self, method, elsewhere(url), **options)

        monkeypatch.setattr(requests.Session, "request", request)

        monkeypatch.setenv("WANDB_BASE_URL", url)
        product_hosts._wandb_api.cache_clear()
        product_hosts._repository.cache_clear()

    return lead


@pytest.fixture
def account(monkeypatch, home):
    monkeypatch.setenv("WANDB_API_KEY", KEY)


@pytest.fixture(params=KINDS)
def kind(request, account):
    return request.param


@pytest.fixture
def content(kind, server) -> bytes:
    content = some_bytes(5)
    kind.publish(server, content)
    return content
