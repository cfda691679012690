"""Zip archives of any number of entries, read in place with bounded memory.

The standard zipfile holds an object per entry (about 0.5 GB for the 600,000 of synth.zip) and
every worker would build that list again. Here the central directory is walked once, and a worker
reads an entry by its offset.
"""

import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, NamedTuple

from zlib_ng import zlib_ng

from builder.core import budgets
from builder.core.errors import ArasError, blame_memory
from builder.official.names import Refused

_END, _END64, _LOCATOR = b"PK\5\6", b"PK\6\6", b"PK\6\7"
_ENTRY = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_FULL = 0xFFFFFFFF
_WRAP = 1 << 32
STORED, DEFLATED = 0, 8


@dataclass(frozen=True)
class Member:
    """One entry of an archive; sizes in bytes, ``offset`` that of its local header.

    ``damage`` says why an entry cannot be where or what the directory says.
    """

    name: str
    offset: int
    packed: int
    size: int
    crc: int
    method: int
    encrypted: bool = False
    damage: str = ""

    @property
    def is_folder(self) -> bool:
        return self.name.endswith("/")


class _Directory(NamedTuple):
    """Where a central directory is. Offsets in it count from ``shift``: what stands before the
    archive, such as the program of one that unpacks itself. ``wide`` counts have 64 bits."""

    start: int
    size: int
    total: int
    shift: int
    wide: bool

    @property
    def wrapped(self) -> bool:
        """Whether places are modulo 2^32, as macOS's Archive Utility writes large archives: what
        would stand before the archive is a multiple of that."""
        return not self.wide and self.shift > 0 and self.shift % _WRAP == 0


def members(path: Path) -> Iterator[Member]:
    """Walk the central directory to its end, as zipfile does.

    Bytes before or after the archive, a count of entries modulo 65,536 and places modulo 4 GB,
    which some programs write, are no damage. An entry that lies about itself says so in its
    ``damage``. Raises ArasError when the file is not a whole zip.
    """
    with path.open("rb") as file:
        directory = _directory(file, path)
        least = 0
        end, number = directory.start + directory.size, 0
        file.seek(directory.start)
        while (place := file.tell()) < end:
            try:
                member = _member(file, directory)
                if directory.wrapped:
                    member = _unwrapped(file, member, least, directory.start)
                    least = member.offset + _LOCAL.size + member.packed
            except (struct.error, ValueError) as error:
                raise _damaged(path, f"entry {number} of its directory ({error})") from error
            number += 1
            yield member
        if place != end:
            raise _damaged(path, "its directory holds more than it says")
        if directory.total not in ((number,) if directory.wide else (number, number & 0xFFFF)):
            raise _damaged(
                path, f"its directory has {number:,} entries, its end record {directory.total:,}"
            )


def read(file: BinaryIO, member: Member, most: int) -> bytes:
    """The bytes of an entry, checked against its size and CRC-32.

    Raises Refused when it is encrypted, packed by another method than deflate, larger than
    ``most`` bytes, a bomb by `budgets.ZIP_RATIO`, or damaged. Never holds more than ``most``
    unpacked bytes and about as many packed.
    """
    check(member, most)
    _to_data(file, member)
    data = file.read(member.packed)
    if member.method == DEFLATED:
        unpack = zlib_ng.decompressobj(-15)
        try:
            data = unpack.decompress(data, member.size + 1)
        except zlib_ng.error as error:  # type: ignore[misc]
            blame_memory(error)
            raise Refused(f"damaged in the archive ({error})") from error
    if len(data) != member.size or zlib_ng.crc32(data) != member.crc:
        raise Refused("damaged in the archive (its size or CRC-32 is not as listed)")
    return data


def check(member: Member, most: int) -> None:
    """Raises Refused for an entry that `read` would not unpack, without reading it."""
    if member.damage:
        raise Refused(f"damaged in the archive ({member.damage})")
    if member.encrypted:
        raise Refused("encrypted")
    if member.method not in (STORED, DEFLATED):
        raise Refused(f"unknown packing: method {member.method}, expected stored or deflate")
    if member.size > most:
        raise Refused(f"too large: {member.size:,} bytes unpacked, at most {most:,} are read")
    ratio = member.size // max(1, member.packed)
    if member.size > budgets.ZIP_ANY_RATIO and ratio > budgets.ZIP_RATIO:
        raise Refused(
            f"zip bomb: unpacks to {ratio} times its size, at most {budgets.ZIP_RATIO} is read"
        )
    if member.packed > most + budgets.ZIP_ANY_RATIO:
        raise Refused(f"too large: {member.packed:,} bytes packed, at most {most:,} are read")


def stream(file: BinaryIO, member: Member, most: int) -> io.BufferedReader:
    """An entry as a binary stream, for tables too large to hold. Raises as `read`, while read."""
    check(member, most)
    _to_data(file, member)
    return io.BufferedReader(_Unpacking(file, member), 1 << 16)


class _Unpacking(io.RawIOBase):
    def __init__(self, file: BinaryIO, member: Member) -> None:
        self._file, self._member = file, member
        self._left, self._size, self._crc = member.packed, 0, 0
        self._unpack = zlib_ng.decompressobj(-15) if member.method == DEFLATED else None
        self._waiting = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        data = self._next(len(buffer))
        self._size += len(data)
        self._crc = zlib_ng.crc32(data, self._crc)
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
            except zlib_ng.error as error:  # type: ignore[misc]
                blame_memory(error)
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


def _directory(file: BinaryIO, path: Path) -> _Directory:
    """The central directory, by the end record that leads to one.

    A record whose comment reaches to the end of the file comes first: a signature may be inside a
    comment, and bytes may stand after the archive.
    """
    length = file.seek(0, io.SEEK_END)
    tail_size = min(length, 2 * 0xFFFF)
    file.seek(length - tail_size)
    tail = file.read(tail_size)
    places = [match.start() for match in re.finditer(re.escape(_END), tail)]
    places = [place for place in places if place + 22 <= len(tail)]
    if not places:
        raise _damaged(path, "no end record: not a zip, or only a part of a zip")
    for place in sorted(places, key=lambda place: (_ends(tail, place), place), reverse=True):
        record = tail[place : place + 22]
        if directory := _directory_before(file, record, length - tail_size + place):
            return directory
    raise _damaged(path, "its directory is not where its end record says")


def _directory_before(file: BinaryIO, record: bytes, end: int) -> _Directory | None:
    """The directory that an end record at ``end`` describes; None when it is not there."""
    total, size, start = struct.unpack_from("<10xHII", record)
    wide = False
    locator = _read_at(file, end - 20, 20)
    if locator.startswith(_LOCATOR):
        (listed,) = struct.unpack("<8xQ4x", locator)
        for place in (listed, end - 20 - 56):  # the second where bytes stand before the archive
            if (record := _read_at(file, place, 56)).startswith(_END64):
                total, size, start = struct.unpack("<32xQQQ", record)
                end, wide = place, True
                break
        else:
            return None
    if not size:  # an archive without entries is its end record alone
        return _Directory(end, 0, total, 0, wide) if start == end else None
    for first in (end - size, start):
        begins = _read_at(file, first, 4) == b"PK\1\2"
        if begins and first >= start and first + size <= end:
            return _Directory(first, size, total, first - start, wide)
    return None


def _read_at(file: BinaryIO, place: int, size: int) -> bytes:
    """Bytes at a place that the file itself names; nothing, or fewer, beyond its ends."""
    if not 0 <= place < 1 << 62:
        return b""
    file.seek(place)
    data = file.read(size)
    return data if len(data) == size else b""


def _ends(tail: bytes, place: int) -> bool:
    """Whether the comment of the end record at ``place`` reaches to the end of the file."""
    comment = int.from_bytes(tail[place + 20 : place + 22], "little")
    return place + 22 + comment == len(tail)


def _member(file: BinaryIO, directory: _Directory) -> Member:
    fields = _ENTRY.unpack(file.read(_ENTRY.size))
    if fields[0] != b"PK\1\2":
        raise ValueError("no signature")
    flags, method, crc, packed, size = fields[3], fields[4], *fields[7:10]
    lengths, offset = fields[10:13], fields[16]
    rest = file.read(sum(lengths))
    if len(rest) != sum(lengths):
        raise ValueError("cut short")
    name = rest[: lengths[0]].decode("utf-8" if flags & 0x800 else "cp437", "replace")
    damage = ""
    if _FULL in (size, packed, offset):
        try:
            extra = rest[lengths[0] :][: lengths[1]]
            size, packed, offset = _wide(extra, size, packed, offset)
        except ValueError as error:
            damage = str(error)
    offset += directory.shift
    if offset + _LOCAL.size + packed > directory.start:
        damage = damage or "it claims bytes beyond the end of the entries"
    return Member(name, offset, packed, size, crc, method, bool(flags & 1), damage)


def _unwrapped(file: BinaryIO, member: Member, least: int, most: int) -> Member:
    """A member whose offset is known modulo 2^32: the first place from ``least`` on, where the
    entry before it ends, at which an entry of its name begins."""
    offset, here = member.offset % _WRAP, file.tell()
    while offset < least or not _begins(file, offset, member.name):
        offset += _WRAP
        if offset >= most:
            file.seek(here)
            damage = "its place is known modulo 4 GB alone, and none has its name"
            return replace(member, damage=damage)
    file.seek(here)
    is_beyond = offset + _LOCAL.size + member.packed > most
    return replace(member, offset=offset, damage=member.damage if is_beyond else "")


def _begins(file: BinaryIO, place: int, name: str) -> bool:
    """Whether an entry of a name begins at a place."""
    header = _read_at(file, place, _LOCAL.size)
    if not header.startswith(b"PK\3\4"):
        return False
    held = file.read(_LOCAL.unpack(header)[-2])
    return name in (held.decode("utf-8", "replace"), held.decode("cp437"))


def _wide(extra: bytes, *values: int) -> list[int]:
    """The values of a 64-bit extra field in place of those whose bits are all set.

    Raises ValueError where the field is too short for them.
    """
    while len(extra) >= 4:
        kind, length = struct.unpack("<HH", extra[:4])
        if kind == 1:
            field = extra[4 : 4 + length]
            wide = struct.iter_unpack("<Q", field[: len(field) // 8 * 8])
            given = [next(wide, (None,))[0] if value == _FULL else value for value in values]
            if None in given:
                raise ValueError("its 64-bit sizes are cut short")
            return [int(value) for value in given if value is not None]
        extra = extra[4 + length :]
    return list(values)


def _damaged(path: Path, what: str) -> ArasError:
    return ArasError(
        f"{path}: not a whole zip ({what}); fetch it again or, if another program unpacks it, "
        "import the unpacked folder"
    )
