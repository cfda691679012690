"""Calls to Zenodo: zenodo-client with the token in a header, retries and checked answers."""

import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import quote, urlsplit

import requests
import zenodo_client
from requests.auth import AuthBase

from builder.core.errors import ArasError, CorruptFile, WorkFailed
from builder.core.files import parse_json
from builder.core.web import (
    THROTTLED,
    checked_address,
    in_words,
    is_transient,
    new_session,
    redact,
    retrying,
    status_of,
)
from builder.publish.release import File
from builder.publish.targets import Say

TIMEOUT = (30, 600)
"""Seconds to connect, and to wait for an answer (Zenodo hashes a whole file before it answers)."""

Tick = Callable[[int], None]
Again = Callable[[BaseException], bool]
T = TypeVar("T")


class ZenodoError(WorkFailed):
    """A call that failed after all retries; ``status`` is None when no answer came."""

    def __init__(self, message: str, status: int | None) -> None:
        super().__init__(message)
        self.status = status

    @property
    def ambiguous(self) -> bool:
        """True when the server may have done what it was asked nevertheless."""
        return self.status is None or self.status == 408 or self.status >= 500


class TokenRefused(ArasError):
    """No token, or a token that Zenodo does not accept for this."""


class Http:
    """Requests to a server: the token is sent in a header and redacted from every message.

    ``variable`` names where the token came from, for messages; ``base`` is the first wait between
    attempts in seconds; ``say`` gets a line for every retry.
    """

    def __init__(self, url: str, token: str, variable: str, say: Say, base: float):
        self.url, self.variable, self.say, self.base = url, variable, say, base
        self._auth = _Bearer(token)
        self._session = new_session()

    def call(self, method: str, address: str, again: Again = is_transient, **options: Any) -> Any:
        """The JSON answer to a request, retried while ``again`` says so.

        Raises TokenRefused for 401 and 403, ZenodoError for every other failure.
        """
        what = f"{method} {urlsplit(address).path}"
        return self.retried(lambda: self.send(method, address, **options), what, again)

    def retried(self, call: Callable[[], T], what: str, again: Again = is_transient) -> T:
        """The result of ``call``, retried; it raises what `call` raises."""

        def hide(text: str) -> str:
            return redact(text, self._auth.token)

        def report(error: BaseException, wait: float) -> None:
            self.say(hide(f"{what}: {_words(error)}; again {in_words(wait)}"))

        try:
            return retrying(call, base=self.base, retry_if=again, on_retry=report)
        except requests.RequestException as error:
            status, said = status_of(error), _words(error)
        if status in (401, 403):
            raise TokenRefused(
                hide(f"{self.url} refused the token ({what}: {said}): {self.variable} must hold ")
                + "a token of the record's owner, with the scopes deposit:write and deposit:actions"
            )
        raise ZenodoError(hide(f"{self.url}: {what}: {said}"), status)

    def send(self, method: str, address: str, **options: Any) -> Any:
        """One attempt; raises requests' own errors."""
        # A redirected POST would turn into a GET; only reading may follow.
        response = self._session.request(
            method,
            address,
            auth=self._auth,
            timeout=TIMEOUT,
            allow_redirects=method == "GET",
            **options,
        )
        if not 200 <= response.status_code < 300:
            raise requests.HTTPError(response=response)
        if response.status_code == 204 or not response.content:
            return {}
        try:
            return parse_json(response.content)
        except ValueError as error:
            raise requests.ConnectionError("the answer is not JSON") from error


class _Bearer(AuthBase):
    """The token as a header; given as ``auth`` so that a .netrc cannot take its place."""

    def __init__(self, token: str) -> None:
        self.token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


class Body:
    """A stream of known length that reports each piece sent."""

    def __init__(self, stream: IO[bytes], length: int, tick: Tick) -> None:
        self._stream, self._length, self._tick = stream, length, tick
        self.sent = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        while piece := self.read(1 << 20):
            yield piece

    def read(self, size: int = -1) -> bytes:
        left = self._length - self.sent
        piece = self._stream.read(left if size < 0 else min(size, left))
        if left and size and not piece:
            raise CorruptFile(
                f"{self._stream.name}: ends after {self.sent} of {self._length} bytes; "
                "it changed while it was sent"
            )
        self.sent += len(piece)
        self._tick(len(piece))
        return piece


def checked_url(url: str, *, production: bool) -> str:
    """A server's base URL without trailing slash or /api, or ArasError.

    Refused beyond what every address must be: zenodo.org and its sandbox when the token that would
    be sent is the other's.
    """
    base = checked_address(url, "--url").removesuffix("/api")
    host = urlsplit(base).hostname
    if host == "zenodo.org" and not production:
        raise ArasError(f"{base} publishes permanently: add --production")
    if host == "sandbox.zenodo.org" and production:
        raise ArasError(f"{base} is the sandbox: leave out --production")
    return base


def throttled(error: BaseException) -> bool:
    """True for the only refusal that says for sure that nothing was done."""
    return status_of(error) == 429


def _words(error: BaseException) -> str:
    """What went wrong, in the server's words where it has some."""
    response = getattr(error, "response", None)
    if response is None:
        return f"{type(error).__name__}: {error}"
    return f"{response.status_code} {_said(response)}"


def _said(response: requests.Response) -> str:
    try:
        body = parse_json(response.content)
        faults = [
            f"{fault.get('field')}: {' '.join(fault.get('messages') or [fault.get('message', '')])}"
            for fault in body.get("errors") or []
        ]
        return " ".join([str(body.get("message", response.reason)), *faults])[:500]
    except (ValueError, AttributeError, TypeError):
        return str(response.reason)  # a gateway's HTML


SANDBOX, PRODUCTION = "https://sandbox.zenodo.org", "https://zenodo.org"


@dataclass(frozen=True)
class Stored:
    """A file as Zenodo lists it; size in bytes."""

    id: str
    size: int
    md5: str

    def holds(self, file: File) -> bool:
        return (self.size, self.md5) == (file.size, file.md5)


@dataclass(frozen=True)
class Deposition:
    """A record as Zenodo describes it, draft or published; what it leaves out is empty.

    ``html`` is the page of the draft, ``record_html`` that of the published record; ``bucket`` is
    where files are sent.
    """

    id: str
    conceptrecid: str
    doi: str
    concept_doi: str
    version: str
    submitted: bool
    html: str
    record_html: str
    bucket: str
    files: Mapping[str, Stored]

    @classmethod
    def from_json(cls, answer: Mapping[str, Any]) -> "Deposition":
        metadata, links = answer.get("metadata", {}), answer.get("links", {})
        return cls(
            id=str(answer.get("id", "")),
            conceptrecid=str(answer.get("conceptrecid", "")),
            # Never ``prereserve_doi``, which a sandbox gets wrong.
            doi=answer.get("doi") or metadata.get("doi") or "",
            concept_doi=answer.get("conceptdoi") or "",
            version=str(metadata.get("version") or ""),
            submitted=bool(answer.get("submitted")),
            html=links.get("html", ""),
            record_html=links.get("record_html", ""),
            bucket=links.get("bucket", ""),
            files=dict(map(_stored, answer.get("files", []))),
        )


def _stored(entry: Mapping[str, Any]) -> tuple[str, Stored]:
    """Name and file of a listing: a deposition's has other keys than a public record's."""
    name = entry["filename"] if "filename" in entry else entry["key"]
    size = int(entry.get("filesize") or entry.get("size") or 0)
    md5 = (entry.get("checksum") or "").removeprefix("md5:")
    return name, Stored(str(entry["id"]), size, md5)


class Client(zenodo_client.Zenodo):  # type: ignore[misc]
    """zenodo-client whose calls carry the token in a header, are retried and are checked.

    The inherited ``publish``, ``edit`` and ``discard`` go through `_action` below. What is
    inherited and not overridden finds no token to put into a URL. ``first_wait`` is the first
    wait between attempts in seconds; ``say`` gets a line for every retry.
    """

    def __init__(
        self,
        url: str = SANDBOX,
        *,
        production: bool = False,
        token: str | None = None,
        say: Say = lambda text: None,
        first_wait: float = 0.5,
    ) -> None:
        self.access_token: str | None
        self.url, self.production = checked_url(url, production=production), production
        variable = "ZENODO_API_TOKEN" if production else "ZENODO_SANDBOX_API_TOKEN"
        try:
            super().__init__(access_token=token, sandbox=not production)
        except ValueError as error:
            hint = "" if production else "; ZENODO_API_TOKEN is used with --production only"
            raise TokenRefused(
                f"no token for {self.url}: set {variable} to a token with the scopes deposit:write "
                f"and deposit:actions{hint}"
            ) from error
        secret = (self.access_token or "").strip()
        if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
            raise TokenRefused(
                f"{variable} does not hold a token: it is empty or has characters that no token has"
            )
        self.access_token = None
        self.base, self.api_base = self.url, f"{self.url}/api"
        self.depositions_base = f"{self.api_base}/deposit/depositions"
        self.first_wait = first_wait
        self._http = Http(self.url, secret, variable, say, first_wait)

    def command(self, release: Path, *options: str) -> str:
        """The command line that publishes ``release`` here, for messages."""
        there = [] if self.url in (SANDBOX, PRODUCTION) else ["--url", self.url]
        sure = ["--production"] if self.production else []
        return shlex.join(["aras", "publish", "zenodo", str(release), *there, *sure, *options])

    def check_token(self) -> None:
        """Ask for the shortest listing of our own; raises TokenRefused when that is not allowed."""
        self._http.call("GET", self.depositions_base, params={"size": 1})

    def find(self, marker: str) -> list[str]:
        """Ids of our unpublished drafts whose title holds ``marker``, by Zenodo's search index."""
        query: dict[str, Any] = {"q": marker, "status": "draft", "size": 25}
        answer = self._http.call("GET", self.depositions_base, params=query)
        drafts = answer.get("hits", {}).get("hits", []) if isinstance(answer, dict) else answer
        return [
            str(draft["id"])
            for draft in drafts
            if marker in str(draft.get("title")) + str(draft.get("metadata", {}).get("title"))
            and not draft.get("submitted")
        ]

    def create(self, metadata: dict[str, Any]) -> str:  # type: ignore[override]
        """Create an empty draft, in one attempt; returns its id."""
        body = {"metadata": metadata}
        answer = self._http.call("POST", self.depositions_base, json=body, again=throttled)
        return str(self._with(answer, "id")["id"])

    def draft_of_next_version(self, record: str) -> str:
        """Id of the draft that follows the published ``record``; created if there is none yet."""
        answer = self._http.call("POST", f"{self.api_base}/records/{quote(record)}/versions")
        return str(self._with(answer, "id")["id"])

    def import_files(self, draft: str) -> bool:
        """Take over the previous version's files; False when Zenodo would not."""
        try:
            self._http.call("POST", f"{self._draft(draft)}/actions/files-import")
        except ZenodoError as error:
            if error.status not in (400, 404):
                raise
            return False
        return True

    def deposition(self, draft: str) -> Deposition | None:
        """The deposition as its owner sees it, draft or published; None when it is gone."""
        address = f"{self.depositions_base}/{quote(draft)}"
        try:
            answer = self._http.call("GET", address)
        except ZenodoError as error:
            if error.status in (404, 410):
                return None
            raise
        return Deposition.from_json(self._with(answer, "conceptrecid", "links"))

    def record(self, record: str) -> Deposition:
        """The public record; of a concept id, its latest version."""
        answer = self._http.call("GET", f"{self.api_base}/records/{quote(record)}")
        return Deposition.from_json(self._with(answer, "id", "metadata"))

    def reserve_doi(self, draft: str) -> str:
        """The DOI of a draft, reserved now unless it was before."""
        doi = self._doi(draft)
        if not doi:
            try:
                self._http.call("POST", f"{self._draft(draft)}/pids/doi")
            except ZenodoError as error:
                if error.status != 400:  # 400: it has a DOI, an earlier answer was lost
                    raise
            doi = self._doi(draft)
        if not doi:
            raise ZenodoError(f"{self.url}: no DOI was reserved for draft {draft}", None)
        return doi

    def put_metadata(self, draft: str, metadata: dict[str, Any]) -> dict[str, Any]:
        """Replace a draft's metadata; returns what Zenodo has stored."""
        address = f"{self.depositions_base}/{quote(draft)}"
        answer = self._http.call("PUT", address, json={"metadata": metadata})
        stored: dict[str, Any] = answer.get("metadata", {})
        return stored

    def files(self, draft: str) -> Mapping[str, Stored]:
        """The files of a draft or a published record, by name."""
        deposition = self.deposition(draft)
        return deposition.files if deposition else {}

    def delete_file(self, draft: str, file_id: str) -> None:
        self._delete(f"{self.depositions_base}/{quote(draft)}/files/{quote(file_id)}")

    def delete_draft(self, draft: str) -> None:
        self._delete(f"{self.depositions_base}/{quote(draft)}")

    def put_file(self, draft: str, bucket: str, file: File, tick: Tick) -> Stored:
        """Stream a file into a draft; returns what Zenodo then holds.

        After a dropped connection or a gateway error the listing is looked at first, so that a
        file which did arrive is not sent again. ``tick`` gets the bytes sent (or taken back).
        """
        # The token goes nowhere but to the server it is for, whatever host a link names.
        path = f"{urlsplit(bucket).path}/{quote(file.name, safe='')}"
        address = urlsplit(self.url)._replace(path=path).geturl()
        kind = {"Content-Type": "application/octet-stream"}  # JSON is refused
        doubtful = False

        def once() -> Stored:
            nonlocal doubtful
            there = self.files(draft).get(file.name) if doubtful else None
            if there and there.holds(file):
                tick(file.size)
                return there
            with file.open() as stream:
                body = Body(stream, file.size, tick)
                try:
                    answer = self._http.send("PUT", address, data=body, headers=kind)
                except requests.RequestException as error:
                    tick(-body.sent)
                    doubtful = status_of(error) not in THROTTLED
                    raise
            self._with(answer, "size", "checksum")
            return Stored("", int(answer["size"]), str(answer["checksum"]).removeprefix("md5:"))

        return self._http.retried(once, f"PUT {file.name}")

    def _action(self, deposition_id: str, action: str, sleep: bool = True) -> Any:
        """An action on a deposition, in one attempt (whether a lost action ran is unknown)."""
        address = f"{self.depositions_base}/{quote(deposition_id)}/actions/{action}"
        return self._http.call("POST", address, again=throttled)

    def _with(self, answer: Any, *needed: str) -> dict[str, Any]:
        """An answer that has the keys ``needed``; ZenodoError where Zenodo never answers so."""
        if not isinstance(answer, dict) or not answer.keys() >= set(needed):
            raise ZenodoError(
                f"{self.url} does not answer like Zenodo (missing {' or '.join(needed)}); "
                "check --url",
                200,
            )
        return answer

    def _doi(self, draft: str) -> str:
        deposition = self.deposition(draft)
        return deposition.doi if deposition else ""

    def _draft(self, draft: str) -> str:
        return f"{self.api_base}/records/{quote(draft)}/draft"

    def _delete(self, address: str) -> None:
        try:
            self._http.call("DELETE", address)
        except ZenodoError as error:
            if error.status not in (404, 410):  # gone already: an earlier answer was lost
                raise
