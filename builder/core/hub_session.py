"""huggingface_hub's own session with a least rate, and a total time for calls that have one.

The library sends and reads without any time-out, so a server that trickles would hold a command for
ever. The bounds are set where bytes move, so they hold for heads, bodies and uploads alike. Xet has
a client of its own, which its environment variables bound (`publish/hub_client.environment`).
"""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from builder.core import budgets

_PIECE = 1 << 16
"""Bytes written at a time, so that a server that reads slowly is noticed."""

_call = threading.local()


@contextlib.contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """What this thread asks the Hub inside ends with a time-out after ``seconds``; None: never."""
    before = getattr(_call, "end", None)
    _call.end = None if seconds is None else time.monotonic() + seconds
    try:
        yield
    finally:
        _call.end = before


def is_over() -> bool:
    """Whether the time of the enclosing `within` is spent: asking again would be of no use."""
    end = getattr(_call, "end", None)
    return end is not None and time.monotonic() >= end


def bound() -> None:
    """Give every session of huggingface_hub in this process its bounds; may be called again.

    A connection that brings or takes fewer than `budgets.LEAST_BYTES` in `budgets.ANSWER_SECONDS`
    of waiting ends with the library's own time-out error, which is retried like any other.
    """
    import huggingface_hub.utils

    hub: Any = huggingface_hub
    plain = hub.utils.get_session()  # as the library makes it

    def client() -> Any:
        session = type(plain)(
            event_hooks=plain.event_hooks, follow_redirects=True, timeout=budgets.ANSWER_SECONDS
        )
        # httpx has no public way to watch the bytes of its connections.
        for transport in [session._transport, *session._mounts.values()]:
            if pool := getattr(transport, "_pool", None):
                pool._network_backend = _Backend(pool._network_backend)
        return session

    hub.set_client_factory(client)


class _Backend:
    """Opens connections that are watched."""

    def __init__(self, backend: Any) -> None:
        self.backend: Any = backend
        self.library: Any = sys.modules[type(self.backend).__module__.partition(".")[0]]

    def connect_tcp(self, *where: Any, **how: Any) -> "_Watched":
        return _Watched(self.backend.connect_tcp(*where, **how), self.library)

    def connect_unix_socket(self, *where: Any, **how: Any) -> "_Watched":
        return _Watched(self.backend.connect_unix_socket(*where, **how), self.library)

    def sleep(self, seconds: float) -> None:
        self.backend.sleep(seconds)


class _Watched:
    """A connection that knows how long it has waited for how many bytes."""

    def __init__(self, stream: Any, library: Any) -> None:
        self.stream, self.library = stream, library
        self.waited, self.moved, self.is_read = 0.0, 0, False

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self.is_read = True
        with self._waiting(timeout) as limit:
            data: bytes = self.stream.read(max_bytes, limit)
            self.moved += len(data)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if self.is_read:  # another request begins
            self.waited, self.moved, self.is_read = 0.0, 0, False
        for start in range(0, len(buffer), _PIECE):
            piece = buffer[start : start + _PIECE]
            with self._waiting(timeout) as limit:
                self.stream.write(piece, limit)
                self.moved += len(piece)

    @contextlib.contextmanager
    def _waiting(self, timeout: float | None) -> Iterator[float]:
        """Yields the seconds that a step may take; counts those that it took."""
        started, most = time.monotonic(), budgets.ANSWER_SECONDS
        end = getattr(_call, "end", None)
        left = most - self.waited if end is None else min(most - self.waited, end - started)
        if left > 0:
            try:
                yield left if timeout is None else min(left, timeout)
            except self.library.TimeoutException:
                if time.monotonic() - started < left:  # it was the caller's time-out
                    raise
            else:
                self.waited += time.monotonic() - started
                if self.moved >= budgets.LEAST_BYTES:
                    self.waited, self.moved = 0.0, 0
                return
        rate = f"fewer than {budgets.LEAST_BYTES:,} bytes within {most:g} s"
        raise self.library.ReadTimeout("no answer in time" if is_over() else rate)

    def close(self) -> None:
        self.stream.close()

    def start_tls(self, *how: Any, **options: Any) -> "_Watched":
        return _Watched(self.stream.start_tls(*how, **options), self.library)

    def get_extra_info(self, info: str) -> Any:
        return self.stream.get_extra_info(info)
