"""The hosts that publish what we download: what lies at an address, how large it is, and its bytes.

    files = look("hf://jbloom/GPT2-Small-SAEs-Reformatted@57d08a4/blocks.6.hook_resid_pre")
    for chunk in files["cfg.json"].read(start=0): ...

An address is `az://account/container/object`, `hf://owner/repository[@commit]/folder`,
`wandb://entity/project/run` or `https://..`; each is one entry of `HOSTS`, which goes
through the library made for that host.  Every file can be read from any byte on, so
that a broken download is continued.  Everything that a host or the network does wrong is
a UserError of one line; `Broken` is one that another try may mend.

Sources: the libraries' own code (blobfile 3.3, huggingface_hub 2.4, wandb 0.31).  None of
the hosts could be reached where this was written; their protocols are tried in
tests/downloads/test_download.py against a server on this machine.
"""

import base64
import contextlib
import errno
import functools
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from common.errors import UserError
from imports import hub_constants, hub_utils, huggingface_hub

CHUNK = 4 * 2**20  # bytes asked for or handed on at once
TIMEOUT = 10  # seconds without an answer
RETRIES = 2  # of blobfile, which would go on forever


class Broken(UserError):
    """A connection that broke: what has arrived is good, the rest can be asked for again."""


@dataclass(frozen=True)
class RemoteFile:
    """One file at its host.

    size: in bytes.  revision: what pins its content there (a commit, an etag), if anything does.
    digest: (algorithm, hex) as the host tells it, of `hashlib` or "git" for git's blob id.
    read: its bytes from this one on, in pieces.
    """

    address: str
    size: int
    revision: str | None
    digest: tuple[str, str] | None
    read: Callable[[int], Iterator[bytes]]


def look(address: str) -> dict[str, RemoteFile]:
    """The files at an address by name.  Raises UserError."""
    scheme, _, rest = address.partition("://")
    with errors_of(address):
        return HOSTS[scheme](rest)


def files_at(address: str, names: tuple[str, ...]) -> dict[str, RemoteFile]:
    """The files of these names (patterns) at an address.  Raises UserError if one is not there."""
    found = look(address)
    for name in names:
        if not any(fnmatchcase(file, name) for file in found):
            raise UserError(f"{address} has no {name}; its publisher may have moved it, look for it by hand")
    return {file: remote for file, remote in found.items() if any(fnmatchcase(file, name) for name in names)}


def at_commit(address: str, commit: str) -> str:
    """hf://owner/repository/folder at one commit."""
    scheme, _, owner, name, *folder = address.split("/")
    return "/".join([scheme, "", owner, f"{name}@{commit}", *folder])


# ---------------------------------------------------------------- errors

LIBRARIES = {"requests", "urllib3", "huggingface_hub", "httpx2", "httpcore2", "blobfile", "wandb"}


@contextlib.contextmanager
def errors_of(address: str):
    """Turn what the libraries and the network raise into one line; our own bugs keep their traceback."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        package = type(error).__module__.partition(".")[0]
        if package not in LIBRARIES and not isinstance(error, OSError):
            raise
        raise _explained(address, error) from None


def _explained(address: str, error: Exception) -> UserError:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None) or getattr(error, "response_status", None) or 0
    text = " ".join(str(error).split())
    kind = type(error).__name__
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT):
        return UserError(
            f"cannot write {address} to disk: {error.strerror}; make room or rights and run the same command again"
        )
    if kind == "RepositoryNotFoundError":  # the hub says 401 of what is not there
        return UserError(f"{address} is not there, or wants a login (.venv/bin/hf auth login); look for it by hand")
    if status == 404 or type(error) is FileNotFoundError or "Could not find run" in text:
        return UserError(f"{address} is not there (404); its publisher may have moved it, look for it by hand")
    is_refused = "grant access" in text or (kind == "AuthenticationError" and "in time" not in text)
    if status in (401, 403) or is_refused:
        return UserError(f"{address} may not be read ({status or 'no access'}); log in at its host and try again")
    if status == 412:
        return UserError(f"{address} was changed at its host meanwhile; run the same command again")
    if address.startswith("hf:") and hub_constants.HF_HUB_OFFLINE:
        return UserError(f"cannot get {address}: HF_HUB_OFFLINE is set; unset it and run the same command again")
    while error.__cause__ or error.__context__:  # libraries wrap what the network said
        error = error.__cause__ or error.__context__
    told = str(getattr(error, "strerror", None) or getattr(error, "message", None) or error)
    told = " ".join(told.split()).rpartition(": ")[2][:100]
    reason = f"the host answers {status}" if status else told or type(error).__name__
    return Broken(f"cannot get {address} ({reason}); check the network and run the same command again")


# ---------------------------------------------------------------- plain https


def _read_http(address: str, url: Callable[[], str], headers: dict, auth: tuple | None, start: int) -> Iterator[bytes]:
    """The bytes behind a URL from `start` on, also from a server that knows no ranges.

    url: is asked for each time, as signed ones expire.
    """
    from imports import requests

    with errors_of(address):
        headers = {**headers, "Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
        with requests.get(url(), headers=headers, auth=auth, stream=True, timeout=TIMEOUT) as response:
            response.raise_for_status()
            skip = start if response.status_code != 206 else 0
            while chunk := response.raw.read1(CHUNK):  # unlike read, it hands on what came before a break
                yield chunk[skip:]
                skip = max(0, skip - len(chunk))


def _web(rest: str) -> dict[str, RemoteFile]:
    from imports import requests

    url = f"https://{rest}"
    with requests.get(url, headers={"Accept-Encoding": "identity"}, stream=True, timeout=TIMEOUT) as response:
        response.raise_for_status()
        size = response.headers.get("Content-Length", "")
    if not size.isdecimal():
        raise UserError(f"{url} does not say how large it is; download it by hand")
    read = functools.partial(_read_http, url, lambda: url, {}, None)
    return {rest.rpartition("/")[2]: RemoteFile(url, int(size), None, None, read)}


# ---------------------------------------------------------------- Hugging Face


@functools.cache
def _repository(name: str, revision: str | None):
    """What the hub says of all files at once: asked for once a command, not once an SAE."""
    return huggingface_hub.HfApi().repo_info(name, revision=revision, files_metadata=True, timeout=TIMEOUT)


def _hub(rest: str) -> dict[str, RemoteFile]:
    """Files of a folder of a model repository at one commit; sizes and digests come with one request.

    The hub's own hf_hub_download begins anew after a break (its temporary file has a
    new name each time), so the bytes are asked for here.
    """
    owner, name, *folder = rest.split("/")
    name, _, revision = name.partition("@")
    repository = f"{owner}/{name}"
    info = _repository(repository, revision or None)
    prefix = "".join(f"{part}/" for part in folder)
    files = {}
    for sibling in info.siblings:
        path = sibling.rfilename
        if path.startswith(prefix):
            url = huggingface_hub.hf_hub_url(repository, path, revision=info.sha)
            address = f"hf://{repository}@{info.sha}/{path}"
            digest = ("sha256", sibling.lfs.sha256) if sibling.lfs else ("git", sibling.blob_id)
            headers = hub_utils.build_hf_headers()
            read = functools.partial(_read_http, address, lambda url=url: url, headers, None)
            files[path[len(prefix) :]] = RemoteFile(address, sibling.size, info.sha, digest, read)
    return files


# ---------------------------------------------------------------- Azure


@functools.cache
def _blobs():
    from imports import blobfile

    return blobfile.create_context(
        retry_limit=RETRIES,
        connect_timeout=TIMEOUT / 2,
        read_timeout=TIMEOUT,
        log_callback=lambda _line: None,
        save_access_token_to_disk=False,
    )


def _azure(rest: str) -> dict[str, RemoteFile]:
    """One object; its etag holds all later reads to the same content."""
    address = f"az://{rest}"
    found = _blobs().stat(address)
    digest = ("md5", found.md5) if found.md5 else None

    def read(start: int) -> Iterator[bytes]:
        about = {"buffer_size": CHUNK, "file_size": found.size, "version": found.version}
        with errors_of(address), _blobs().BlobFile(address, "rb", streaming=True, **about) as file:
            file.seek(start)
            while chunk := file.read(CHUNK):
                yield chunk

    return {rest.rpartition("/")[2]: RemoteFile(address, found.size, found.version, digest, read)}


# ---------------------------------------------------------------- Weights & Biases


@functools.cache
def _wandb_api():
    """wandb's public API asks for an account, also for public runs."""
    from imports import wandb

    os.environ.setdefault("WANDB_SILENT", "true")
    if not wandb.login(prompt=False, verify=False):
        raise UserError(
            "Apollo's runs lie at wandb.ai, which wants an account, and none is set up here: make one (free) and run "
            ".venv/bin/wandb login, or take the mirror on the Hugging Face hub of layers 1 and 5: ./setup.sh apollo "
            "--mirror"
        )
    return wandb.Api(timeout=TIMEOUT)


def _wandb(rest: str) -> dict[str, RemoteFile]:
    """The run's settings and its last weights: samples_N.pt with the largest N."""
    run = _wandb_api().run(rest)
    files = {file.name: file for file in run.files()}
    steps = {int(m[1]): name for name in files if (m := re.fullmatch(r"samples_(\d+)\.pt", name))}
    if not steps or "final_config.yaml" not in files:
        raise UserError(
            f"the run wandb://{rest} has no samples_N.pt with a final_config.yaml; see https://wandb.ai/{rest}"
        )
    return {name: _wandb_file(rest, run, files[name]) for name in ("final_config.yaml", steps[max(steps)])}


def _wandb_file(rest: str, run, file) -> RemoteFile:
    address = f"wandb://{rest}/{file.name}"

    def url() -> str:
        return next(iter(run.files(names=[file.name]))).url

    md5 = ("md5", base64.b64decode(file.md5).hex()) if getattr(file, "md5", None) else None
    auth = ("api", _wandb_api().api_key) if _wandb_api().api_key else None
    return RemoteFile(address, file.size, None, md5, functools.partial(_read_http, address, url, {}, auth))


HOSTS: dict[str, Callable[[str], dict[str, RemoteFile]]] = {
    "az": _azure,
    "hf": _hub,
    "https": _web,
    "wandb": _wandb,
}
