"""The resumable, verified download of a file."""

import logging
import re
import shutil
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import requests

from builder.core.errors import ArasError, CorruptFile, blame_memory
from builder.core.files import hash_file, read_json, settle, write_json
from builder.core.web import TIMEOUT, chunks, in_words, is_transient, reason, retrying, secure


@dataclass(frozen=True)
class Raster:
    """What a GeoTIFF must hold: its cell (west, south, east, north; degrees), None for any place,
    and bands."""

    bounds: tuple[float, float, float, float] | None
    bands: int
    dtype: str


@dataclass(frozen=True)
class Remote:
    """One file to fetch.

    ``name`` is its path under the target folder; ``size`` (bytes) and ``md5`` are known
    beforehand or None; ``raster`` is set for GeoTIFFs, which have no published checksums;
    ``signature`` is a query that the server wants with the address and that changes in time; an
    ``optional`` file that the server answers with 404 is absent, not failed.
    """

    name: str
    url: str
    size: int | None = None
    md5: str | None = None
    raster: Raster | None = None
    optional: bool = False
    signature: str = ""

    @property
    def address(self) -> str:
        """What to ask the server for."""
        return f"{self.url}?{self.signature}" if self.signature else self.url


def verify(path: Path, remote: Remote) -> None:
    """Raise CorruptFile unless ``path`` holds what ``remote`` promises, by all that is known."""
    size = path.stat().st_size
    if remote.size is not None and size != remote.size:
        raise CorruptFile(f"it has {size} bytes, expected {remote.size}")
    if remote.md5 is not None:
        md5 = hash_file(path, "md5")["md5"]
        if md5 != remote.md5:
            raise CorruptFile(f"its md5 is {md5}, expected {remote.md5}")
    if remote.raster is not None:
        _decode(path, remote.raster)


def _decode(path: Path, expected: Raster) -> None:
    """Read every block of a GeoTIFF, in turn: a torn or flipped block does not decode."""
    import rasterio
    from rasterio.errors import RasterioError

    # GDAL's own words reach the user through the error; its log would say them twice.
    logging.getLogger("rasterio").setLevel(logging.CRITICAL)
    try:
        with (
            rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", GDAL_CACHEMAX=64),
            rasterio.open(path, driver="GTiff") as tile,
        ):
            if tile.count != expected.bands or set(tile.dtypes) != {expected.dtype}:
                raise CorruptFile(
                    f"it has {tile.count} band(s) of {'/'.join(sorted(set(tile.dtypes)))}, "
                    f"expected {expected.bands} of {expected.dtype}"
                )
            if expected.bounds is not None:
                _check_place(tile, expected.bounds)
            for _, window in tile.block_windows(1):
                tile.read(window=window)
    except RasterioError as error:
        blame_memory(error)
        cause = error.__cause__ or error
        raise CorruptFile(f"it is not a GeoTIFF that can be read whole ({cause})") from error


def _check_place(tile: Any, bounds: tuple[float, float, float, float]) -> None:
    corners = tuple(round(value, 6) for value in tile.bounds)
    far = max(abs(a - b) for a, b in zip(corners, bounds, strict=True))
    if tile.crs is None or tile.crs.to_epsg() != 4326 or far > 0.01:
        raise CorruptFile(f"it lies at {corners} in {tile.crs}, expected {bounds} in EPSG:4326")


CHUNK = 1 << 16
"""Bytes written at a time: a break loses less than a chunk."""

FRESH = 3
"""Downloads from scratch before a file that does not verify is given up."""

ROUNDS = 100
"""Bound on rounds of retries; a round that brings no new byte is the last anyway."""

LARGEST = 200_000_000_000
"""Bytes after which a body of unannounced length is cut off."""


class Stopped(Exception):
    """The command is ending; what has arrived stays in the partial file."""


class NoSpace(ArasError):
    """The disk is full: no other file can be fetched either."""


class Broken(ConnectionError):
    """An answer that cannot be used but may be good next time."""


@dataclass(frozen=True)
class Line:
    """What transfers share: the session, where bytes and troubles are reported, when to stop."""

    session: requests.Session
    advance: Callable[[int], None]
    say: Callable[[str], None]
    stop: threading.Event
    backoff: float = 0.5


@dataclass(frozen=True)
class Version:
    """Which version of which remote file a partial file is a part of; ``size`` in bytes."""

    url: str
    etag: str | None
    last_modified: str | None
    size: int | None


def part(target: Path) -> Path:
    """The hidden partial file of ``target``; beside it, ``….json`` is its `Version`."""
    return target.with_name(f".{target.name}.part")


def download(remote: Remote, target: Path, line: Line) -> None:
    """Fetch ``remote`` to ``target``: resume the partial file, verify it, rename it into place.

    A file that does not verify is removed and fetched again from scratch, `FRESH` times in all.
    Raises CorruptFile when it never verifies, requests.RequestException when the server or the
    network fails for good, OSError as the file system does, Stopped when asked to stop. Unless
    CorruptFile is raised the partial file is kept.
    """
    partial = part(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    line.advance(_size(partial))
    for left in reversed(range(FRESH)):
        try:
            _complete(remote, partial, line)
            verify(partial, remote)
        except CorruptFile as error:
            _discard(partial, line)
            if not left:
                raise CorruptFile(
                    f"{error}; fetched {FRESH} times, nothing is kept. The copy at {remote.url} "
                    f"is damaged: try later, or use a mirror with --base-url"
                ) from error
            line.say(f"{remote.name}: {error}; fetching it from scratch")
        else:
            settle(partial, target)
            _note(partial).unlink(missing_ok=True)
            return


def _complete(remote: Remote, partial: Path, line: Line) -> None:
    """Transfer until the partial file is whole, going on as long as each round brings bytes."""

    def report(error: BaseException, wait: float) -> None:
        if line.stop.is_set():
            raise Stopped
        line.say(f"{remote.name}: {reason(error)}; again {in_words(wait)}")

    best = _size(partial)
    for _ in range(ROUNDS):
        try:
            return retrying(
                lambda: _transfer(remote, partial, line), base=line.backoff, on_retry=report
            )
        except (requests.RequestException, ConnectionError) as error:
            if not is_transient(error) or _size(partial) <= best:
                raise
            best = _size(partial)
    raise Broken(f"the connection broke in each of {ROUNDS} rounds of retries")


def _transfer(remote: Remote, partial: Path, line: Line) -> None:
    """One request: the rest of the file when the partial can be continued, else all of it."""
    if line.stop.is_set():
        raise Stopped
    version = _continuable(remote, partial)
    if version is None:
        _discard(partial, line)
    offset = _size(partial)
    if version and offset and offset == version.size:
        return
    headers = {}
    if version and offset:
        headers["Range"] = f"bytes={offset}-"
        validator = version.etag if _strong(version.etag) else version.last_modified
        if validator:
            headers["If-Range"] = validator
    with line.session.get(remote.address, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        secure(answer.url)
        if offset and answer.status_code == 416:
            _discard(partial, line)
            raise Broken("the server has no byte where the partial file ends")
        answer.raise_for_status()
        if answer.status_code == 206:
            _refuse_splice(answer, version, offset, partial, line)
            total = version.size if version else None
        elif answer.status_code == 200:
            if offset:
                same = version and _validator(answer) == (version.etag, version.last_modified)
                why = "ignores Range" if same else "has another version now"
                line.say(f"{remote.name}: the server {why}; starting over")
            _discard(partial, line)
            offset, total = 0, _length(answer)
            if remote.size is not None and total not in (None, remote.size):
                raise CorruptFile(f"the server offers {total} bytes, expected {remote.size}")
            version = Version(remote.url, *_validator(answer), total or remote.size)
            write_json(_note(partial), asdict(version))
        else:
            raise ArasError(f"the server answers {answer.status_code} {answer.reason}")
        total = total or remote.size
        _room(partial, (total or 0) - offset)
        with partial.open("ab") as file:
            for chunk in chunks(answer, CHUNK):
                if line.stop.is_set():
                    raise Stopped
                file.write(chunk)
                offset += len(chunk)
                line.advance(len(chunk))
                if offset > (total or LARGEST):
                    raise CorruptFile(f"the server sends more than {total or LARGEST} bytes")
    if total is not None and offset < total:
        raise Broken(f"the server ended after {offset} of {total} bytes")


def _continuable(remote: Remote, partial: Path) -> Version | None:
    """The version of a partial file that may be continued: same address, a change would show."""
    try:
        version = Version(**read_json(_note(partial)))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    same = version.url == remote.url and version.size in (None, remote.size or version.size)
    known = version.etag or version.last_modified or remote.md5
    fits = version.size is None or _size(partial) <= version.size
    return version if same and known and fits else None


def _refuse_splice(
    answer: requests.Response, version: Version | None, offset: int, partial: Path, line: Line
) -> None:
    """Discard the partial file and raise Broken unless a 206 continues exactly that file."""
    etag, last_modified = _validator(answer)
    start, _, total = answer.headers.get("Content-Range", "").partition("/")
    continues = start.startswith(f"bytes {offset}-")
    if version is None or not offset or not continues:
        trouble = "the server sends a part that was not requested"
    elif (
        (etag and version.etag and etag != version.etag)
        or (last_modified and version.last_modified and last_modified != version.last_modified)
        or (total.isdigit() and version.size is not None and int(total) != version.size)
    ):
        trouble = "the file on the server has changed"
    else:
        return
    _discard(partial, line)
    raise Broken(f"{trouble}; starting over")


def _validator(answer: requests.Response) -> tuple[str | None, str | None]:
    return answer.headers.get("ETag"), answer.headers.get("Last-Modified")


def _strong(etag: str | None) -> bool:
    return etag is not None and etag.startswith('"')


def _length(answer: requests.Response) -> int | None:
    text = answer.headers.get("Content-Length", "")
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _room(partial: Path, needed: int) -> None:
    free = shutil.disk_usage(partial.parent).free
    if needed > free:
        raise NoSpace(
            f"no space left in {partial.parent}: {needed} bytes still to come, {free} free; "
            f"free some space and run the same command again"
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _note(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.json")


def _discard(partial: Path, line: Line) -> None:
    line.advance(-_size(partial))
    partial.unlink(missing_ok=True)
    _note(partial).unlink(missing_ok=True)
