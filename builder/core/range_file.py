"""A file that is read by ranges, wherever they come from, for readers that seek."""

import io
from collections.abc import Callable
from typing import Any


class RangeFile(io.RawIOBase):
    """``size`` bytes, of which ``fetch(start, end)`` gives those from ``start`` to ``end``."""

    def __init__(self, size: int, fetch: Callable[[int, int], bytes]) -> None:
        self.size, self.fetch, self.place = size, fetch, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: self.size}[whence]
        self.place = max(0, origin + offset)
        return self.place

    def read(self, length: int | None = -1) -> bytes:
        whole = length is None or length < 0
        end = self.size if whole else min(self.size, self.place + (length or 0))
        if end <= self.place:
            return b""
        data = self.fetch(self.place, end)
        self.place += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
