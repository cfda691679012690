"""Engines: the same worker over the same tasks, in this process, in several, or on Ray."""

import contextlib
import functools
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from builder.core.dispatch import Dispatch, Outcome
from builder.core.errors import ArasError, ShortOfMemory, WorkFailed
from builder.core.fields import Count, Section

FEW = 32
"""Most light tasks that are not worth a pool of processes."""

Kind = Literal["serial", "processes", "ray"]
KINDS: tuple[str, ...] = get_args(Kind)


class Opener(Protocol):
    """Picklable; ``open`` is called once per worker and returns the function for a task."""

    def open(self) -> Callable[[Any], Any]: ...


@dataclass(frozen=True)
class Engine:
    """``map`` yields (task, outcome) as they end; an error of one task never stops the others."""

    kind: str = "serial"
    workers: int = 0
    """Workers at once; 0 means one per core, or per GPU for a stage that wants GPUs."""
    devices: tuple[str, ...] | None = None
    """GPUs as CUDA_VISIBLE_DEVICES names them; None means those that this process sees."""

    def map(
        self, opener: Opener, tasks: Sequence[Any], gpus: float = 0, light: bool = False
    ) -> Generator[tuple[Any, Outcome], None, None]:
        """``light`` tasks cost less than starting a process: a few of them stay in this process.

        Close it when leaving early (Ctrl-C): workers then end at once.
        """
        if not tasks:
            return
        if self.kind == "processes" and not (light and len(tasks) <= FEW):
            devices = () if not gpus else _visible() if self.devices is None else self.devices
            slots = int(len(devices) / gpus) if devices else os.cpu_count()
            yield from _processes(opener, tasks, self.workers or slots or 1, devices)
        elif self.kind == "ray":
            from builder.core.ray_cluster import RayMachines

            machines = RayMachines(functools.partial(_Lazy, opener), gpus)
            yield from Dispatch(machines, tasks, self.workers).run()
        else:
            yield from _serial(opener, tasks)


class EngineSection(Section):
    kind: Kind = "processes"
    workers: Count = Engine.workers


def _visible() -> tuple[str, ...]:
    """The CUDA devices of this process, without loading CUDA."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return tuple(str(i) for i, _ in enumerate(Path("/dev").glob("nvidia[0-9]*")))
    return tuple(name for name in named.split(",") if name not in ("", "-1"))


class _Lazy:
    """Opens at the first task, so that a failing ``open`` is that task's error."""

    def __init__(self, opener: Opener) -> None:
        self.opener = opener
        self.function: Callable[[Any], Any] | None = None

    def __call__(self, task: Any) -> Outcome:
        try:
            if self.function is None:
                self.function = self.opener.open()
            return self.function(task)
        except Exception as error:  # noqa: BLE001 - becomes the task's outcome
            return _portable(error)


def _portable(error: Exception) -> Exception:
    """The error in a form that pickles; errors of libraries often do not."""
    if isinstance(error, ArasError):
        return error
    if isinstance(error, MemoryError):
        return ShortOfMemory(str(error))
    return WorkFailed(f"{type(error).__name__}: {error}")


def _serial(opener: Opener, tasks: Sequence[Any]) -> Iterator[tuple[Any, Outcome]]:
    worker = _Lazy(opener)
    for task in tasks:
        yield task, worker(task)


_worker: _Lazy


def _start(
    opener: Opener, leash: multiprocessing.connection.Connection, seats: "SimpleQueue[str]"
) -> None:
    """Set up a worker; where there are ``seats`` it takes a seat: its only GPU."""
    global _worker
    if not seats.empty():
        os.environ["CUDA_VISIBLE_DEVICES"] = seats.get()
    _worker = _Lazy(opener)
    threading.Thread(target=_follow, args=(leash,), daemon=True).start()


def _follow(leash: multiprocessing.connection.Connection) -> None:
    """End this worker when the other end of the pipe closes: let go, interrupted or killed."""
    multiprocessing.connection.wait([leash])
    os._exit(1)


def _work(task: Any) -> Outcome:
    return _worker(task)


def _processes(
    opener: Opener, tasks: Sequence[Any], workers: int, devices: Sequence[str]
) -> Iterator[tuple[Any, Outcome]]:
    """A process pool that survives the death of a worker; the workers share the ``devices``.

    When a worker dies (out of memory, a crash in C) the pool breaks and takes every task in
    flight with it. Those are tried once more, each alone, so that only the guilty task fails.
    """
    queue, suspects = deque(tasks), deque[Any]()
    while queue:
        yield from _until_broken(opener, queue, min(workers, len(queue)), suspects, devices)
    for task in suspects:
        guilty = deque[Any]()
        yield from _until_broken(opener, deque([task]), 1, guilty, devices)
        if guilty:
            yield task, WorkFailed("its worker process died (out of memory, or a crash)")


def _until_broken(
    opener: Opener,
    queue: deque[Any],
    size: int,
    suspects: deque[Any],
    devices: Sequence[str],
) -> Iterator[tuple[Any, Outcome]]:
    """Work through ``queue`` with one pool; what was in flight when it broke goes to suspects."""
    flying: dict[Future[Outcome], Any] = {}
    broken = False
    with _pool(opener, size, devices) as pool:
        while flying or (queue and not broken):
            while queue and not broken and len(flying) < 2 * size:
                task = queue.popleft()
                try:
                    with _sigint_blocked():
                        flying[pool.submit(_work, task)] = task
                except BrokenProcessPool:
                    broken = True
                    suspects.append(task)
            for future in wait(flying, return_when=FIRST_COMPLETED).done:
                task, error = flying.pop(future), future.exception()
                if isinstance(error, BrokenProcessPool):
                    broken = True
                    suspects.append(task)
                else:
                    yield task, error or future.result()


@contextlib.contextmanager
def _pool(opener: Opener, size: int, devices: Sequence[str]) -> Iterator[ProcessPoolExecutor]:
    """A pool whose workers end with it, however it ends: the kernel closes a killed pool's pipe."""
    context = multiprocessing.get_context("spawn")
    leash, hand = context.Pipe(duplex=False)
    seats = context.SimpleQueue()
    for i in range(size if devices else 0):
        seats.put(devices[i % len(devices)])
    pool = ProcessPoolExecutor(size, context, initializer=_start, initargs=(opener, leash, seats))
    try:
        yield pool
    except BaseException:
        hand.close()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        hand.close()
        leash.close()


@contextlib.contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Processes started inside never see Ctrl-C: the parent does, and lets them go."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
