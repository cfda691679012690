"""Calls to Zenodo: zenodo-client with the token in a header, retries and checked answers."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import requests
import zenodo_client

from builder.publish.zenodo_http import (
    Body,
    Http,
    Say,
    Tick,
    TokenRefused,
    ZenodoError,
    checked_url,
    throttled,
)
from builder.publish.zenodo_plan import File
from builder.retry import THROTTLED, status_of

SANDBOX, PRODUCTION = "https://sandbox.zenodo.org", "https://zenodo.org"


@dataclass(frozen=True)
class Stored:
    """A file as Zenodo lists it."""

    id: str
    size: int
    md5: str

    def holds(self, file: File) -> bool:
        return (self.size, self.md5) == (file.size, file.md5)


class Client(zenodo_client.Zenodo):  # type: ignore[misc]
    """zenodo-client whose calls carry the token in a header, are retried and are checked.

    The inherited ``publish``, ``edit`` and ``discard`` go through `_action` below. What is
    inherited and not overridden finds no token to put into a URL. ``first_wait`` is the first
    wait between attempts in seconds; ``say`` is told of every retry.
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
                f"no token for {self.url}: set {variable} to one with the scopes deposit:write "
                f"and deposit:actions{hint}"
            ) from error
        secret = (self.access_token or "").strip()
        if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
            raise TokenRefused(f"{variable} does not hold a token: it is empty or has odd signs")
        self.access_token = None
        self.base, self.api_base = self.url, f"{self.url}/api"
        self.depositions_base = f"{self.api_base}/deposit/depositions"
        agent = zenodo_client.api.USER_AGENT
        self.first_wait = first_wait
        self._http = Http(self.url, secret, variable, agent, say, first_wait)

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
        """Id of the draft that follows the published ``record``; made if there is none yet."""
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

    def deposition(self, draft: str) -> dict[str, Any] | None:
        """The deposition as its owner sees it, draft or published; None when it is gone."""
        address = f"{self.depositions_base}/{quote(draft)}"
        try:
            answer = self._http.call("GET", address)
        except ZenodoError as error:
            if error.status in (404, 410):
                return None
            raise
        return self._with(answer, "conceptrecid", "links")

    def record(self, record: str) -> dict[str, Any]:
        """The public record; of a concept id, its latest version."""
        answer = self._http.call("GET", f"{self.api_base}/records/{quote(record)}")
        return self._with(answer, "id", "metadata")

    def reserve_doi(self, draft: str) -> str:
        """The DOI of a draft, reserved now unless it was before."""
        doi = doi_of(self.deposition(draft))
        if doi is None:
            try:
                self._http.call("POST", f"{self._draft(draft)}/pids/doi")
            except ZenodoError as error:
                if error.status != 400:  # 400: it has one, an earlier answer was lost
                    raise
            doi = doi_of(self.deposition(draft))
        if doi is None:
            raise ZenodoError(f"{self.url}: no DOI was reserved for draft {draft}", None)
        return doi

    def put_metadata(self, draft: str, metadata: dict[str, Any]) -> dict[str, Any]:
        """Replace a draft's metadata; returns what Zenodo has stored."""
        address = f"{self.depositions_base}/{quote(draft)}"
        answer = self._http.call("PUT", address, json={"metadata": metadata})
        stored: dict[str, Any] = answer.get("metadata", {})
        return stored

    def files(self, draft: str) -> dict[str, Stored]:
        """The files of a draft or a published record, by name."""
        return stored_files(self.deposition(draft) or {})

    def delete_file(self, draft: str, file_id: str) -> None:
        self._delete(f"{self.depositions_base}/{quote(draft)}/files/{quote(file_id)}")

    def delete_draft(self, draft: str) -> None:
        self._delete(f"{self.depositions_base}/{quote(draft)}")

    def put_file(self, draft: str, bucket: str, file: File, tick: Tick) -> Stored:
        """Stream one file into a draft; returns what Zenodo says that it holds.

        After a dropped connection or a gateway error the listing is looked at first, so that a
        file which did arrive is not sent again. ``tick`` is told of bytes sent (or taken back).
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
            told = self._with(answer, "size", "checksum")
            return Stored("", int(told["size"]), str(told["checksum"]).removeprefix("md5:"))

        return self._http.retried(once, f"PUT {file.name}")

    def _action(self, deposition_id: str, action: str, sleep: bool = True) -> Any:
        """An action on a deposition, in one attempt (it cannot be told whether a lost one ran)."""
        address = f"{self.depositions_base}/{quote(deposition_id)}/actions/{action}"
        return self._http.call("POST", address, again=throttled)

    def _with(self, answer: Any, *needed: str) -> dict[str, Any]:
        """An answer that has the keys ``needed``; ZenodoError for one that Zenodo never gives."""
        if not isinstance(answer, dict) or not answer.keys() >= set(needed):
            raise ZenodoError(
                f"{self.url} does not answer as Zenodo does (no {' or '.join(needed)} in it); "
                "check --url",
                200,
            )
        return answer

    def _draft(self, draft: str) -> str:
        return f"{self.api_base}/records/{quote(draft)}/draft"

    def _delete(self, address: str) -> None:
        try:
            self._http.call("DELETE", address)
        except ZenodoError as error:
            if error.status not in (404, 410):  # gone already: an earlier answer was lost
                raise


def doi_of(deposition: dict[str, Any] | None) -> str | None:
    """The DOI that a deposition has; never ``prereserve_doi``, which a sandbox gets wrong."""
    if deposition is None:
        return None
    return deposition.get("doi") or deposition.get("metadata", {}).get("doi") or None


def stored_files(deposition: dict[str, Any]) -> dict[str, Stored]:
    """The files that a deposition lists, by name."""
    return {
        entry["filename"]: Stored(
            str(entry["id"]),
            int(entry.get("filesize") or 0),
            (entry.get("checksum") or "").removeprefix("md5:"),
        )
        for entry in deposition.get("files", [])
    }
