"""Stand-ins on 127.0.0.1 for the hosts that publish models: what their protocols say, and every way to go wrong.

One server speaks for the Hugging Face hub, for Azure's blobs, for wandb (GraphQL and
files) and for GitHub's raw files. Forms were taken from the clients' own code:
huggingface_hub 2.4, wandb 0.31 (see the queries in wandb/apis/public), and for Azure from blobfile 3.3.
"""

import base64
import contextlib
import functools
import hashlib
import json
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

DATE = "Wed, 05 Jun 2024 10:00:00 GMT"
KEY = "0123456789abcdef" * 2 + "01234567"  # 40 characters, as wandb's keys have


class Server(ThreadingHTTPServer):
    def handle_error(self, request, client_address) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # which is a client that went away
            super().handle_error(request, client_address)


class Hosts:
    """What is published, what shall go wrong, and what was asked for.

    blobs: container/object -> bytes.  repositories: owner/name -> {commit: {path: bytes}}, the
    last one is main's.  runs: entity/project/id -> {name: bytes}.  raw: path -> bytes.
    Paths below are those of bytes: `/container/object`, `/cdn/SHA256`, `/storage/NAME`, ...
    """

    def __init__(self):
        self.blobs: dict[str, bytes] = {}
        self.repositories: dict[str, dict[str, dict[str, bytes]]] = {}
        self.runs: dict[str, dict[str, bytes]] = {}
        self.raw: dict[str, bytes] = {}
        self.storage: dict[str, bytes] = {}  # what signed addresses lead to
        self.cuts: dict[bytes, list[int]] = {}  # content -> after how many bytes each answer breaks off
        self.status: dict[str, int] = {}  # a part of a path -> what to answer instead
        self.wrong: dict[bytes, bytes] = {}  # content -> what is sent in its place
        self.sizes: dict[bytes, int] = {}  # content -> the size that is told of it
        self.list_status = 409  # what Azure answers to who asks what a container holds, as many do
        self.moved: dict[str, str] = {}  # a part of a path -> what it is called now
        self.ignores_ranges = False
        self.requests: list[tuple[str, str, str | None]] = []  # method, path, range
        self.served: Counter = Counter()  # content -> bytes sent of it
        self.lock = threading.Lock()
        self.stalls: dict[bytes, int] = {}  # content -> after how many bytes the server goes silent
        self.closing = threading.Event()
        server = Server(("127.0.0.1", 0), _handler(self))
        server.daemon_threads = True
        self.server = server
        self.url = f"http://127.0.0.1:{server.server_port}"
        self.other_url = f"http://localhost:{server.server_port}"  # where bytes are kept, which is another host
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()

    def asked(self, method: str, part: str) -> list[str | None]:
        """The ranges of all requests whose path has this part."""
        return [span for verb, path, span in self.requests if verb == method and part in path]

    def bytes_sent(self) -> int:
        return sum(self.served.values())


def _handler(hosts: Hosts):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *arguments) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer(self.rfile.read(int(self.headers["Content-Length"])))

        def answer(self, body: bytes = b"") -> None:
            split = urlsplit(self.path)
            path, query = unquote(split.path), parse_qs(split.query)
            hosts.requests.append((self.command, self.path, self.headers.get("Range")))
            for old, new in hosts.moved.items():
                if old in self.path:
                    return self.send(307, Location=self.path.replace(old, new))
            for part, status in hosts.status.items():
                if part in self.path:
                    return self.send(status, b'{"error": "as asked for by the test"}')
            first = path.split("/")[1]
            if path == "/graphql":
                return self.graphql(json.loads(body))
            if path.startswith("/api/models/"):
                return self.hub_api(path)
            if "/resolve/" in path:
                return self.hub_file(path)
            if first == "files":
                return self.wandb_file(path)
            if path in hosts.storage:  # behind a signed address, so the login has no business here
                return self.send(400) if self.headers.get("Authorization") else self.plain(hosts.storage[path])
            if path in hosts.raw:
                return self.plain(hosts.raw[path])
            return self.azure(path, query)

        # ------------------------------------------------------------ bytes

        def send(self, status: int, content: bytes = b"", **headers) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": len(content), **headers}.items():
                self.send_header(name.replace("_", "-"), str(value))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def json(self, content) -> None:
            self.send(200, json.dumps(content).encode(), Content_Type="application/json")

        def plain(self, content: bytes) -> None:
            """Such hosts compress for who takes it, and then tell no size and give no ranges."""
            compressed = (
                "gzip" in self.headers["Accept-Encoding"] and "/cdn/" not in self.path
            )  # which the hub's own takes
            return self.send(406) if compressed else self.content(content)

        def content(self, content: bytes, **headers) -> None:
            """Send bytes, from the range that was asked for, as wrong as the test wants them."""
            told = hosts.wrong.get(content, content)
            total, start, end = len(told), 0, len(told)
            span = self.headers.get("Range")
            if span and not hosts.ignores_ranges:
                first, _, last = span.removeprefix("bytes=").partition("-")
                start, end = int(first), min(int(last) + 1 if last else total, total)
                if start >= total:
                    return self.send(416)
                headers["Content_Range"] = f"bytes {start}-{end - 1}/{total}"
            self.send_response(206 if "Content_Range" in headers else 200)
            size = hosts.sizes.get(content, end - start) if start == 0 and not span else end - start
            for name, value in {"Content-Length": size, **headers}.items():
                self.send_header(name.replace("_", "-"), str(value))
            self.end_headers()
            if self.command == "HEAD":
                return
            with hosts.lock:
                cuts = hosts.cuts.get(content)
                cut = cuts.pop(0) if cuts else None
            stall = hosts.stalls.get(content)
            if stall is not None:
                self.wfile.write(told[start : start + stall])
                self.wfile.flush()
                hosts.closing.wait()
                return
            piece = told[start:end] if cut is None else told[start : min(end, start + cut)]
            with contextlib.suppress(ConnectionError):
                self.wfile.write(piece)
                self.wfile.flush()
            hosts.served[content] += len(piece)
            if len(piece) < size:
                self.close_connection = True

        # ------------------------------------------------------------ the hub

        def hub_api(self, path: str) -> None:
            _, _, _, owner, name, *rest = path.split("/")
            commits = hosts.repositories.get(f"{owner}/{name}")
            wanted = rest[1] if rest else "main"
            if commits is None:
                return self.send(401, b'{"error": "Invalid username or password."}')
            commit = list(commits)[-1] if wanted == "main" else wanted
            if commit not in commits:
                return self.send(404, b"{}", X_Error_Code="RevisionNotFound")
            files = commits[commit]
            if rest and rest[0] == "tree":
                return self.json(
                    [
                        {"type": "file", "path": p, "size": len(c), "oid": _git(c)}
                        | ({"lfs": {"oid": _sha256(c), "size": len(c), "pointerSize": 1}} if _is_lfs(p) else {})
                        for p, c in files.items()
                    ]
                )
            siblings = [
                {"rfilename": p, "size": hosts.sizes.get(c, len(c)), "blobId": _git(c)}
                | ({"lfs": {"sha256": _sha256(c), "size": len(c), "pointerSize": 1}} if _is_lfs(p) else {})
                for p, c in files.items()
            ]
            return self.json({"id": f"{owner}/{name}", "sha": commit, "siblings": siblings})

        def hub_file(self, path: str) -> None:
            repository, _, rest = path[1:].partition("/resolve/")
            commit, _, name = rest.partition("/")
            content = hosts.repositories[repository][commit][name]
            about = {"X_Repo_Commit": commit, "ETag": f'"{_git(content)}"'}
            if not _is_lfs(name):
                return self.content(content, **about)
            where = f"/cdn/{_sha256(content)}"
            hosts.storage[where] = content
            linked = {"X_Linked_Size": len(content), "X_Linked_ETag": f'"{_sha256(content)}"'}
            return self.send(302, **about, **linked, Location=hosts.other_url + where)

        # ------------------------------------------------------------ Azure

        def azure(self, path: str, query: dict) -> None:
            if query.get("comp") == ["list"]:
                return self.send(hosts.list_status, b"<EnumerationResults/>")
            content = hosts.blobs.get(path[1:])
            if content is None:
                return self.send(404)
            etag = f'"{_sha256(content)[:16]}"'
            if self.headers.get("If-Match") not in (None, etag):
                return self.send(412, x_ms_error_code="ConditionNotMet")
            md5 = _md5(content)
            return self.content(content, ETag=etag, Last_Modified=DATE, x_ms_creation_time=DATE, Content_MD5=md5)

        # ------------------------------------------------------------ wandb

        def graphql(self, asked: dict) -> None:
            query, given = asked["query"], asked.get("variables") or {}
            if "RunFiles" in query:
                files = hosts.runs[f"{given['entity']}/{given['project']}/{given['name']}"]
                names = given.get("fileNames") or list(files)
                nodes = [self.wandb_node(given, name, files[name]) for name in names]
                edges = [{"node": node, "cursor": str(i)} for i, node in enumerate(nodes)]
                listed = {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}
                run = {"fileCount": len(edges), "files": listed}
                return self.json({"data": {"project": {"internalId": "1", "run": run}}})
            if "query Run(" in query:
                known = f"{given['entity']}/{given['project']}/{given['name']}" in hosts.runs
                run = {"id": "x", "projectId": "1", "name": given["name"], "state": "finished", "config": "{}"}
                run |= {
                    "systemMetrics": "{}",
                    "summaryMetrics": "{}",
                    "tags": [],
                    "user": {"name": "Me", "username": "me"},
                }
                return self.json({"data": {"project": {"run": run if known else None}}})
            return self.json({"data": {"viewer": {"id": "me", "entity": "me", "username": "me", "flags": "{}"}}})

        def wandb_node(self, given: dict, name: str, content: bytes) -> dict:
            url = f"{hosts.url}/files/{given['entity']}/{given['project']}/{given['name']}/{name}"
            md5 = _md5(content)
            about = {"id": name, "name": name, "sizeBytes": str(hosts.sizes.get(content, len(content))), "md5": md5}
            return about | {"url": url, "directUrl": url, "mimetype": "", "updatedAt": None}

        def wandb_file(self, path: str) -> None:
            expected = "Basic " + base64.b64encode(f"api:{KEY}".encode()).decode()
            if self.headers.get("Authorization") != expected:
                return self.send(401)
            _, _, *run, name = path.split("/", 5)
            run = "/".join(run)
            where = f"/storage/{run}/{name}"
            hosts.storage[where] = hosts.runs[run][name]
            return self.send(302, Location=hosts.other_url + where)

    return Handler


def _is_lfs(path: str) -> bool:
    return path.endswith(".safetensors")


@functools.cache
def _md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


@functools.cache
def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _git(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
