"""A Zenodo on loopback: the legacy deposit calls and the few of /api/records that aras uses.

It keeps files in memory and has the manners of the real one: metadata keys that it does not know
vanish with a 200, the DOI shown before it is reserved has the wrong prefix, one key with a slash is
a 404, Retry-After stands on good answers too, gateways answer in HTML.
"""

import contextlib
import copy
import hashlib
import itertools
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

PREFIX, SHOWN_PREFIX = "10.5072", "10.5281"
KEPT = {
    "access_right", "communities", "contributors", "creators", "description", "doi", "grants",
    "keywords", "language", "license", "locations", "method", "notes", "publication_date",
    "references", "related_identifiers", "title", "upload_type", "version",
}  # fmt: skip


@dataclass
class Fault:
    """What goes wrong with the ``nth`` (from 0) requests whose method and path match.

    Actions: ``403 404 429 502 503`` (answered instead of done), ``504-done`` and ``drop-done``
    (done, but the answer is a gateway's or none), ``drop`` (the connection ends in the middle of
    the body), ``corrupt`` (one byte is stored wrong), ``hang`` and ``hang-done`` (half of the body
    is read, or all is done, and then nothing comes until the server stops).
    """

    method: str
    path: str
    action: str
    nth: tuple[int, ...] = (0,)
    seen: int = 0
    struck: bool = False

    def strikes(self, method: str, path: str) -> bool:
        if method != self.method or not re.search(self.path, path):
            return False
        self.seen += 1
        strikes = self.seen - 1 in self.nth
        self.struck |= strikes
        return strikes


@dataclass
class Deposit:
    """One version of one record, draft or published."""

    id: int
    concept: int
    metadata: dict[str, Any] = field(default_factory=dict)
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    doi: str | None = None
    submitted: bool = False


@dataclass
class Request:
    """A line of the log. ``target`` is the path with its query, as it came over the wire.

    ``name`` and ``md5`` are those of a file that was put, the md5 only if it arrived undamaged.
    """

    method: str
    target: str
    status: int | None = None
    name: str | None = None
    md5: str | None = None


class _Refused(Exception):
    def __init__(self, status: int, message: str, errors: list[dict[str, Any]] | None = None):
        self.status = status
        self.body = {"status": status, "message": message, **({"errors": errors} if errors else {})}


class LoopbackZenodo:
    """A running server; use it with ``with``. What it holds and was asked is in its fields."""

    def __init__(
        self,
        token: str,
        *,
        max_files: int = 100,
        quota: int = 50_000_000_000,
        prefix: str = PREFIX,
    ) -> None:
        self.token, self.max_files, self.quota, self.prefix = token, max_files, quota, prefix
        self.faults: list[Fault] = []
        self.forgets: set[str] = set()  # metadata keys dropped without a word
        self.put_drops_doi = False  # a PUT of metadata loses the reserved DOI
        self.index_lag = 0  # so many searches still miss what is new
        self.deposits: dict[int, Deposit] = {}
        self.log: list[Request] = []
        self.hanging, self.stopping = threading.Event(), threading.Event()
        self._ids = itertools.count(1001)
        self.lock = threading.RLock()
        server = self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        server.daemon_threads, server.zenodo = True, self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        # The short poll makes stopping quick; nothing waits for it while serving.
        self._thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> "LoopbackZenodo":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def published(self) -> list[Deposit]:
        return [deposit for deposit in self.deposits.values() if deposit.submitted]

    def drafts(self) -> list[Deposit]:
        return [deposit for deposit in self.deposits.values() if not deposit.submitted]

    def counted(self, method: str, path: str, status: int | None = None) -> int:
        """How many requests came, of those answered with ``status`` when one is given."""
        return sum(
            request.method == method
            and bool(re.search(path, urlsplit(request.target).path))
            and status in (None, request.status)
            for request in self.log
        )

    # What each route does: (status, body) or _Refused.

    def new(self, metadata: dict[str, Any], concept: int | None = None) -> Deposit:
        concept = concept or next(self._ids)
        deposit = Deposit(next(self._ids), concept, self.kept(metadata))
        self.deposits[deposit.id] = deposit
        return deposit

    def kept(self, metadata: dict[str, Any]) -> dict[str, Any]:
        known = {k: v for k, v in metadata.items() if k in KEPT - self.forgets and v}
        kept: dict[str, Any] = copy.deepcopy(known)
        kept.setdefault("publication_date", "2031-01-01")
        licence = str(kept.get("license", "cc-by-4.0")).lower()
        kept["license"] = {"cc0-1.0": "cc-zero"}.get(licence, licence)
        for relation in kept.get("related_identifiers", []):
            relation["scheme"] = "doi" if relation["identifier"].startswith("10.") else "url"
        return kept

    def deposit(self, text: str, *, draft: bool = False) -> Deposit:
        deposit = self.deposits.get(int(text)) if text.isdigit() else None
        if deposit is None or (draft and deposit.submitted):
            raise _Refused(404, "The persistent identifier does not exist.")
        return deposit

    def shown(self, deposit: Deposit) -> dict[str, Any]:
        address = f"{self.url}/api/deposit/depositions/{deposit.id}"
        doi = {"doi": deposit.doi} if deposit.doi else {}
        reserve = {"doi": f"{SHOWN_PREFIX}/zenodo.{deposit.id}", "recid": deposit.id}
        files = [
            {
                "id": file_id,
                "filename": name,
                "filesize": len(content),
                "checksum": hashlib.md5(content).hexdigest(),
            }
            for name, (file_id, content) in deposit.files.items()
        ]
        return {
            "id": deposit.id,
            "conceptrecid": str(deposit.concept),
            **doi,
            **(
                {"conceptdoi": f"{self.prefix}/zenodo.{deposit.concept}"}
                if deposit.submitted
                else {}
            ),
            "title": deposit.metadata.get("title", ""),
            "state": "done" if deposit.submitted else "unsubmitted",
            "submitted": deposit.submitted,
            "metadata": {**deposit.metadata, **doi, "prereserve_doi": reserve},
            **({"files": files} if files else {}),
            "links": {
                "self": address,
                "html": f"{self.url}/{'records' if deposit.submitted else 'deposit'}/{deposit.id}",
                "bucket": f"{self.url}/api/files/bucket-{deposit.id}",
                "publish": f"{address}/actions/publish",
                "latest_draft": address,
            },
        }

    def public(self, deposit: Deposit) -> dict[str, Any]:
        versions = [x for x in self.published() if x.concept == deposit.concept]
        return {
            "id": deposit.id,
            "conceptrecid": str(deposit.concept),
            "doi": deposit.doi,
            "metadata": {**deposit.metadata, "doi": deposit.doi},
            "files": [
                {
                    "id": file_id,
                    "key": name,
                    "size": len(content),
                    "checksum": f"md5:{hashlib.md5(content).hexdigest()}",
                    "links": {"self": f"{self.url}/api/records/{deposit.id}/files/{name}/content"},
                }
                for name, (file_id, content) in deposit.files.items()
            ],
            "links": {
                "latest": f"{self.url}/api/records/{max(x.id for x in versions)}/versions/latest"
            },
        }

    def next_version(self, deposit: Deposit) -> Deposit:
        waiting = [x for x in self.drafts() if x.concept == deposit.concept]
        if waiting:
            return waiting[0]
        metadata = {k: v for k, v in deposit.metadata.items() if k not in ("version", "doi")}
        return self.new(metadata, deposit.concept)

    def search(self, words: str, size: int) -> list[dict[str, Any]]:
        if words and self.index_lag > 0:
            self.index_lag -= 1
            return []
        newest = sorted(self.deposits.values(), key=lambda deposit: -deposit.id)
        return [self.shown(x) for x in newest if words in x.metadata.get("title", "")][:size]

    def store(self, deposit: Deposit, name: str, content: bytes) -> dict[str, Any]:
        others = {k: v for k, v in deposit.files.items() if k != name}
        if len(others) >= self.max_files:
            count = f"Uploading selected files will result in {len(others) + 1} files"
            raise _Refused(400, f"{count} but only {self.max_files} is the max amount per record.")
        if sum(len(x) for _, x in others.values()) + len(content) > self.quota:
            raise _Refused(400, "Bucket quota exceeded.")
        deposit.files[name] = (f"file-{next(self._ids)}", content)
        md5 = hashlib.md5(content).hexdigest()
        return {"key": name, "size": len(content), "checksum": f"md5:{md5}"}

    def publish(self, deposit: Deposit) -> dict[str, Any]:
        needed = ("title", "upload_type", "description", "creators")
        empty = [key for key in needed if not deposit.metadata.get(key)] + [
            "files" for _ in range(not deposit.files)
        ]
        own = f"{self.prefix}/zenodo.{deposit.id}"
        wrong = [{"field": f"metadata.{k}", "messages": ["Missing data."]} for k in empty]
        if deposit.metadata.get("doi", own) != own:
            wrong.append({"field": "metadata.doi", "messages": ["DOI already exists."]})
        if wrong:
            raise _Refused(400, "A validation error occurred.", wrong)
        deposit.submitted, deposit.doi = True, own
        return self.shown(deposit)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else every answer waits 40 ms for the client's ACK
    server: Any

    def log_message(self, *_: Any) -> None:
        """Nothing on stderr."""

    def _handle(self) -> None:
        zenodo: LoopbackZenodo = self.server.zenodo
        path = urlsplit(self.path).path
        with zenodo.lock:
            entry = Request(self.command, self.path)
            zenodo.log.append(entry)
            faults = [x.action for x in zenodo.faults if x.strikes(self.command, path)]
        action = faults[0] if faults else ""
        length = int(self.headers.get("Content-Length", 0))
        if action in ("drop", "hang"):
            self.rfile.read(length // 2)
            return self._hang_up(zenodo, wait=action == "hang")
        body = self.rfile.read(length)
        if len(body) < length:
            return self._hang_up(zenodo)
        if action in ("403", "404", "429", "502", "503"):
            entry.status = int(action)
            return self._fail(int(action))
        if action == "corrupt":
            body = bytes([body[0] ^ 1]) + body[1:]
        try:
            with zenodo.lock:
                status, answer = self._route(zenodo, path, body, entry)
        except _Refused as refused:
            status, answer = refused.status, refused.body
        entry.status = status
        if action == "corrupt":
            entry.md5 = None
        if action in ("drop-done", "hang-done"):
            return self._hang_up(zenodo, wait=action == "hang-done")
        if action == "504-done":
            return self._fail(504)
        return self._answer(status, answer)

    do_GET = do_POST = do_PUT = do_DELETE = _handle

    def _route(
        self, zenodo: LoopbackZenodo, path: str, body: bytes, entry: Request
    ) -> tuple[int, Any]:
        query = parse_qs(urlsplit(self.path).query)
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        public = self.command == "GET" and path.startswith("/api/records/")
        if not public and zenodo.token not in (given, *query.get("access_token", [])):
            raise _Refused(403, "Permission denied.")
        for method, pattern, act in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and method == self.command:
                kind = self.headers.get("Content-Type", "")
                if method == "PUT" and path.startswith("/api/files/"):
                    if "json" in kind:
                        raise _Refused(415, "Invalid 'Content-Type' header.")
                    entry.name, entry.md5 = unquote(match[2]), hashlib.md5(body).hexdigest()
                    return act(zenodo, body, *match.groups())
                data = json.loads(body) if "json" in kind and body else {}
                return act(zenodo, data, *match.groups(), **_search(query, path))
        raise _Refused(404, f"The requested URL {path} was not found on the server.")

    def _answer(self, status: int, answer: Any) -> None:
        if isinstance(answer, bytes):
            content, kind = answer, "application/octet-stream"
        else:
            content, kind = json.dumps(answer).encode() if answer else b"", "application/json"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Retry-After", "3600")
        if status == 302:
            self.send_header("Location", answer["location"])
        self.end_headers()
        self.wfile.write(content)

    def _fail(self, status: int) -> None:
        if status == 429:
            content = json.dumps({"message": "6 per 1 minute", "status": 429}).encode()
        else:
            content = f"<html><body><h1>{status}</h1></body></html>".encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if status == 429 else "text/html")
        self.send_header("Content-Length", str(len(content)))
        # It says when to come back with 429 and 503 only; elsewhere it must not be obeyed.
        self.send_header("Retry-After", "0" if status in (429, 503) else "3600")
        if status == 429:
            self.send_header("X-RateLimit-Remaining", "0")
        self.end_headers()
        self.wfile.write(content)

    def _hang_up(self, zenodo: LoopbackZenodo, *, wait: bool = False) -> None:
        if wait:
            zenodo.hanging.set()
            zenodo.stopping.wait(60)
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(2)


def _search(query: dict[str, list[str]], path: str) -> dict[str, Any]:
    if not path.endswith("/depositions"):
        return {}
    return {"words": query.get("q", [""])[0], "size": int(query.get("size", ["10"])[0])}


def _create(z: LoopbackZenodo, data: Any, **_: Any) -> tuple[int, Any]:
    return 201, z.shown(z.new(data.get("metadata", {})))


def _update(z: LoopbackZenodo, data: Any, key: str) -> tuple[int, Any]:
    deposit = z.deposit(key, draft=True)
    deposit.metadata = z.kept(data["metadata"])
    if z.put_drops_doi:
        deposit.doi = None
    return 200, z.shown(deposit)


def _delete_draft(z: LoopbackZenodo, data: Any, key: str) -> tuple[int, Any]:
    del z.deposits[z.deposit(key, draft=True).id]
    return 204, None


def _delete_file(z: LoopbackZenodo, data: Any, key: str, file_id: str) -> tuple[int, Any]:
    deposit = z.deposit(key, draft=True)
    names = [name for name, (known, _) in deposit.files.items() if known == file_id]
    if not names:
        raise _Refused(404, "No such file.")
    del deposit.files[names[0]]
    return 204, None


def _put_file(z: LoopbackZenodo, body: bytes, key: str, name: str) -> tuple[int, Any]:
    deposit = z.deposit(key)
    if deposit.submitted:
        raise _Refused(403, "Bucket is locked for modifications.")
    return 201, z.store(deposit, unquote(name), body)


def _bucket(z: LoopbackZenodo, data: Any, key: str) -> tuple[int, Any]:
    raise _Refused(500, "Internal server error")


def _reserve(z: LoopbackZenodo, data: Any, key: str) -> tuple[int, Any]:
    deposit = z.deposit(key, draft=True)
    if deposit.doi:
        raise _Refused(400, "A PID already exists for type doi.")
    deposit.doi = f"{z.prefix}/zenodo.{deposit.id}"
    return 201, {"id": str(deposit.id), "pids": {"doi": {"identifier": deposit.doi}}}


def _versions(z: LoopbackZenodo, data: Any, key: str) -> tuple[int, Any]:
    return 201, {"id": str(z.next_version(z.deposit(key)).id)}


def _import(z: LoopbackZenodo, data: Any, key: str) -> tuple[int, Any]:
    deposit = z.deposit(key, draft=True)
    if deposit.files:
        raise _Refused(400, "Please remove all files first.")
    before = max((x for x in z.published() if x.concept == deposit.concept), key=lambda x: x.id)
    deposit.files = {n: (f"file-{next(z._ids)}", c) for n, (_, c) in before.files.items()}
    return 201, {"entries": [{"key": name} for name in deposit.files]}


def _public(z: LoopbackZenodo, data: Any, key: str) -> tuple[int, Any]:
    versions = [x for x in z.published() if str(x.concept) == key]
    if versions:
        return 302, {"location": f"{z.url}/api/records/{max(x.id for x in versions)}"}
    deposit = z.deposit(key)
    if not deposit.submitted:
        raise _Refused(404, "The persistent identifier is not registered.")
    return 200, z.public(deposit)


def _content(z: LoopbackZenodo, data: Any, key: str, name: str) -> tuple[int, Any]:
    return 200, z.deposit(key).files[unquote(name)][1]


_DEPOSITS = "/api/deposit/depositions"
_ROUTES: list[tuple[str, str, Callable[..., tuple[int, Any]]]] = [
    ("GET", _DEPOSITS, lambda z, data, words, size: (200, z.search(words, size))),
    ("POST", _DEPOSITS, _create),
    ("GET", f"{_DEPOSITS}/([^/]+)", lambda z, data, key: (200, z.shown(z.deposit(key)))),
    ("PUT", f"{_DEPOSITS}/([^/]+)", _update),
    ("DELETE", f"{_DEPOSITS}/([^/]+)", _delete_draft),
    ("DELETE", f"{_DEPOSITS}/([^/]+)/files/([^/]+)", _delete_file),
    ("POST", f"{_DEPOSITS}/([^/]+)/actions/publish",
     lambda z, data, key: (202, z.publish(z.deposit(key, draft=True)))),
    ("PUT", "/api/files/bucket-([^/]+)/([^/]+)", _put_file),
    ("GET", "/api/files/bucket-([^/]+)", _bucket),
    ("GET", "/api/records/([^/]+)", _public),
    ("GET", "/api/records/([^/]+)/files/([^/]+)/content", _content),
    ("POST", "/api/records/([^/]+)/versions", _versions),
    ("POST", "/api/records/([^/]+)/draft/pids/doi", _reserve),
    ("POST", "/api/records/([^/]+)/draft/actions/files-import", _import),
]  # fmt: skip
