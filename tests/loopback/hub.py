"""A Hub on loopback: the endpoints and errors of the real one, on disk, with faults on demand.

It speaks what huggingface_hub and datasets ask for: repos, commits with parents, tags, pull
requests, LFS (basic and multipart), Xet (the client's own ``local://`` store) and ranged reads.
"""

import base64
import contextlib
import email.utils
import hashlib
import json
import re
import shutil
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_loopbackWriterToken0123456789abcd"
READER = "hf_loopbackReaderToken0123456789abcd"
SIGNATURE = "5ign3d0123456789abcdef"
"""Of the addresses that large files are sent to: whoever has it may send, too."""
KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}
LFS_SUFFIXES = (".parquet", ".png")
NOW = "2026-01-01T00:00:00.000Z"


class Answer(Exception):
    """An error status on its way to the client."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


@dataclass
class Fault:
    """What goes wrong at the ``nth`` request that matches (1 = the first), ``times`` in a row.

    ``do``: "refuse" answers ``status`` and does nothing; "commit" does the work and answers
    ``status``; "drop" cuts the connection midway through the body; "lose" does the work and cuts
    the connection; "corrupt" flips a byte of what arrived; "hold" waits on ``hub.release`` and
    then cuts the connection; "hold after" does the work first; a callable runs before the work.
    """

    method: str
    path: str
    do: str | Callable[[], None]
    status: int = 503
    nth: int = 1
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = field(default_factory=lambda: {"error": "by order of the test"})
    seen: int = 0

    def strikes(self, method: str, path: str) -> bool:
        if method != self.method or not re.search(self.path, path):
            return False
        self.seen += 1
        return self.nth <= self.seen < self.nth + self.times


@dataclass
class File:
    """A file of a commit: its bytes lie in the object store under ``sha256``."""

    sha256: str
    size: int
    lfs: bool
    blob: str  # git's sha1 of a regular file; of a large one, of its pointer


@dataclass
class Commit:
    parent: str | None
    title: str
    files: dict[str, File]


@dataclass
class Repo:
    kind: str
    id: str
    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    pulls: dict[int, dict[str, Any]] = field(default_factory=dict)

    def resolve(self, revision: str) -> str:
        for name in (revision, f"refs/heads/{revision}", f"refs/tags/{revision}"):
            if name in self.refs:
                return self.refs[name]
        if revision in self.commits:
            return revision
        raise Answer(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def files(self, revision: str = "main") -> dict[str, File]:
        return self.commits[self.resolve(revision)].files

    def add(self, ref: str, title: str, files: dict[str, File]) -> str:
        parent = self.refs.get(ref)
        text = json.dumps([parent, title, sorted((p, f.blob) for p, f in files.items())])
        oid = hashlib.sha1(text.encode()).hexdigest()
        self.commits[oid] = Commit(parent, title, files)
        self.refs[ref] = oid
        return oid

    @property
    def tags(self) -> dict[str, str]:
        return {n[10:]: oid for n, oid in self.refs.items() if n.startswith("refs/tags/")}

    def history(self, revision: str = "main") -> list[Commit]:
        oid: str | None = self.resolve(revision)
        commits = []
        while oid:
            commits.append(self.commits[oid])
            oid = self.commits[oid].parent
        return commits


def git_blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Hub:
    """The server: ``with Hub(folder, transfer) as hub: hub.url``; state in plain attributes."""

    def __init__(self, root: Path, transfer: str = "basic", part: int = 4096) -> None:
        self.lock = threading.RLock()
        self.held, self.release = threading.Event(), threading.Event()
        self.reset(root, transfer, part)
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def reset(self, root: Path, transfer: str, part: int = 4096) -> None:
        """Forget everything and store under ``root``; the address stays."""
        self.release.set()  # lets go of whoever is still held
        self.held, self.release = threading.Event(), threading.Event()
        self.objects, self.cas = root / "objects", root / "cas"
        self.objects.mkdir(parents=True)
        self.transfer, self.part = transfer, part
        self.repos: dict[tuple[str, str], Repo] = {}
        self.tokens = {TOKEN: ("keeper", "write"), READER: ("guest", "read")}
        self.faults: list[Fault] = []
        self.log: list[tuple[str, str, int]] = []  # method, raw path, status (0: cut)
        self.received: list[tuple[str, int]] = []  # oid, bytes of every stored LFS object
        self.preuploaded: list[str] = []
        self.parts: dict[tuple[str, int], bytes] = {}
        self.said_last = ""  # the last error message sent
        self.card_errors: list[str] = []  # what validate-yaml finds
        self.damages: list[str] = []  # paths that the next commit records with other bytes
        self.skew = 0.0  # seconds by which this server's clock is ahead

    def __enter__(self) -> "Hub":
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    # What a test asks or arranges.

    def repo(self, name: str, kind: str = "dataset") -> Repo:
        return self.repos[kind, name]

    def create(self, name: str, kind: str = "dataset", private: bool = False) -> Repo:
        repo = self.repos[kind, name] = Repo(kind, name, private)
        rules = "".join(
            f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES
        )
        repo.add(
            "refs/heads/main", "initial commit", {".gitattributes": self.regular(rules.encode())}
        )
        return repo

    def put(self, name: str, path: str, data: bytes, title: str = "edit") -> str:
        """Somebody else's commit on main."""
        with self.lock:
            repo = self.repo(name)
            return repo.add("refs/heads/main", title, {**repo.files(), path: self.regular(data)})

    def content(self, file: File) -> bytes:
        return (self.objects / file.sha256).read_bytes()

    def store(self, data: bytes) -> str:
        oid = hashlib.sha256(data).hexdigest()
        (self.objects / oid).write_bytes(data)
        return oid

    def regular(self, data: bytes) -> File:
        return File(self.store(data), len(data), False, git_blob(data))

    def large(self, oid: str, size: int) -> File:
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n"
        return File(oid, size, True, git_blob(pointer.encode()))

    def requests(self, method: str, pattern: str) -> list[tuple[str, str, int]]:
        return [entry for entry in self.log if entry[0] == method and re.search(pattern, entry[1])]

    def writes(self) -> list[tuple[str, str, int]]:
        """Requests that changed something or carried data (asking is not writing)."""
        asking = r"/(validate-yaml|preupload/|paths-info/)"
        return [o for o in self.log if o[0] not in ("GET", "HEAD") and not re.search(asking, o[1])]

    def forget_xet(self) -> None:
        """Lose what was uploaded over Xet and never committed."""
        shutil.rmtree(self.cas, ignore_errors=True)

    def hide_blocks(self) -> list[str]:
        """Take away the Xet blocks that arrived, so that one that comes again is seen."""
        self.aside = self.cas.parent / "aside"
        self.aside.mkdir(exist_ok=True)
        blocks = [*(self.cas / "xet/xorbs/xorbs").glob("default.*")]
        return [
            path.rename(self.aside / path.name).name for path in blocks if path.suffix != ".tagset"
        ]

    def show_blocks(self) -> list[str]:
        """Put the hidden blocks back; names of those that were sent again."""
        place = self.cas / "xet/xorbs/xorbs"
        again = [path.name for path in self.aside.iterdir() if (place / path.name).exists()]
        for path in self.aside.iterdir():
            path.replace(place / path.name)
        return again

    def ingest_xet(self) -> None:
        """Rebuild what the client's Xet store holds into plain objects, by sha256."""
        if not (self.cas / "xet/xorbs/shards").is_dir():
            return
        import hf_xet
        from huggingface_hub.utils._xet import get_xet_session

        wanted = {}
        for shard in (self.cas / "xet/xorbs/shards").glob("*.mdb"):
            wanted.update(_files_of_shard(shard.read_bytes()))
        wanted = {oid: file for oid, file in wanted.items() if not (self.objects / oid).exists()}
        if not wanted:
            return
        with tempfile.TemporaryDirectory() as folder:  # the client keeps its database locked
            shutil.copytree(self.cas, folder, dirs_exist_ok=True)
            with get_xet_session().new_download_stream_group(
                endpoint=f"local://{folder}", token="local", token_expiry_unix_secs=2**40
            ) as group:
                for oid, (file_hash, size) in wanted.items():
                    stream = group.download_stream(hf_xet.XetFileInfo(file_hash, size))
                    assert self.store(b"".join(bytes(chunk) for chunk in stream)) == oid


def _files_of_shard(data: bytes) -> Iterator[tuple[str, tuple[str, int]]]:
    """(sha256, (Xet hash, bytes)) of the files in a Xet metadata shard."""
    at = 48
    while data[at : at + 32] != b"\xff" * 32:
        name = _hash(data[at : at + 32])
        flags, count = struct.unpack_from("<II", data, at + 32)
        at += 48
        size = sum(struct.unpack_from("<I", data, at + 48 * i + 36)[0] for i in range(count))
        at += 48 * count * (2 if flags & 0x80000000 else 1)
        if flags & 0x40000000:
            yield _hash(data[at : at + 32]), (name, size)
            at += 48


def chunks_of_shard(data: bytes) -> Iterator[tuple[str, str]]:
    """(block, chunk) for every chunk of the blocks that a Xet metadata shard tells of."""
    at = data.index(b"\xff" * 32) + 48
    while data[at : at + 32] != b"\xff" * 32:
        block, count = _hash(data[at : at + 32]), struct.unpack_from("<I", data, at + 36)[0]
        at += 48
        for i in range(count):
            yield block, _hash(data[at + 48 * i : at + 48 * i + 32])
        at += 48 * count


def _hash(raw: bytes) -> str:
    return b"".join(raw[i : i + 8][::-1] for i in range(0, 32, 8)).hex()


class _Handler(BaseHTTPRequestHandler):
    """One connection; ``hub`` is set on a subclass."""

    hub: Hub
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave together ...
    disable_nagle_algorithm = True  # ... and at once: waiting costs 40 ms an answer

    def log_message(self, *_: object) -> None: ...

    def date_time_string(self, timestamp: float | None = None) -> str:
        return email.utils.formatdate((timestamp or time.time()) + self.hub.skew, usegmt=True)

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(30)

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        with self.hub.lock:
            fault = next((f for f in self.hub.faults if f.strikes(self.command, path)), None)
        do = fault.do if fault else ""
        length = int(self.headers.get("Content-Length") or 0)
        if do == "drop":
            self.rfile.read(length // 2)
            return self.cut(path)
        body = self.chunked() if "chunked" in self.headers.get("Transfer-Encoding", "") else b""
        body = body or self.rfile.read(length)
        if do == "corrupt" and body:
            body = body[:-1] + bytes([body[-1] ^ 1])
        if callable(do):
            do()
        if do == "hold":
            self.wait(path)
            return None
        if fault and do == "refuse":
            return self.answer(path, fault.status, fault.body, fault.headers)
        try:
            with self.hub.lock:
                status, payload, headers = self.route(path, body)
        except Answer as error:
            headers = {"X-Error-Code": error.code} if error.code else {}
            headers["X-Error-Message"] = self.hub.said_last = error.message
            return self.answer(path, error.status, {"error": error.message}, headers)
        if do == "lose":
            return self.cut(path)
        if do == "hold after":
            return self.wait(path)
        if fault and do == "commit":
            return self.answer(path, fault.status, {"error": "time-out upstream"}, fault.headers)
        return self.answer(path, status, payload, headers)

    do_HEAD = do_POST = do_PUT = do_GET

    def chunked(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def wait(self, path: str) -> None:
        self.hub.held.set()
        self.hub.release.wait(60)
        self.cut(path)

    def cut(self, path: str) -> None:
        self.hub.log.append((self.command, path, 0))
        self.close_connection = True
        # SO_LINGER 0: the client sees a reset, not a polite end.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def answer(self, path: str, status: int, payload: Any, headers: dict[str, str]) -> None:
        self.hub.log.append((self.command, path, status))
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        kind = "application/octet-stream" if isinstance(payload, bytes) else "application/json"
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            for name, value in {
                "Content-Type": kind,
                "Content-Length": len(body),
                **headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    # Routes. Each returns (status, JSON or bytes, headers).

    def route(self, path: str, body: bytes) -> tuple[int, Any, dict[str, str]]:
        name = r"(?P<id>[^/]+/[^/]+)"
        repo = rf"/api/(?P<kind>models|datasets|spaces)/{name}"
        table: list[tuple[str, str, Callable[..., Any]]] = [
            ("GET", r"/api/whoami-v2", self.whoami),
            ("POST", r"/api/repos/create", self.create),
            ("POST", r"/api/validate-yaml", self.validate),
            ("GET", repo + r"(/revision/(?P<rev>[^/]+))?", self.info),
            ("GET", repo + r"/refs", self.refs),
            ("GET", repo + r"/tree/(?P<rev>[^/]+)(/(?P<path>.+))?", self.tree),
            ("POST", repo + r"/paths-info/(?P<rev>[^/]+)", self.paths_info),
            ("POST", repo + r"/preupload/(?P<rev>[^/]+)", self.preupload),
            ("POST", repo + r"/commit/(?P<rev>[^/]+)", self.commit),
            ("POST", repo + r"/tag/(?P<rev>[^/]+)", self.tag),
            ("GET", repo + r"/xet-(read|write)-token/(?P<rev>[^/]+)", self.xet_token),
            ("GET", repo + r"/discussions", self.pulls),
            ("POST", repo + r"/discussions", self.open_pull),
            ("GET", repo + r"/discussions/(?P<num>\d+)", self.pull),
            ("POST", repo + r"/discussions/(?P<num>\d+)/(?P<verb>status|merge)", self.change_pull),
            ("POST", rf"/(?P<kind>datasets)/{name}\.git/info/lfs/objects/batch", self.batch),
            ("PUT", r"/lfs/(?P<oid>\w{64})", self.lfs_put),
            ("PUT", r"/lfs/(?P<oid>\w{64})/(?P<part>\d+)", self.lfs_part),
            ("POST", r"/lfs/(?P<oid>\w{64})", self.lfs_complete),
            ("POST", r"/lfs/verify", self.lfs_verify),
            ("GET", rf"/(?P<kind>datasets)/{name}/resolve/(?P<rev>[^/]+)/(?P<path>.+)", self.file),
        ]
        method = "GET" if self.command == "HEAD" else self.command
        for verb, pattern, action in table:
            match = re.fullmatch(pattern, path)
            if verb == method and match:
                values = {k: unquote(v) for k, v in match.groupdict().items() if v is not None}
                if "kind" in values:
                    values["repo"] = self.find(values.pop("kind"), values.pop("id"), verb)
                result = action(body, **values)
                return result if isinstance(result, tuple) else (200, result, {})
        raise Answer(404, f"Cannot {self.command} {path}")

    def who(self) -> tuple[str, str] | None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.hub.tokens:
            raise Answer(401, f"Invalid username or password. (token {token})")
        return self.hub.tokens.get(token)

    def find(self, kind: str, name: str, verb: str) -> Repo:
        user = self.who()
        repo = self.hub.repos.get((KINDS[kind], name))
        if repo is None or (repo.private and user is None):
            raise Answer(404 if user else 401, "Repository not found", "RepoNotFound")
        if (
            verb == "POST"
            and "paths-info" not in self.path
            and (user or ("", "read"))[1] != "write"
        ):
            raise Answer(403, "you need write access")
        return repo

    def whoami(self, body: bytes) -> Any:
        user = self.who()
        if user is None:
            raise Answer(401, "Invalid username or password.")
        auth = {"accessToken": {"displayName": "test", "role": user[1]}, "type": "access_token"}
        return {"name": user[0], "type": "user", "orgs": [], "auth": auth}

    def create(self, body: bytes) -> Any:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        if (self.who() or ("", "read"))[1] != "write":
            raise Answer(403, "you may not create a repo here")
        url = {"url": f"{self.hub.url}/datasets/{name}"}
        if (asked["type"], name) in self.hub.repos:
            return 409, {"error": "You already created this repo", **url}, {}
        self.hub.create(name, asked["type"], asked.get("visibility") == "private")
        return url

    def validate(self, body: bytes) -> Any:
        errors = [{"message": text} for text in self.hub.card_errors]
        return 400 if errors else 200, {"errors": errors, "warnings": []}, {}

    def info(self, body: bytes, repo: Repo, rev: str = "main") -> Any:
        oid = repo.resolve(rev)
        names = [{"rfilename": path} for path in sorted(repo.commits[oid].files)]
        return {"id": repo.id, "sha": oid, "siblings": names, "tags": [], "private": repo.private}

    def refs(self, body: bytes, repo: Repo) -> Any:
        def listed(prefix: str) -> list[dict[str, str]]:
            return [
                {"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": oid}
                for ref, oid in repo.refs.items()
                if ref.startswith(prefix)
            ]

        answer = {"branches": listed("refs/heads/"), "tags": listed("refs/tags/"), "converts": []}
        return {**answer, "pullRequests": listed("refs/pr/")}

    def entry(self, path: str, file: File) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "path": path, "size": file.size, "oid": file.blob}
        if file.lfs:
            entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": 130}
        if "expand=true" in self.path.lower():
            entry["lastCommit"] = {"id": "0" * 40, "title": "", "date": NOW}
        return entry

    def tree(self, body: bytes, repo: Repo, rev: str, path: str = "") -> Any:
        recursive = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0] == "true"
        prefix = path + "/" if path else ""
        inside = {p: f for p, f in sorted(repo.files(rev).items()) if p.startswith(prefix)}
        if path and not inside:
            raise Answer(404, f"{path} does not exist", "EntryNotFound")
        folders = {
            prefix + "/".join(p.removeprefix(prefix).split("/")[: i + 1])
            for p in inside
            for i in range(p.removeprefix(prefix).count("/") if recursive else 1)
            if "/" in p.removeprefix(prefix)
        }
        entries = [{"type": "directory", "path": p, "oid": "0" * 40, "size": 0} for p in folders]
        return entries + [
            self.entry(p, f)
            for p, f in inside.items()
            if recursive or "/" not in p.removeprefix(prefix)
        ]

    def paths_info(self, body: bytes, repo: Repo, rev: str) -> Any:
        files = repo.files(rev)
        entries = []
        for path in parse_qs(body.decode()).get("paths", []):
            if path in files:
                entries.append(self.entry(path, files[path]))
            elif any(p.startswith(path + "/") for p in files):
                entries.append({"type": "directory", "path": path, "oid": "0" * 40, "size": 0})
        return entries

    def preupload(self, body: bytes, repo: Repo, rev: str) -> Any:
        held = repo.files(rev)
        answers = []
        for file in json.loads(body)["files"]:
            path = file["path"]
            self.hub.preuploaded.append(path)
            mode = "lfs" if path.endswith(LFS_SUFFIXES) else "regular"
            answer = {"path": path, "uploadMode": mode, "shouldIgnore": False}
            if path in held:
                answer["oid"] = held[path].sha256 if held[path].lfs else held[path].blob
            answers.append(answer)
        return {"files": answers}

    def batch(self, body: bytes, repo: Repo) -> Any:
        url, objects, signed = self.hub.url, [], f"?X-Amz-Signature={SIGNATURE}"
        for part in json.loads(body)["objects"]:
            upload: dict[str, Any] = {"href": f"{url}/lfs/{part['oid']}{signed}"}
            if self.hub.transfer == "multipart":
                count = -(-part["size"] // self.hub.part)
                urls = {
                    f"{i + 1:05d}": f"{url}/lfs/{part['oid']}/{i + 1}{signed}" for i in range(count)
                }
                upload["header"] = {"chunk_size": str(self.hub.part), **urls}
            actions = {"upload": upload, "verify": {"href": f"{url}/lfs/verify"}}
            stored = (self.hub.objects / part["oid"]).exists()
            objects.append({**part, **({} if stored else {"actions": actions})})
        return {"transfer": self.hub.transfer, "objects": objects}

    def take(self, oid: str, data: bytes) -> None:
        if hashlib.sha256(data).hexdigest() != oid:
            raise Answer(400, "the sha256 of what arrived is not the one announced")
        self.hub.store(data)
        self.hub.received.append((oid, len(data)))

    def lfs_put(self, body: bytes, oid: str) -> Any:
        self.take(oid, body)
        return {}

    def lfs_part(self, body: bytes, oid: str, part: str) -> Any:
        self.hub.parts[oid, int(part)] = body
        return 200, {}, {"ETag": hashlib.md5(body).hexdigest()}

    def lfs_complete(self, body: bytes, oid: str) -> Any:
        numbers = [part["partNumber"] for part in json.loads(body)["parts"]]
        self.take(oid, b"".join(self.hub.parts[oid, n] for n in numbers))
        return {}

    def lfs_verify(self, body: bytes) -> Any:
        asked = json.loads(body)
        stored = self.hub.objects / asked["oid"]
        if not stored.exists() or stored.stat().st_size != asked["size"]:
            raise Answer(404, "the object is not here")
        return {}

    def xet_token(self, body: bytes, repo: Repo, rev: str) -> Any:
        if self.hub.transfer != "xet":
            raise Answer(404, "no Xet here")
        exp = int(time.time()) + 3600
        values = {"casUrl": f"local://{self.hub.cas}", "accessToken": "xet", "exp": exp}
        names = ("X-Xet-Cas-Url", "X-Xet-Access-Token", "X-Xet-Token-Expiration")
        return 200, values, dict(zip(names, map(str, values.values()), strict=True))

    def commit(self, body: bytes, repo: Repo, rev: str) -> Any:
        self.hub.ingest_xet()
        ref = rev if rev.startswith("refs/") else f"refs/heads/{rev}"
        head = repo.resolve(ref)
        files, title = dict(repo.commits[head].files), ""
        for line in body.splitlines():
            item = json.loads(line)
            key, value = item["key"], item["value"]
            if key == "header":
                title = value["summary"]
                if value.get("parentCommit", head) != head:
                    raise Answer(412, "A commit has happened since. Please refresh and try again.")
            elif key == "file":
                files[value["path"]] = self.hub.regular(base64.b64decode(value["content"]))
            elif key == "lfsFile":
                if not (self.hub.objects / value["oid"]).exists():
                    raise Answer(400, f"LFS pointer of {value['path']} points to a missing object")
                files[value["path"]] = self.hub.large(value["oid"], value["size"])
            elif key == "deletedFile" and files.pop(value["path"], None) is None:
                raise Answer(404, "A file with this name doesn't exist", "EntryNotFound")
        for path in {path for path in self.hub.damages if path in files}:
            self.hub.damages.remove(path)
            damaged = self.hub.content(files[path])[:-1] + b"!"
            files[path] = self.hub.large(self.hub.store(damaged), len(damaged))
        oid = repo.add(ref, title, files)
        return {"commitOid": oid, "commitUrl": f"{self.hub.url}/datasets/{repo.id}/commit/{oid}"}

    def tag(self, body: bytes, repo: Repo, rev: str) -> Any:
        name = "refs/tags/" + json.loads(body)["tag"]
        if name in repo.refs:
            raise Answer(409, "Tag reference exists already")
        repo.refs[name] = repo.resolve(rev)
        return {}

    def file(self, body: bytes, repo: Repo, rev: str, path: str) -> Any:
        oid = repo.resolve(rev)
        file = repo.commits[oid].files.get(path)
        if file is None:
            raise Answer(404, f"{path} does not exist in {rev}", "EntryNotFound")
        data = self.hub.content(file)
        etag = file.sha256 if file.lfs else file.blob
        headers = {"X-Repo-Commit": oid, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked or self.command == "HEAD":
            return 200, data, headers
        first = int(asked[1])
        last = min(int(asked[2] or len(data) - 1), len(data) - 1)
        if first >= len(data):
            raise Answer(416, "Requested range not satisfiable")
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        return 206, data[first : last + 1], headers

    # Pull requests.

    def details(self, repo: Repo, num: int) -> dict[str, Any]:
        pull = repo.pulls[num]
        kind = {"name": repo.id, "type": repo.kind}
        shown = {"num": num, "author": {"name": "keeper"}, "createdAt": NOW, "repo": kind, **pull}
        changes = {"base": "refs/heads/main"}
        return {**shown, "isPullRequest": True, "events": [], "changes": changes} | {
            "filesWithConflicts": []
        }

    def pulls(self, body: bytes, repo: Repo) -> Any:
        pulls = [self.details(repo, num) for num in repo.pulls]
        return {"discussions": pulls, "count": len(pulls), "start": 0}

    def open_pull(self, body: bytes, repo: Repo) -> Any:
        num = len(repo.pulls) + 1
        base = repo.resolve("main")
        repo.pulls[num] = {"title": json.loads(body)["title"], "status": "draft", "_base": base}
        repo.refs[f"refs/pr/{num}"] = base
        return {"num": num}

    def pull(self, body: bytes, repo: Repo, num: str) -> Any:
        return self.details(repo, int(num))

    def change_pull(self, body: bytes, repo: Repo, num: str, verb: str) -> Any:
        pull, ref = repo.pulls[int(num)], f"refs/pr/{num}"
        if verb == "status":
            asked = json.loads(body)["status"]
            if asked == pull["status"]:
                raise Answer(400, f"this pull request is {asked} already")
            pull["status"] = asked
            change = {"id": "1", "type": "status-change", "createdAt": NOW}
            return {"newStatus": {**change, "data": {"status": pull["status"]}}}
        if pull["status"] != "open":
            raise Answer(409, f"this pull request is {pull['status']}")
        base, ours, theirs = (repo.files(r) for r in (pull["_base"], ref, "main"))
        merged = dict(theirs)
        for path in {*base, *ours}:
            if ours.get(path) != base.get(path):
                if theirs.get(path) not in (base.get(path), ours.get(path)):
                    raise Answer(409, f"conflict in {path}")
                merged.pop(path, None)
                merged.update({path: ours[path]} if path in ours else {})
        repo.add("refs/heads/main", pull["title"], merged)
        pull["status"] = "merged"
        return {}
