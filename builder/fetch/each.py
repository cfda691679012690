"""Work on many files from a few threads, results as they come."""

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from typing import Any


def each(
    items: Iterable[Any],
    jobs: int,
    work: Callable[[Any], Any],
    stop: threading.Event | None = None,
) -> Generator[tuple[Any, Any], None, None]:
    """(item, result or exception) in the order of finishing, from ``jobs`` threads.

    The threads are daemons, so that Ctrl-C ends the command even while one waits for a silent
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
