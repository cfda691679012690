"""A folder of fetched files: what is verified there, what is to come, fetching it in parallel."""

import contextlib
import errno
import queue
import shutil
import tempfile
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import requests

from builder.core.errors import ArasError, CorruptFile
from builder.core.files import alone, read_json, write_json
from builder.core.web import TIMEOUT, in_words, reason, retrying, status_of, unreachable
from builder.fetch.download import Line, NoSpace, Remote, Stopped, download, part, verify


def each(
    items: Iterable[Any],
    jobs: int,
    work: Callable[[Any], Any],
    stop: threading.Event | None = None,
) -> Generator[tuple[Any, Any], None, None]:
    """(item, result or exception) in the order of finishing, from ``jobs`` threads.

    The threads are daemons, so that Ctrl-C ends the command even while a thread waits for a silent
    server: a partial file is as good after that as after any other break.
    """
    stop = stop or threading.Event()
    todo: queue.SimpleQueue[Any] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
    for item in items:
        todo.put(item)
    count = todo.qsize()

    def run() -> None:
        while not stop.is_set():
            try:
                item = todo.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((item, work(item)))
            except BaseException as error:  # noqa: BLE001 raised where the results are read
                done.put((item, error))

    threads = [threading.Thread(target=run, daemon=True) for _ in range(min(jobs, count))]
    for thread in threads:
        thread.start()
    try:
        for _ in range(count):
            yield done.get()
    except BaseException:
        # Ctrl-C, or the caller needs no more: transfers under way end at their next bytes.
        stop.set()
        for thread in threads:
            thread.join(timeout=1 / len(threads))
        raise


LEDGER = ".fetch.json"
SURVEYED = 1000
"""Most files whose sizes are asked for beforehand, one HEAD request each."""

# What a file may fail with; anything else is a bug and ends the command.
EXPECTED = (ArasError, requests.RequestException, OSError, Stopped)


@dataclass(frozen=True)
class Seen:
    """How a verified file is remembered; it is verified again when any of this changes."""

    size: int
    mtime_ns: int
    md5: str | None


@dataclass
class Plan:
    """Files verified in the folder, to fetch (with size in bytes or None), not on the server."""

    kept: list[Remote] = field(default_factory=list)
    todo: dict[Remote, int | None] = field(default_factory=dict)
    absent: list[Remote] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """Bytes of the files to fetch, as far as their sizes are known."""
        return sum(size or 0 for size in self.todo.values())

    @property
    def unknown(self) -> int:
        """Files to fetch whose size is not known."""
        return sum(size is None for size in self.todo.values())


@dataclass
class Outcome:
    """What a run of fetching came to: files fetched with their bytes, absent, failed with why."""

    fetched: dict[Remote, int] = field(default_factory=dict)
    absent: list[Remote] = field(default_factory=list)
    failed: dict[Remote, str] = field(default_factory=dict)


@contextlib.contextmanager
def locked(to: Path) -> Iterator[None]:
    """Make the folder and hold it alone: two commands must not write one partial file."""
    try:
        to.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=to).close()
    except OSError as error:
        raise ArasError(f"cannot write to {to}: {error.strerror}; give another --to") from error
    with alone(to, f"another aras fetch writes to {to}: wait until it ends, or give another --to"):
        yield


def survey(
    remotes: Iterable[Remote],
    to: Path,
    session: requests.Session,
    *,
    jobs: int,
    say: Callable[[str], None],
    sizes: bool = True,
    backoff: float = 0.5,
) -> Plan:
    """List what is to be fetched, without writing anything.

    Files already under ``to`` are verified: by the ledger when they are unchanged since they
    were, else in full. With ``sizes``, those not known are asked for by HEAD, up to `SURVEYED`
    files. Raises ArasError when the server cannot be reached at all.
    """
    plan, ledger = Plan(), _ledger(to)
    unsized = []
    for remote, held in each(remotes, jobs, lambda remote: _held(remote, to, ledger)):
        if isinstance(held, OSError):
            raise ArasError(f"cannot read {to / remote.name}: {held.strerror}") from held
        if isinstance(held, BaseException):
            raise held
        if held:
            plan.kept.append(remote)
            continue
        plan.todo[remote] = remote.size
        if remote.size is None:
            unsized.append(remote)

    def size(remote: Remote) -> int | None:
        def report(error: BaseException, wait: float) -> None:
            say(f"{remote.name}: {reason(error)}; again {in_words(wait)}")

        return retrying(lambda: _head(remote, session), attempts=3, base=backoff, on_retry=report)

    ask = unsized if sizes and len(unsized) <= SURVEYED else []
    for remote, answer in each(ask, jobs, size):
        if isinstance(answer, requests.RequestException):
            status = status_of(answer)
            if status is None:
                raise unreachable(remote.url, answer) from answer
            if status == 404 and remote.optional:
                plan.absent.append(remote)
                del plan.todo[remote]
        elif isinstance(answer, BaseException):
            raise answer
        else:
            plan.todo[remote] = answer
    return plan


def fetch(
    plan: Plan,
    to: Path,
    session: requests.Session,
    *,
    jobs: int,
    say: Callable[[str], None],
    advance: Callable[..., None],
    backoff: float = 0.5,
) -> Outcome:
    """Fetch what a plan lists, ``jobs`` files at a time; a failed file does not stop the others.

    ``advance(bytes, note)`` gets the progress, ``say(text)`` every finished file and every trouble.
    A full disk ends the run: the files still to come fail too. On KeyboardInterrupt the partial
    files are kept.
    """
    outcome, ledger, stop = Outcome(), _ledger(to), threading.Event()
    _refuse_full_disk(plan, to)
    # Kept files that were verified in full just now need not be next time.
    ledger.update({remote.name: _seen(remote, to) for remote in plan.kept})
    _write_ledger(to, ledger)
    for remote in plan.todo:
        if (to / remote.name).exists():
            say(f"{remote.name}: the existing file does not verify; replacing it")
    line = Line(session, advance, say, stop, backoff)

    def bring(remote: Remote) -> None:
        try:
            download(remote, to / remote.name, line)
        except (OSError, NoSpace) as error:
            if _full(error):
                stop.set()
            raise

    with contextlib.closing(each(plan.todo, jobs, bring, stop)) as results:
        for count, (remote, error) in enumerate(results, 1):
            if error is None:
                seen = ledger[remote.name] = _seen(remote, to)
                outcome.fetched[remote] = seen.size
                _write_ledger(to, ledger)
                say(f"{remote.name}: {megabytes(seen.size)}, verified")
            elif remote.optional and status_of(error) == 404:
                outcome.absent.append(remote)
            elif isinstance(error, Stopped):
                continue
            elif isinstance(error, EXPECTED):
                outcome.failed[remote] = _why(error)
                say(f"{remote.name}: failed: {outcome.failed[remote]}")
                if _full(error):
                    break
            else:
                raise error
            advance(0, f"{count}/{len(plan.todo)} files")
    for remote in plan.todo:
        if not (remote in outcome.fetched or remote in outcome.failed or remote in outcome.absent):
            outcome.failed[remote] = "stopped: no space left"
    return outcome


def megabytes(size: float) -> str:
    """Bytes for people: 455.2 MB, 12.34 GB."""
    return f"{size / 1e9:,.2f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


def _held(remote: Remote, to: Path, ledger: dict[str, Seen]) -> bool:
    """Whether the file is under its final name and verified."""
    path = to / remote.name
    if not path.exists():
        return False
    if ledger.get(remote.name) == _seen(remote, to) and remote.size in (None, path.stat().st_size):
        return True
    try:
        verify(path, remote)
    except CorruptFile:
        return False
    return True


def _seen(remote: Remote, to: Path) -> Seen:
    status = (to / remote.name).stat()
    return Seen(status.st_size, status.st_mtime_ns, remote.md5)


def _ledger(to: Path) -> dict[str, Seen]:
    """The verified files by name; a file that is missing here is verified in full."""
    try:
        return {name: Seen(**seen) for name, seen in read_json(to / LEDGER).items()}
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return {}


def _write_ledger(to: Path, ledger: dict[str, Seen]) -> None:
    write_json(to / LEDGER, {name: asdict(seen) for name, seen in ledger.items()})


def _head(remote: Remote, session: requests.Session) -> int | None:
    answer = session.head(remote.address, allow_redirects=True, timeout=TIMEOUT)
    answer.raise_for_status()
    text = answer.headers.get("Content-Length", "")
    return int(text) if text.isdigit() else None


def _refuse_full_disk(plan: Plan, to: Path) -> None:
    there = sum(
        partial.stat().st_size
        for partial in (part(to / remote.name) for remote in plan.todo)
        if partial.exists()
    )
    free = shutil.disk_usage(to).free
    if plan.bytes - there > free:
        raise ArasError(
            f"no space left in {to}: {megabytes(plan.bytes - there)} to fetch, {megabytes(free)} "
            f"free; free some space, give another --to, or fetch less at a time"
        )


def _full(error: BaseException) -> bool:
    return isinstance(error, NoSpace) or (
        isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    )


def _why(error: BaseException) -> str:
    if isinstance(error, ArasError):
        return str(error)
    if _full(error):
        return "no space left on the disk; the partial file is kept"
    return reason(error)
