"""A server that gives and takes bytes slowly, however it is asked."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PAUSE = 0.02
"""Seconds between two bytes."""

TLS = b"\x16\x03\x03\x40\x00" + bytes(0x4000)
"""The beginning of a handshake of 16 kB."""


@contextmanager
def trickling(
    how: str = "body", size: int = 1000, body: bytes = b"", pause: float = PAUSE
) -> Iterator[str]:
    """An address that sends a byte every ``pause`` seconds: of the ``head`` too, of the ``body``
    alone, or of a ``tls`` handshake. It is ``deaf`` when it reads no request and sends nothing."""
    closing = threading.Event()
    data = body or bytes(size)
    head = f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(data)}\r\n\r\n"
    answer = head.encode() + data
    whole = answer.index(b"\r\n\r\n") + 4 if how == "body" else 0
    if how == "tls":
        answer = TLS

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            if how == "deaf":
                closing.wait()
                return
            with suppress(OSError):
                self.request.recv(65536)
                self.request.sendall(answer[:whole])
                for byte in answer[whole:]:
                    if closing.wait(pause):
                        return
                    self.request.sendall(bytes([byte]))

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        scheme = "https" if how == "tls" else "http"
        yield f"{scheme}://127.0.0.1:{server.server_address[1]}/"
    finally:
        closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
