"""Files and hashes: the one atomic write, the one content hash."""

import contextlib
import csv
import difflib
import errno
import fcntl
import hashlib
import itertools
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from builder.core.errors import ArasError
from builder.core.escape import csv_cell

Value = TypeVar("Value")

_HOST = socket.gethostname().split(".")[0]
_COUNT = itertools.count()
_CHUNK = 1 << 20
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
"""How a file system says that it has no locks."""


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a hidden path beside ``path``; on success flush it to disk and rename it into place.

    A file (or folder) under its final name is therefore whole. On any exception, Ctrl-C
    included, the hidden file is removed and ``path`` is left as it was. Raises OSError (disk
    full, permissions) as the file system does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{_HOST}.{os.getpid()}.{next(_COUNT)}.tmp")
    try:
        yield temporary
        if temporary.is_dir():
            for child in temporary.rglob("*"):
                _fsync(child)
        settle(temporary, path)
    except BaseException:
        remove(temporary)
        raise


def settle(temporary: Path, path: Path) -> None:
    """Flush ``temporary`` (same file system) to disk and rename it to ``path``, replacing it."""
    _fsync(temporary)
    os.replace(temporary, path)
    _fsync(path.parent)


@contextlib.contextmanager
def scratch(name: str, within: Path | None = None) -> Iterator[Path]:
    """Yield a new temporary folder, removed afterwards; in ``within`` where that can be written to.

    What killed processes left there under the same ``name`` goes first.
    """
    place = within if within and os.access(within, os.W_OK) else Path(tempfile.gettempdir())
    sweep(place, name)
    with tempfile.TemporaryDirectory(
        prefix=f".{name}.{_HOST}.{os.getpid()}.",
        suffix=".tmp",
        dir=place,
        ignore_cleanup_errors=True,
    ) as folder:
        yield Path(folder)


def lend(source: Path, path: Path) -> None:
    """Make ``path`` the same file as ``source``, or a copy of it where links cannot be made."""
    try:
        os.link(source.resolve(), path)
    except OSError:
        shutil.copyfile(source, path)


def sweep(folder: Path, name: str = "*") -> int:
    """Remove what killed processes of this host left behind of ``folder/name``; how many."""
    swept = 0
    for leftover in folder.glob(f".{name}.*.tmp") if folder.is_dir() else ():
        parts = leftover.name.rsplit(".", 4)
        if len(parts) == 5 and parts[1] == _HOST and parts[2].isdigit() and not _alive(parts[2]):
            with contextlib.suppress(OSError):  # another user's, or still written to: it stays
                remove(leftover)
                swept += 1
    return swept


def remove(path: Path) -> None:
    """Remove a file or a folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        with contextlib.suppress(FileNotFoundError):  # another process removes it too
            shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: Path, on_wait: Callable[[], object]) -> Iterator[None]:
    """Keep other processes that want ``folder`` waiting until this process is done, or dead.

    ``on_wait()`` is called before waiting for another process. A file system without locks does not
    lock: two processes then do the work twice.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield


@contextlib.contextmanager
def alone(folder: Path, busy: str) -> Iterator[None]:
    """Hold ``folder``; ArasError with the text ``busy`` when another process holds it.

    The lock ends with the process. A file system without locks does not lock.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ArasError(busy) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 ``text`` with LF line ends, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any, indent: int | None = 2) -> None:
    """Write ``value`` as JSON, indented for people unless ``indent`` is None, atomically."""
    write_text(path, json.dumps(value, indent=indent, ensure_ascii=False) + "\n")


def write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV with LF line ends, atomically; no text in it is a formula of a spreadsheet."""
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerows(map(csv_cell, row) for row in rows)


def read_json(path: Path, most: int | None = None) -> Any:
    """The JSON value of a file. Raises OSError, and ValueError as `parse_json`."""
    with path.open("rb") as file:
        return parse_json(file.read(-1 if most is None else most + 1), most)


def parse_json(text: bytes, most: int | None = None) -> Any:
    """The value of JSON in UTF-8, of at most ``most`` bytes where it is of other people.

    Raises ValueError for what is not JSON, is larger, nested deeper than Python's stack, or holds
    integers of more digits than Python reads (4,300).
    """
    if most is not None and len(text) > most:
        raise ValueError(f"more than {most:,} bytes")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def digest_of(value: Any) -> str:
    """sha256 of the canonical JSON of ``value`` (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_file(path: Path) -> str:
    return hash_file(path, "sha256")["sha256"]


def hash_file(
    path: Path, *algorithms: str, advance: Callable[[int], None] | None = None
) -> dict[str, str]:
    """Hex digests of a file by each of ``algorithms``, read once; ``advance`` hears of bytes."""
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            for state in hashes.values():
                state.update(chunk)
            if advance:
                advance(len(chunk))
    return {name: state.hexdigest() for name, state in hashes.items()}


def content_hashes(paths: Iterable[Path], cache: Path) -> dict[str, str]:
    """sha256 of each file, by its path as text.

    Files whose size and modification time are those in ``cache`` are not read again, as git's
    index does it. Raises OSError for a missing file.
    """
    stats = {str(path): path.stat() for path in paths}
    stamps = {path: [stat.st_size, stat.st_mtime_ns] for path, stat in stats.items()}
    return remembered(stamps, cache, sha256_file)


def remembered(
    stamps: Mapping[str, list[Any]], cache: Path, compute: Callable[[Path], Value | None]
) -> dict[str, Value]:
    """What ``compute`` gives for each path, a JSON value; what it gives None for is left out.

    It is asked again only of paths whose stamp is not that in ``cache``, which may be deleted at
    any time.
    """
    try:
        known = read_json(cache)
    except (FileNotFoundError, ValueError):
        known = {}
    known = known if isinstance(known, dict) else {}
    fresh = {}
    for path, stamp in stamps.items():
        entry = known.get(path)
        if not entry or entry[:-1] != stamp:
            entry = [*stamp, compute(Path(path))]
        if entry[-1] is not None:
            fresh[path] = entry
    if any(known.get(path) != entry for path, entry in fresh.items()):
        with contextlib.suppress(OSError):  # a full or read-only disk costs speed alone
            write_json(cache, {**known, **fresh})
    return {path: entry[-1] for path, entry in fresh.items()}


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
        status = Path(f"/proc/{pid}/stat").read_text()
    except (ProcessLookupError, PermissionError) as error:
        return isinstance(error, PermissionError)  # another user's process lives
    except FileNotFoundError:  # it ended just now, or this system has no /proc
        return not Path("/proc/self/stat").exists()
    return status.rpartition(")")[2].split()[0] != "Z"  # ended, but nobody has asked how


def no_such_file(path: Path) -> ArasError:
    """The error of a file that does not exist: it names what lies beside it, the nearest first."""
    folder = path.parent
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    try:
        names = sorted(child.name for child in folder.iterdir() if not child.name.startswith("."))
    except OSError:
        names = []
    near = difflib.get_close_matches(path.name, names, n=3)
    shown = [*near, *(name for name in names if name not in near)][:5]
    where = "beside it" if folder == path.parent else f"in {folder}"
    what = f"; {where}: {', '.join(shown)}{', …' if len(names) > len(shown) else ''}"
    return ArasError(f"{path}: no such file{what if shown else '; check the path'}")
