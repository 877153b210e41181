"""A model hub on loopback, for the real client: repositories are folders, faults are set by tests.

It speaks what the client asks for: a listing with sizes and hashes, a file's head, a file's bytes
from any offset. Files of more than `LARGE` bytes are stored apart from git, under their SHA-256 and
at an address of their own, as on a real hub.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = 4096
SPLIT = 1 << 20  # larger files are offered to the transfer of the client too
COMMIT = "c0ffee" + "0" * 34


@dataclass
class Faults:
    """What goes wrong, by the path of a file or the name of a repository."""

    gated: dict[str, int] = field(default_factory=dict)  # repository -> 401 or 403
    private: dict[str, str] = field(default_factory=dict)  # repository -> the token that opens it
    cut: dict[str, list[int]] = field(default_factory=dict)  # file -> bytes sent by each answer
    stalled: dict[str, int] = field(default_factory=dict)  # file -> bytes before silence
    replaced: dict[str, bytes] = field(default_factory=dict)  # file -> other content than listed
    listed: dict[str, list[str]] = field(
        default_factory=dict
    )  # repository -> more files in its list
    commit: str | None = None  # another than the true one in every listing
    tag: str | None = None  # another than the hash for every large file
    rangeless: bool = False  # the store sends whole files, whatever it is asked for
    status: int = 0  # of every answer


@dataclass(frozen=True)
class Asked:
    """One request that the hub got."""

    method: str
    path: str
    range: str
    token: str
    host: str
    agent: str


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that were killed."""


class ModelHub:
    """The folder `root/OWNER/NAME/...` served as a hub until it is closed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.faults = Faults()
        self.commit = COMMIT  # of every repository
        self.asked: list[Asked] = []
        self._connections: list[socket.socket] = []
        self.quiet = threading.Event()  # ends what is stalled
        self._server = _Server(("127.0.0.1", 0), self._make_handler())
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """The hub's address, for HF_ENDPOINT."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def add(self, repository: str, files: dict[str, bytes]) -> None:
        """Create a repository, or add files to one."""
        for path, content in files.items():
            target = self.root / repository / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)

    def fetched(self) -> list[str]:
        """Return each file whose bytes were asked for, as its path in its repository."""
        paths = [a.path for a in self.asked if a.method == "GET" and a.path[:5] != "/api/"]
        inside = [
            path.partition(f"/resolve/{self.commit}/")[2] or path.split("/", 4)[4] for path in paths
        ]
        return sorted(set(inside))

    def close(self) -> None:
        """Stop answering; the port refuses connections afterwards."""
        self.quiet.set()
        self._server.shutdown()
        self._server.server_close()
        for connection in self._connections:  # kept open by clients for further requests
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _make_handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                hub._connections.append(self.request)
                super().setup()

            def log_message(self, *_: object) -> None:
                """Say nothing: tests read `asked`."""

            def do_HEAD(self) -> None:
                hub._answer(self)

            def do_GET(self) -> None:
                hub._answer(self)

        return Handler

    def _answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(request.path).path)
        head = request.headers
        token = head.get("Authorization", "").removeprefix("Bearer ")
        self.asked.append(
            Asked(
                request.command,
                path,
                head.get("Range", ""),
                token,
                head.get("Host", ""),
                head.get("User-Agent", ""),
            )
        )
        parts = path.strip("/").split("/")
        if self.faults.status:
            _send(request, self.faults.status, b"down")
        elif parts[:2] == ["api", "models"]:
            self._answer_listing(request, "/".join(parts[2:4]), parts[4:], token)
        elif parts[0] == "store":
            self._send_file(request, self.root / "/".join(parts[1:]))
        elif len(parts) > 4 and parts[2] == "resolve":
            self._answer_file(request, "/".join(parts[:2]), parts[3], "/".join(parts[4:]), token)
        else:
            _send(request, 404, b"{}")

    def _find_refusal(self, repository: str, token: str) -> tuple[int, str] | None:
        if not (self.root / repository).is_dir():
            return (404 if token else 401), "RepoNotFound"
        if self.faults.private.get(repository, token) != token:
            return (404 if token else 401), "RepoNotFound"
        return None

    def _answer_listing(
        self,
        request: http.server.BaseHTTPRequestHandler,
        repository: str,
        rest: list[str],
        token: str,
    ) -> None:
        refusal = self._find_refusal(repository, token)
        if (
            refusal is None
            and rest[:1] == ["revision"]
            and rest[1] not in ("main", "v1", self.commit)
        ):
            refusal = 404, "RevisionNotFound"
        if refusal:
            _send(request, refusal[0], b"{}", {"X-Error-Code": refusal[1]})
            return
        body: dict[str, Any] = {
            "id": repository,
            "sha": self.commit if self.faults.commit is None else self.faults.commit,
            "tags": ["onnx", "license:mit"],
            "gated": "auto" if repository in self.faults.gated else False,
            "siblings": [self._describe(file, repository) for file in self._list(repository)],
        }
        body["siblings"] += [
            {"rfilename": path, "size": 1} for path in self.faults.listed.get(repository, [])
        ]
        _send(request, 200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _list(self, repository: str) -> list[Path]:
        return sorted(path for path in (self.root / repository).rglob("*") if path.is_file())

    def _describe(self, file: Path, repository: str) -> dict[str, Any]:
        content = file.read_bytes()
        entry: dict[str, Any] = {
            "rfilename": file.relative_to(self.root / repository).as_posix(),
            "size": len(content),
            "blobId": _hash_as_git(content),
        }
        if len(content) > LARGE:
            digest = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 130}
        return entry

    def _answer_file(
        self,
        request: http.server.BaseHTTPRequestHandler,
        repository: str,
        revision: str,
        path: str,
        token: str,
    ) -> None:
        refusal = self._find_refusal(repository, token)
        file = self.root / repository / path
        if refusal is None and repository in self.faults.gated:
            refusal = self.faults.gated[repository], "GatedRepo"
        if refusal is None and not file.is_file():
            refusal = 404, "EntryNotFound"
        head = {"X-Repo-Commit": self.commit, "Accept-Ranges": "bytes"}
        if refusal:
            _send(request, refusal[0], b"", head | {"X-Error-Code": refusal[1]})
            return
        content = file.read_bytes()
        if len(content) <= LARGE:
            self._send_file(request, file, head | {"ETag": f'"{_hash_as_git(content)}"'})
            return
        digest = hashlib.sha256(content).hexdigest()
        head["X-Linked-Etag"] = f'"{digest if self.faults.tag is None else self.faults.tag}"'
        head["X-Linked-Size"] = str(len(content))
        if len(content) >= SPLIT:
            head["X-Xet-Hash"] = hashlib.sha256(content).hexdigest()
            head["X-Xet-Refresh-Route"] = f"{self.url}/api/xet-token"
        store = self.url.replace("127.0.0.1", "localhost")
        head["Location"] = f"{store}/store/{file.relative_to(self.root).as_posix()}"
        _send(request, 302, b"", head)

    def _send_file(
        self,
        request: http.server.BaseHTTPRequestHandler,
        file: Path,
        head: dict[str, str] | None = None,
    ) -> None:
        name = file.relative_to(self.root).as_posix()
        content = self.faults.replaced.get(name, file.read_bytes())
        begin = int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        answer = dict(head or {})
        begin = 0 if self.faults.rangeless else begin
        if begin:
            answer["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        limit = self.faults.stalled.get(name)
        if request.command == "GET" and self.faults.cut.get(name):
            limit = self.faults.cut[name].pop(0)
        if begin > len(content):
            _send(request, 416, b"", answer)
            return
        _send(request, 206 if begin else 200, content[begin:], answer, limit=limit)
        if limit is not None and request.command == "GET":
            if name in self.faults.stalled:
                self.quiet.wait(30)
            request.close_connection = True


def _send(
    request: http.server.BaseHTTPRequestHandler,
    status: int,
    body: bytes,
    head: dict[str, str] | None = None,
    *,
    limit: int | None = None,
) -> None:
    """Answer; with a `limit` the body ends early, though its announced length does not."""
    request.send_response(status)
    for name, value in {**(head or {}), "Content-Length": str(len(body))}.items():
        request.send_header(name, value)
    request.end_headers()
    if request.command == "GET":
        request.wfile.write(body[:limit])
        request.wfile.flush()


def _hash_as_git(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextlib.contextmanager
def serve_hub(root: Path) -> Iterator[ModelHub]:
    """Serve a folder of repositories for as long as the context lasts."""
    hub = ModelHub(root)
    try:
        yield hub
    finally:
        hub.close()
