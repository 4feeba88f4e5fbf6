"""The hosts that publish what we download: what lies at an address, how large it is, and its bytes.

    files = look("hf://jbloom/GPT2-Small-SAEs-Reformatted@57d08a4/blocks.6.hook_resid_pre")
    for chunk in files["cfg.json"].read(start=0): ...

An address is `az://account/container/object`, `hf://owner/repository[@commit]/folder`,
`wandb://entity/project/run` or `https://..`.  An entry of `HOSTS` finds out what lies
there; the bytes of all come by https, from any byte on, so that a broken download is
continued.  Everything that a host or the network does wrong is a UserError of one line;
`Broken` is one that another try may mend.

Sources: the libraries' own code (huggingface_hub 2.4, wandb 0.31).  None of the hosts could
be reached where this was written; their protocols are tried in tests/downloads against a
server on this machine.
"""

import base64
import contextlib
import fnmatch
import functools
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from common.errors import UserError
from imports import hub_constants, hub_utils, huggingface_hub, requests

CHUNK = 4 * 2**20  # bytes handed on at once
TIMEOUT = 10  # seconds without an answer
AGAIN = "run the same command again"
BY_HAND = "its publisher may have moved it, look for it by hand"
LIBRARIES = {"requests", "urllib3", "huggingface_hub", "httpx2", "httpcore2", "wandb"}  # whose errors are a host's


class Broken(UserError):
    """A connection that broke: what has arrived is good, the rest can be asked for again."""


class NeedsLogin(UserError):
    """What is asked for needs an account that is not set up here: known before any host is asked."""


@dataclass(frozen=True)
class RemoteFile:
    """One file at its host.

    digests: what the host tells of its content: "size", in bytes, and a digest of `hashlib` or
    "git", git's blob id, if it tells one.  revision: what pins its content there (a commit,
    an etag), if anything does.  url, headers, auth: how its bytes are asked for.
    """

    address: str
    digests: dict[str, str]
    revision: str | None
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    auth: tuple[str, str] | None = None

    @property
    def size(self) -> int:
        return int(self.digests["size"])

    def read(self, start: int) -> Iterator[bytes]:
        """Its bytes from this one on, in pieces, also from a server that knows no ranges.  Raises UserError."""
        span = {"Range": f"bytes={start}-"} if start else {}
        with errors_of(self.address), _request("GET", self.url, self.headers | span, self.auth) as response:
            skip = start if response.status_code != 206 else 0
            while chunk := response.raw.read1(CHUNK):  # unlike read, it hands on what came before a break
                yield chunk[skip:]
                skip = max(0, skip - len(chunk))


def look(address: str, names: tuple[str, ...] = ("*",)) -> dict[str, RemoteFile]:
    """The files of these names (patterns) at an address.  Raises UserError if one is not there."""
    with errors_of(address):
        found = HOSTS[address.partition("://")[0]](address)
    wanted = {name: fnmatch.filter(found, name) for name in names}
    for name, files in wanted.items():
        if not files:
            raise UserError(f"{address} has no {name}; {BY_HAND}")
    return {file: found[file] for files in wanted.values() for file in files}


# ---------------------------------------------------------------- errors


@contextlib.contextmanager
def errors_of(address: str):
    """Turn what the libraries and the network raise into one line; our own bugs keep their traceback."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in LIBRARIES and not isinstance(error, OSError):
            raise
        raise _explained(address, error) from None


ANSWERS = {  # what a host answers, by its status or by the library's name for it -> what that means
    **dict.fromkeys((401, 403, 409, "AuthenticationError"), "may not be read ({}); log in at its host and try again"),
    404: f"is not there (404); {BY_HAND}",
    412: f"was changed at its host meanwhile; {AGAIN}",
    # the hub says 401 of what is not there
    "RepositoryNotFoundError": "is not there, or wants a login (.venv/bin/hf auth login); look for it by hand",
}


def _explained(address: str, error: Exception) -> UserError:
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if "Could not find run" in str(error):  # wandb's 404
        status = 404
    answer = ANSWERS.get(type(error).__name__) or ANSWERS.get(status)
    if answer and "in time" not in str(error):  # as wandb's login says when it cannot be reached
        return UserError(f"{address} {answer.format(status or 'no access')}")
    if address.startswith("hf:") and hub_constants.HF_HUB_OFFLINE:
        return UserError(f"cannot get {address}: HF_HUB_OFFLINE is set; unset it and {AGAIN}")
    while error.__cause__ or error.__context__:  # libraries wrap what the network said
        error = error.__cause__ or error.__context__
    told = str(getattr(error, "strerror", None) or getattr(error, "message", None) or error)
    told = " ".join(told.split()).rpartition(": ")[2][:100]
    reason = f"the host answers {status}" if status else told or type(error).__name__
    return Broken(f"cannot get {address} ({reason}); check the network and {AGAIN}")


# ---------------------------------------------------------------- plain https, and Azure


def _request(method: str, url: str, headers: dict[str, str], auth: tuple[str, str] | None = None):
    headers = headers | {"Accept-Encoding": "identity"}  # a compressed answer has neither size nor ranges
    response = requests.request(method, url, headers=headers, auth=auth, stream=True, timeout=TIMEOUT)
    response.raise_for_status()
    return response


def _web(address: str) -> dict[str, RemoteFile]:
    """The one file behind a URL.

    A public object of Azure is one too.  Its container is not asked what it holds, as many
    refuse to tell that; the object's etag holds all reads to the same content.
    """
    url = re.sub("^az://([^/]+)", r"https://\1.blob.core.windows.net", address)
    with _request("HEAD", url, {}) as response:
        about = response.headers
    if not about.get("Content-Length", "").isdecimal():
        raise UserError(f"{address} does not say how large it is; download it by hand")
    etag = about.get("ETag") if url != address else None
    digests = _digests(about["Content-Length"], about.get("Content-MD5"))
    return {address.rpartition("/")[2]: RemoteFile(address, digests, etag, url, {"If-Match": etag} if etag else {})}


def _digests(size: int | str, md5: str | None) -> dict[str, str]:
    """md5: as hosts tell it, in base64."""
    return {"size": str(size)} | ({"md5": base64.b64decode(md5).hex()} if md5 else {})


# ---------------------------------------------------------------- Hugging Face


@functools.cache
def _repository(name: str, revision: str | None):
    """What the hub says of all files at once: asked for once a command, not once an SAE."""
    return huggingface_hub.HfApi().repo_info(name, revision=revision, files_metadata=True, timeout=TIMEOUT)


def _hub(address: str) -> dict[str, RemoteFile]:
    """Files of a folder of a model repository at one commit.

    The hub's own hf_hub_download begins anew after a break (its temporary file has a
    new name each time), so the bytes are asked for here.
    """
    owner, name, *folder = address.removeprefix("hf://").split("/")
    name, _, revision = name.partition("@")
    repository, prefix = f"{owner}/{name}", "".join(f"{part}/" for part in folder)
    info = _repository(repository, revision or None)
    files = {}
    for sibling in info.siblings:
        path = sibling.rfilename
        if path.startswith(prefix):
            digest = {"sha256": sibling.lfs.sha256} if sibling.lfs else {"git": sibling.blob_id}
            url = huggingface_hub.hf_hub_url(repository, path, revision=info.sha)
            about = ({"size": str(sibling.size), **digest}, info.sha, url, hub_utils.build_hf_headers())
            files[path.removeprefix(prefix)] = RemoteFile(f"hf://{repository}@{info.sha}/{path}", *about)
    return files


# ---------------------------------------------------------------- Weights & Biases


@functools.cache
def _wandb_api():
    """wandb's public API asks for an account, also for public runs."""
    from imports import wandb  # here, as it takes a second that only Apollo's SAEs need

    os.environ.setdefault("WANDB_SILENT", "true")
    if not wandb.login(prompt=False, verify=False):
        raise NeedsLogin(
            "Apollo's runs lie at wandb.ai, which wants an account, and none is set up here: make one (free) and run "
            ".venv/bin/wandb login, or take the mirror on the Hugging Face hub of layers 1 and 5: ./setup.sh apollo "
            "--mirror"
        )
    return wandb.Api(timeout=TIMEOUT)


def _wandb(address: str) -> dict[str, RemoteFile]:
    """A run's last weights, samples_N.pt with the largest N, and its settings, from whatever folder of the run."""
    run = address.removeprefix("wandb://")
    files = {PurePosixPath(file.name): file for file in _wandb_api().run(run).files()}
    steps = {path: int(m[1]) for path in files if (m := re.fullmatch(r"samples_(\d+)\.pt", path.name))}
    settings = [path for path in files if path.name == "final_config.yaml"]
    if not steps or not settings:
        raise UserError(f"the run {address} has no samples_N.pt with a final_config.yaml; see https://wandb.ai/{run}")
    weights = max(steps, key=steps.get)
    beside = max(settings, key=lambda path: path.parent == weights.parent)
    key = _wandb_api().api_key
    auth = ("api", key) if key else None
    found = {}
    for path in (beside, weights):
        digests = _digests(files[path].size, getattr(files[path], "md5", None))
        found[path.name] = RemoteFile(f"{address}/{path}", digests, None, files[path].url, auth=auth)
    return found


HOSTS: dict[str, Callable[[str], dict[str, RemoteFile]]] = {"az": _web, "hf": _hub, "https": _web, "wandb": _wandb}
