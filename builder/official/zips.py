"""Zip archives of any number of entries, read in place with bounded memory.

The standard zipfile holds an object per entry (about 0.5 GB for the 600,000 of synth.zip) and
every worker would build that list again. Here the central directory is walked once, and a worker
reads an entry by its offset.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from builder.core.errors import ArasError
from builder.official.names import Refused

_END, _END64, _LOCATOR = b"PK\5\6", b"PK\6\6", b"PK\6\7"
_ENTRY = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_FULL = 0xFFFFFFFF
STORED, DEFLATED = 0, 8

MOST_RATIO = 200
"""An entry that claims to unpack to more than this many times its size counts as a bomb."""
SMALL = 1 << 16
"""Entries up to this many bytes may have any ratio."""


@dataclass(frozen=True)
class Member:
    """One entry of an archive; sizes in bytes, ``offset`` that of its local header."""

    name: str
    offset: int
    packed: int
    size: int
    crc: int
    method: int
    encrypted: bool = False

    @property
    def is_folder(self) -> bool:
        return self.name.endswith("/")


def members(path: Path) -> Iterator[Member]:
    """Walk the central directory. Raises ArasError when the file is not a whole zip."""
    with path.open("rb") as file:
        total, start, size = _directory(file, path)
        file.seek(start)
        for number in range(total):
            try:
                yield _member(file)
            except (struct.error, ValueError) as error:
                raise _damaged(path, f"entry {number} of its directory ({error})") from error
        if file.tell() != start + size:
            raise _damaged(path, "its directory holds more than it says")


def read(file: BinaryIO, member: Member, most: int) -> bytes:
    """The bytes of an entry, checked against its size and CRC-32.

    Raises Refused when it is encrypted, packed by another method than deflate, larger than
    ``most`` bytes, a bomb by `MOST_RATIO`, or damaged. Never holds more than ``most`` + 1 bytes.
    """
    check(member, most)
    _to_data(file, member)
    data = file.read(member.packed)
    if member.method == DEFLATED:
        unpack = zlib.decompressobj(-15)
        try:
            data = unpack.decompress(data, member.size + 1)
        except zlib.error as error:
            raise Refused(f"damaged in the archive ({error})") from error
    if len(data) != member.size or zlib.crc32(data) != member.crc:
        raise Refused("damaged in the archive (its size or CRC-32 is not as listed)")
    return data


def check(member: Member, most: int) -> None:
    """Raises Refused for an entry that `read` would not unpack, without reading it."""
    if member.encrypted:
        raise Refused("encrypted")
    if member.method not in (STORED, DEFLATED):
        raise Refused(f"unknown packing: method {member.method}, expected stored or deflate")
    if member.size > most:
        raise Refused(f"too large: {member.size:,} bytes unpacked, at most {most:,} are read")
    if member.size > SMALL and member.size > MOST_RATIO * max(1, member.packed):
        ratio = member.size // max(1, member.packed)
        raise Refused(f"zip bomb: unpacks to {ratio} times its size, at most {MOST_RATIO} is read")


def stream(file: BinaryIO, member: Member, most: int) -> io.BufferedReader:
    """An entry as a binary stream, for tables too large to hold. Raises as `read`, while read."""
    check(member, most)
    _to_data(file, member)
    return io.BufferedReader(_Unpacking(file, member), 1 << 16)


class _Unpacking(io.RawIOBase):
    def __init__(self, file: BinaryIO, member: Member) -> None:
        self._file, self._member = file, member
        self._left, self._size, self._crc = member.packed, 0, 0
        self._unpack = zlib.decompressobj(-15) if member.method == DEFLATED else None
        self._waiting = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        data = self._next(len(buffer))
        self._size += len(data)
        self._crc = zlib.crc32(data, self._crc)
        wrong = self._size > self._member.size
        if not data:
            wrong = (self._size, self._crc) != (self._member.size, self._member.crc)
        if wrong:
            raise Refused("damaged in the archive (its size or CRC-32 is not as listed)")
        buffer[: len(data)] = data
        return len(data)

    def _next(self, most: int) -> bytes:
        """The next unpacked bytes, at most ``most``; empty at the end."""
        while True:
            packed = self._waiting or self._file.read(min(1 << 16, self._left))
            if not self._waiting:
                self._left -= len(packed)
            if self._unpack is None:
                self._waiting = packed[most:]
                return packed[:most]
            try:
                data = self._unpack.decompress(packed, most)
            except zlib.error as error:
                raise Refused(f"damaged in the archive ({error})") from error
            self._waiting = self._unpack.unconsumed_tail
            if data or self._unpack.eof or not (packed or self._waiting):
                return data


def _to_data(file: BinaryIO, member: Member) -> None:
    """Move to the first byte of an entry, past its local header."""
    file.seek(member.offset)
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size or not header.startswith(b"PK\3\4"):
        raise Refused("damaged in the archive (no entry where its directory says)")
    name, extra = _LOCAL.unpack(header)[-2:]
    file.seek(name + extra, io.SEEK_CUR)


def _directory(file: BinaryIO, path: Path) -> tuple[int, int, int]:
    """(entries, offset, bytes) of the central directory, from the records at the end."""
    length = file.seek(0, io.SEEK_END)
    tail_size = min(length, 22 + 0xFFFF)
    file.seek(length - tail_size)
    tail = file.read(tail_size)
    place = tail.rfind(_END)
    while place >= 0 and not _ends(tail, place):
        place = tail.rfind(_END, 0, place + 3)  # a signature inside a comment
    if place < 0:
        raise _damaged(path, "no end record: not a zip, or only a part of a zip")
    total, size, start = struct.unpack("<10xHII", tail[place : place + 20])
    end = length - tail_size + place
    locator = tail[max(0, place - 20) : place]
    if locator.startswith(_LOCATOR):
        (where,) = struct.unpack("<8xQ4x", locator)
        file.seek(where)
        record = file.read(56)
        if len(record) < 56 or not record.startswith(_END64):
            raise _damaged(path, "its 64-bit end record is missing")
        total, size, start = struct.unpack("<32xQQQ", record)
        end = where
    if start + size != end:
        raise _damaged(path, "its directory is not where its end record says")
    return total, start, size


def _ends(tail: bytes, place: int) -> bool:
    """The comment of the end record at ``place`` reaches to the end of the file."""
    comment = int.from_bytes(tail[place + 20 : place + 22], "little")
    return place + 22 + comment == len(tail)


def _member(file: BinaryIO) -> Member:
    fields = _ENTRY.unpack(file.read(_ENTRY.size))
    if fields[0] != b"PK\1\2":
        raise ValueError("no signature")
    flags, method, crc, packed, size = fields[3], fields[4], *fields[7:10]
    lengths, offset = fields[10:13], fields[16]
    rest = file.read(sum(lengths))
    if len(rest) != sum(lengths):
        raise ValueError("cut short")
    name = rest[: lengths[0]].decode("utf-8" if flags & 0x800 else "cp437", "replace")
    if _FULL in (size, packed, offset):
        size, packed, offset = _wide(rest[lengths[0] :][: lengths[1]], size, packed, offset)
    return Member(name, offset, packed, size, crc, method, bool(flags & 1))


def _wide(extra: bytes, *values: int) -> list[int]:
    """The values of a 64-bit extra field in place of those whose bits are all set."""
    while len(extra) >= 4:
        kind, length = struct.unpack("<HH", extra[:4])
        if kind == 1:
            wide = struct.iter_unpack("<Q", extra[4 : 4 + length // 8 * 8])
            return [next(wide)[0] if value == _FULL else value for value in values]
        extra = extra[4 + length :]
    return list(values)


def _damaged(path: Path, what: str) -> ArasError:
    return ArasError(f"{path}: not a whole zip ({what}); fetch it again")
