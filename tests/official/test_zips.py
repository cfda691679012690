"""Zip archives are read in place, as zipfile reads them, and no entry is trusted."""

import contextlib
import io
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.core import budgets
from builder.core.errors import ArasError
from builder.official import zips
from builder.official.names import Refused
from tests.makers.fuzz import tries

MOST = 1 << 20


def write(path: Path, entries: dict[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def read_all(path: Path, most: int = MOST) -> dict[str, bytes]:
    with path.open("rb") as file:
        return {member.name: zips.read(file, member, most) for member in zips.members(path)}


ENTRIES = {"a/b.png": b"x" * 5000, "é.txt": "çay".encode(), "empty": b"", "c": bytes(range(256))}


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_every_entry_reads_as_zipfile_reads_it(tmp_path: Path, packing: int) -> None:
    path = write(tmp_path / "a.zip", ENTRIES, packing)
    assert read_all(path) == ENTRIES
    with zipfile.ZipFile(path) as archive:
        theirs = [(i.filename, i.header_offset, i.file_size, i.CRC) for i in archive.infolist()]
    assert [(m.name, m.offset, m.size, m.crc) for m in zips.members(path)] == theirs


def test_archives_with_comments_streamed_entries_and_64_bit_fields_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"

    class Pipe(io.RawIOBase):  # cannot seek: sizes then follow the data
        def __init__(self) -> None:
            self.file = path.open("wb")

        def writable(self) -> bool:
            return True

        def write(self, data) -> int:
            return self.file.write(data)

        def close(self) -> None:
            self.file.close()

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = b"a comment with PK\5\6 in it" * 3
        for name, data in ENTRIES.items():
            with archive.open(name, "w", force_zip64=True) as out:
                out.write(data)
    pipe.close()
    assert read_all(path) == ENTRIES


def test_a_64_bit_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 50)  # as if every offset were beyond 4 GB
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)
    path = write(tmp_path / "a.zip", ENTRIES)
    assert zips._END64 in path.read_bytes()
    assert read_all(path) == ENTRIES


@pytest.mark.parametrize("cut", [0, 10, 300])
def test_a_part_of_a_zip_is_refused_by_name(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path / "part.zip", ENTRIES)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ArasError, match=r"part\.zip: not a whole zip .* fetch it again"):
        list(zips.members(path))


def test_a_zip_that_lost_its_beginning_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "tail.zip", ENTRIES)
    path.write_bytes(path.read_bytes()[40:])
    with pytest.raises(ArasError, match="directory is not where"):
        list(zips.members(path))


def test_a_count_modulo_65536_and_bytes_around_the_archive_are_no_damage(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", ENTRIES | {f"n/{i}": b"" for i in range(65_536)})
    whole = path.read_bytes()
    place = whole.rindex(b"PK\5\6")
    wide = whole[: whole.rindex(b"PK\6\6")]  # without the 64-bit records, as old programs write
    count = struct.pack("<HH", 4, 4)
    start = struct.unpack("<Q", whole[len(wide) + 48 : len(wide) + 56])[0]
    ends = struct.pack("<II", len(wide) - start, start)
    path.write_bytes(wide + whole[place : place + 8] + count + ends + whole[place + 20 :])
    assert len(list(zips.members(path))) == 65_540
    for before, after in ((b"#!/bin/sh\n", b""), (b"", bytes(512)), (b"MZ" * 99, b"PK\5\6" * 9)):
        for data in (path.read_bytes(), whole):  # of 32 bits and of 64
            path_ = tmp_path / "b.zip"
            path_.write_bytes(before + data + after)
            with path_.open("rb") as file:
                first = next(zips.members(path_))
                assert zips.read(file, first, MOST) == ENTRIES["a/b.png"]
            assert len(list(zips.members(path_))) == 65_540


@pytest.mark.parametrize("claim", [1 << 62, (1 << 63) + 5, (1 << 64) - 1])
@pytest.mark.parametrize("field", ["size", "packed", "offset"])
def test_an_entry_that_claims_what_no_archive_holds_is_refused_alone(
    tmp_path: Path, claim: int, field: str
) -> None:
    path = write(tmp_path / "a.zip", ENTRIES, zipfile.ZIP_STORED)
    data = path.read_bytes()
    central, end = data.index(b"PK\1\2"), data.rindex(b"PK\5\6")
    entry = bytearray(data[central : data.index(b"PK\1\2", central + 1)])
    place = {"packed": 20, "size": 24, "offset": 42}[field]
    entry[place : place + 4] = b"\xff" * 4
    entry[30:32] = struct.pack("<H", 12)
    entry += struct.pack("<HHQ", 1, 8, claim)
    rest = data[central + len(entry) - 12 : end]
    size = struct.pack("<I", len(entry) + len(rest))
    tail = data[end : end + 12] + size + data[end + 16 :]
    path.write_bytes(data[:central] + entry + rest + tail)
    hostile, *others = zips.members(path)
    with path.open("rb") as file:
        with pytest.raises(Refused, match=r"too large|damaged in the archive"):
            zips.read(file, hostile, MOST)
        assert [zips.read(file, member, MOST) for member in others] == list(ENTRIES.values())[1:]


@tries(500)
@given(data=st.data())
def test_a_spoilt_archive_gives_its_entries_or_a_reason(
    tmp_path: Path, data: st.DataObject
) -> None:
    """Whatever bytes change: each entry is whole or refused, or the archive is, with a reason."""
    path = write(tmp_path / "a.zip", ENTRIES)
    spoilt = bytearray(path.read_bytes())
    central = spoilt.index(b"PK\1\2")
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(spoilt) - 1) | st.integers(central, len(spoilt) - 1))
        change = data.draw(st.binary(max_size=8))
        spoilt[place : place + data.draw(st.integers(0, 8))] = change
    path.write_bytes(spoilt)
    with contextlib.suppress(ArasError):  # it is not a whole zip
        walked = list(zips.members(path))
        assert len(walked) == len(ENTRIES)
        for member in walked:
            with path.open("rb") as file, contextlib.suppress(Refused):
                assert zips.read(file, member, MOST) in ENTRIES.values()


def test_a_flipped_byte_shows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", {"one": bytes(range(256)) * 4}, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    with pytest.raises(Refused, match="CRC-32"):
        read_all(path)


def test_an_entry_that_unpacks_to_more_than_it_says_is_not_unpacked_further(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", {"one": b"\0" * 500_000})
    member = next(zips.members(path))
    liar = zips.Member(member.name, member.offset, member.packed, 1000, member.crc, member.method)
    with path.open("rb") as file, pytest.raises(Refused, match="size or CRC-32"):
        zips.read(file, liar, MOST)


def test_a_bomb_is_refused_unread(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", {"bomb": b"\0" * (10 << 20)})
    member = next(zips.members(path))
    with pytest.raises(Refused, match=r"zip bomb: unpacks to 10\d\d times"):
        zips.check(member, 1 << 30)
    with pytest.raises(Refused, match=r"too large: 10,485,760 bytes"):
        zips.check(member, MOST)


def test_small_entries_may_have_any_ratio(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", {"flat": b"\0" * budgets.ZIP_ANY_RATIO})
    assert read_all(path)["flat"] == b"\0" * budgets.ZIP_ANY_RATIO


def test_encrypted_and_exotic_entries_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", {"one": b"x" * 100}, zipfile.ZIP_BZIP2)
    with pytest.raises(Refused, match="unknown packing: method 12"):
        read_all(path)
    data = bytearray(write(path, {"one": b"x"}).read_bytes())
    flags = data.rfind(b"PK\1\2") + 8
    data[flags : flags + 2] = struct.pack("<H", 1)
    path.write_bytes(data)
    with pytest.raises(Refused, match="encrypted"):
        read_all(path)


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_stream_gives_the_same_bytes_in_any_portions(tmp_path: Path, packing: int) -> None:
    text = "".join(f"line {i}\n" for i in range(50_000)).encode()
    path = write(tmp_path / "a.zip", {"big.csv": text, "empty.csv": b""}, packing)
    big, empty = zips.members(path)
    with path.open("rb") as file:
        stream = zips.stream(file, big, 1 << 30)
        assert b"".join(iter(lambda: stream.read(777), b"")) == text
        assert zips.stream(file, empty, 10).read() == b""


def test_a_damaged_stream_says_so_at_its_end(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", {"one": bytes(range(256)) * 999}, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)
    with path.open("rb") as file, pytest.raises(Refused, match="CRC-32"):
        zips.stream(file, next(zips.members(path)), 1 << 30).read()


def test_places_modulo_4_gb_are_found_by_the_names_that_stand_there(tmp_path: Path) -> None:
    """As macOS's Archive Utility writes archives beyond 4 GB; here the middle is a hole."""
    gap = (1 << 32) + 5000
    path, directory, place = tmp_path / "large.zip", b"", 0
    with path.open("wb") as file:
        for number, name in enumerate((b"a.png", b"b.png", b"c.png")):
            data = b"picture %d" % number
            place = file.seek(gap) if number == 1 else file.tell()
            sizes = (zlib.crc32(data), len(data), len(data))
            file.write(struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 0, *sizes, len(name), 0))
            file.write(name + data)
            fixed = (b"PK\1\2", 20, 20, 0, 0, 0, 0, *sizes, len(name), 0, 0, 0, 0, 0)
            directory += struct.pack("<4s6H3I5H2I", *fixed, place % (1 << 32)) + name
        start = file.tell()
        end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 3, 3, len(directory), start % (1 << 32), 0)
        file.write(directory + end)
    with path.open("rb") as file:
        held = {member.name: zips.read(file, member, 100) for member in zips.members(path)}
    assert held == {f"{name}.png": b"picture %d" % i for i, name in enumerate("abc")}
