"""Where a release is read from by ranges: a folder, a web server, the Hub, a bucket."""

import os
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import requests

from builder.core import budgets, hub_session
from builder.core.errors import ArasError, WorkFailed
from builder.core.manifest import MANIFEST, not_a_release
from builder.core.objects import SCHEMES, Objects, Seen
from builder.core.range_file import RangeFile
from builder.core.web import (
    TIMEOUT,
    checked_address,
    is_transient,
    new_session,
    read_body,
    reason,
    redact,
    retrying,
    status_of,
)

JOBS = 8
"""Ranges that are asked for at once."""

HUB = re.compile(r"hf://datasets/(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>[^@]+?))?/?")


class Source(Protocol):
    """A release that is read from afar. ``moved`` counts bytes, ``requests`` the reads."""

    address: str
    moved: int
    requests: int
    jobs: int

    def whole(self, name: str) -> bytes:
        """A small file. Raises ArasError when it is missing."""

    def read(self, name: str, start: int, end: int, size: int) -> bytes:
        """Bytes ``start`` to ``end`` of a file that must have ``size`` bytes.

        Raises ArasError when the file is missing or another than the manifest lists, WorkFailed
        when it cannot be read to the end.
        """


def open_source(place: str, base: float = 0.5) -> Source:
    """The source at a folder, an http(s) address, hf://datasets/ORG/NAME@TAG or s3://BUCKET/PREFIX.

    ``base`` is the first wait of a retry in seconds. Raises ArasError for any other address.
    """
    if place.startswith("hf:"):
        return _hub(place, base)
    if place.startswith(("http:", "https:")):
        address = checked_address(place.removesuffix(MANIFEST), "SOURCE")
        return Web(address, lambda name: f"{address}/{quote(name)}", {}, base)
    if place.partition("://")[0] in SCHEMES and "://" in place:
        return InBucket(Objects(place.removesuffix(MANIFEST)))
    if "://" in place:
        raise ArasError(
            f"{place}: not an address that is read; expected a folder, https://…, s3://… or "
            "hf://datasets/ORG/NAME@TAG"
        )
    return Folder(Path(place))


class Folder:
    """A release in a folder of this machine."""

    jobs = 1

    def __init__(self, root: Path) -> None:
        if not (root / MANIFEST).is_file():
            raise not_a_release(root)
        self.root, self.address = root, root.resolve().name
        self.moved = self.requests = 0

    def whole(self, name: str) -> bytes:
        data = (self.root / name).read_bytes()
        self.moved += len(data)
        return data

    def read(self, name: str, start: int, end: int, size: int) -> bytes:
        path = self.root / name
        try:
            with path.open("rb") as file:
                there = os.fstat(file.fileno()).st_size
                file.seek(start)
                data = file.read(end - start)
        except FileNotFoundError:
            raise ArasError(f"{path}: listed in {MANIFEST} but missing") from None
        if there != size or len(data) != end - start:
            raise _changed(str(path), size, there)
        self.moved += len(data)
        self.requests += 1
        return data


class InBucket:
    """A release in a bucket, whose keys come from the environment."""

    jobs = JOBS

    def __init__(self, objects: Objects) -> None:
        self.objects, self.address = objects, objects.url
        self.moved = self.requests = 0
        self.seen: dict[str, Seen] = {}
        self.lock = threading.Lock()

    def whole(self, name: str) -> bytes:
        try:
            data = self.objects.get(name)
        except FileNotFoundError:
            missing = f"not a release of aras (there is no {MANIFEST})"
            missing = missing if name == MANIFEST else f"{name}: listed in {MANIFEST} but missing"
            raise ArasError(f"{self.address}: {missing}") from None
        self._count(data)
        return data

    def read(self, name: str, start: int, end: int, size: int) -> bytes:
        with self.lock:
            seen = self.seen.get(name) or self.objects.head(name)
            if seen is None:
                raise ArasError(f"{self.address}/{name}: listed in {MANIFEST} but missing")
            self.seen[name] = seen
        if seen.size != size:
            raise _changed(f"{self.address}/{name}", size, seen.size)
        data = self.objects.range(name, start, end, seen)
        self._count(data)
        return data

    def _count(self, data: bytes) -> None:
        with self.lock:
            self.moved += len(data)
            self.requests += 1


class _CutShort(ConnectionError):
    """An answer of fewer bytes than were asked for; another attempt may bring them all."""


class Web:
    """A release behind a web server that answers ranges."""

    jobs = JOBS

    def __init__(
        self, address: str, url: Callable[[str], str], headers: dict[str, str], base: float
    ) -> None:
        self.address, self.url, self.base = address, url, base
        self.session = new_session(JOBS)
        self.session.headers.update(headers)
        self.moved = self.requests = 0
        self.etags: dict[str, str] = {}
        self.lock = threading.Lock()

    def whole(self, name: str) -> bytes:
        return self._answered(name, lambda: self._get(name, None))

    def read(self, name: str, start: int, end: int, size: int) -> bytes:
        return self._answered(name, lambda: self._get(name, (start, end, size)))

    def _answered(self, name: str, ask: Callable[[], bytes]) -> bytes:
        try:
            return retrying(ask, base=self.base)
        except (requests.RequestException, ConnectionError) as error:
            url = self.url(name)
            if status_of(error) == 404 and name == MANIFEST:
                text = f"{self.address}: not a release of aras (there is no {MANIFEST})"
                raise ArasError(text) from None
            if status_of(error) == 404:
                raise ArasError(f"{url}: listed in {MANIFEST} but missing") from None
            if status_of(error) in (401, 403):
                raise ArasError(f"{url}: {reason(error)}; does it need a token?") from None
            text = redact(f"{url}: {reason(error)}; run the same command again to continue")
            raise WorkFailed(text) from error

    def _get(self, name: str, part: tuple[int, int, int] | None) -> bytes:
        start, end, size = part or (0, 0, 0)
        url, asked = self.url(name), {"Range": f"bytes={start}-{end - 1}"} if part else {}
        with self.session.get(url, headers=asked, stream=True, timeout=TIMEOUT) as answer:
            if answer.status_code == 416:
                raise _changed(url, size, None)
            answer.raise_for_status()
            if part and answer.status_code != 206:  # nothing of the body is read
                raise ArasError(
                    f"{url}: the server sends no ranges, only whole files; download the release "
                    "into a folder and give that folder"
                )
            if part:
                self._compare(name, answer, start, size)
            data = read_body(answer, most=max(end - start, budgets.ANSWER_BYTES))
        if part and len(data) != end - start:
            raise _CutShort(f"the answer ends after {len(data):,} of {end - start:,} bytes")
        with self.lock:
            self.moved += len(data)
            self.requests += 1
        return data

    def _compare(self, name: str, answer: requests.Response, start: int, size: int) -> None:
        """The answer must be of the file that the manifest lists, and of the range asked for."""
        url, said = self.url(name), answer.headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", said.strip())
        if not match or int(match[1]) != start:
            raise ArasError(f"{url}: the server answers a range with another ({said or 'unnamed'})")
        if match[2] not in ("*", str(size)):
            raise _changed(url, size, int(match[2]))
        etag = answer.headers.get("ETag", "")
        if self.etags.setdefault(name, etag) != etag:
            raise ArasError(f"{url}: changed while it was read; run the same command again")


def _changed(place: str, expected: int, there: int | None) -> ArasError:
    held = f" has {there:,} bytes," if there is not None and there != expected else ""
    return ArasError(
        f"{place}:{held or ' is shorter than'} {MANIFEST} lists {expected:,}; the file or the "
        "manifest was changed: fetch both anew"
    )


def _hub(place: str, base: float) -> Web:
    """A dataset repo at the commit that a tag or branch is at now: it cannot change meanwhile."""
    import huggingface_hub
    import huggingface_hub.utils
    from huggingface_hub import errors

    utils: Any = huggingface_hub.utils

    if not (match := HUB.fullmatch(place)):
        raise ArasError(f"{place}: expected hf://datasets/ORG/NAME@TAG")
    repo, revision = match["repo"], match["revision"]
    endpoint = os.environ.get("HF_ENDPOINT") or huggingface_hub.constants.ENDPOINT
    hub_session.bound()
    api = huggingface_hub.HfApi(endpoint=endpoint, library_name="aras")
    try:
        with hub_session.within(budgets.CALL_SECONDS):
            commit = retrying(lambda: api.dataset_info(repo, revision=revision).sha, base=base)
    except errors.RevisionNotFoundError:
        raise ArasError(f"{place}: the repo has no tag or branch {revision}") from None
    except (errors.RepositoryNotFoundError, errors.GatedRepoError, errors.HFValidationError):
        raise ArasError(
            f"{place}: no such repo at {endpoint}, or it needs a token (`hf auth login`)"
        ) from None
    except errors.OfflineModeIsEnabled:
        raise ArasError(f"{place}: HF_HUB_OFFLINE is set; unset it to read the Hub") from None
    except Exception as error:  # httpx's errors, which are no dependency of ours, have no base
        known = isinstance(error, (OSError, ValueError, RecursionError, errors.HfHubHTTPError))
        if not known and not is_transient(error):
            raise
        raise WorkFailed(redact(f"{place}: cannot be read: {reason(error)}")) from error
    headers: dict[str, str] = utils.build_hf_headers(library_name="aras")

    def url(name: str) -> str:
        # hf_hub_url reads its endpoint when it is imported; the environment may say another now.
        return str(
            huggingface_hub.hf_hub_url(
                repo, name, repo_type="dataset", revision=commit, endpoint=endpoint
            )
        )

    return Web(f"hf://datasets/{repo}@{commit}", url, headers, base)


def file_of(
    source: Source, name: str, size: int, held: Sequence[tuple[int, bytes]] = ()
) -> RangeFile:
    """A file of a source for readers that seek, such as pyarrow's.

    ``held`` are pieces that were fetched before: where each begins, and its bytes.
    """

    def fetch(start: int, end: int) -> bytes:
        for first, piece in held:
            if first <= start and end <= first + len(piece):
                return piece[start - first : end - first]
        return source.read(name, start, end, size)

    return RangeFile(size, fetch)
