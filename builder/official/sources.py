"""Sources of an import: zips, folders and captions.csv files, their entries and their bytes."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from builder.core import budgets
from builder.core.errors import ArasError, CorruptFile
from builder.core.files import digest_of, hash_file
from builder.core.progress import bar
from builder.land.table_files import SUFFIXES, suffix_of
from builder.official import zips
from builder.official.names import (
    FOLDERS,
    OFFICIAL_MD5,
    OFFICIAL_RECORD,
    Refused,
    group_of,
    stem_of,
)

CAPTIONS = "captions.csv"
PERCENTAGES = "class_percentages"
SIDECAR = "streams.json"
"""Beside captions.csv: which stream each of its caption columns holds, and who wrote it."""
ANY = "any"
"""In place of an md5: any content is taken."""

MOST_DEPTH = 8
"""Folders within folders; a link that goes in circles ends there."""

_TABLES = ("dataset_dict.json", "state.json", "*.arrow", "*.parquet", "*.tar")
"""What makes a folder one of captions: a file of `datasets`, Arrow, Parquet or WebDataset."""

_UNSAFE = re.compile(r"^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)|\0")


@dataclass(frozen=True)
class Source:
    """``kind`` is zip, folder, table (of the layout) or captions (any other file of captions)."""

    path: Path
    kind: str

    @property
    def group(self) -> str | None:
        """The split that the source's own name says, if any."""
        return group_of(self.path.name if self.kind == "folder" else self.path.stem)


@dataclass(frozen=True)
class Entry:
    """A picture or table of a source. ``role`` is image, mask, generated, captions, percentages or,
    for captions that are not of the layout, others.

    ``stamp`` identifies the content: CRC-32 and size in a zip, size and time of a file. ``member``
    says where a zip has it.
    """

    role: str
    group: str | None
    name: str
    path: str
    stamp: str
    member: zips.Member | None = None

    @property
    def is_picture(self) -> bool:
        return self.role in ("image", "mask", "generated")

    @property
    def part(self) -> tuple[str, str]:
        """(role, group) of the row that a picture is part of."""
        generated = self.role == "generated"
        return ("image", "generated") if generated else (self.role, self.group or "")


@dataclass(frozen=True)
class Odd:
    """An entry outside the layout, or not to be trusted: then ``entry`` is what it would be."""

    path: str
    reason: str
    entry: Entry | None = None


def find_sources(paths: Sequence[Path]) -> list[Source]:
    """The sources behind the given paths, and any captions.csv beside or one level above them.

    A folder that holds nothing but zips (as `aras fetch official` leaves it) means those zips.
    Files and `datasets` folders of captions of any other kind are sources too where they are named.
    Raises ArasError for a path that is missing or is none of these.
    """
    sources: list[Source] = []
    for path in paths:
        sources += _sources(path)
    counts = Counter(source.path for source in sources)
    if twice := [path for path, n in counts.items() if n > 1]:
        raise ArasError(f"{min(twice)}: given twice as a source")
    for source in [source for source in sources if source.kind in ("zip", "folder")]:
        beside = (source.path.parent / CAPTIONS).resolve()
        inside = source.kind == "folder" and (source.path / CAPTIONS).is_file()
        if beside.is_file() and not inside and all(beside != other.path for other in sources):
            sources.append(Source(beside, "table"))
        for table in sorted((source.path.parent / PERCENTAGES).glob("*.csv")):
            if source.kind == "zip" and all(table.resolve() != other.path for other in sources):
                sources.append(Source(table.resolve(), "table"))
    return sources


def _sources(path: Path) -> list[Source]:
    path = path.resolve()
    if path.is_dir():
        if any(next(path.glob(pattern), None) for pattern in _TABLES):
            return [Source(path, "captions")]
        inside = archives(path)
        layout = [entry for entry in os.scandir(path) if entry.is_dir() and _is_part(entry.name)]
        if inside and layout:
            raise ArasError(
                f"{path}: holds zips ({inside[0].name}) and folders ({layout[0].name}/): name "
                "those to import"
            )
        return [Source(archive, "zip") for archive in inside] or [Source(path, "folder")]
    if not path.is_file():
        raise ArasError(f"{path}: no such zip, folder or {CAPTIONS}")
    if path.suffix.lower() == ".zip":
        return [Source(path, "zip")]
    if path.name == CAPTIONS or path.parent.name == PERCENTAGES:
        return [Source(path, "table")]
    if suffix_of(path) in SUFFIXES:
        return [Source(path, "captions")]
    raise ArasError(
        f"{path}: not a zip, a folder or a file of captions ({CAPTIONS}, or any "
        f"{', '.join(SUFFIXES)}, packed as .gz or not)"
    )


def archives(path: Path) -> list[Path]:
    """The zips that a path means: itself, those in a folder, or none."""
    if path.is_dir():
        return sorted(path.glob("*.zip"))
    return [path] if path.suffix.lower() == ".zip" else []


def _is_part(name: str) -> bool:
    return name in FOLDERS or group_of(name) is not None


def identity(source: Source) -> str:
    """Digest that changes with a source: size and time of the file, or of each in a folder."""
    if not source.path.is_dir():
        stat = source.path.stat()
        return digest_of([str(source.path), stat.st_size, stat.st_mtime_ns])
    return digest_of([str(source.path), [[path, stamp] for path, stamp in _walk(source.path)]])


def entries(source: Source) -> Iterator[Entry | Odd]:
    """Everything in a source, folders aside. Raises ArasError when it cannot be listed."""
    if source.kind == "zip":
        for member in zips.members(source.path):
            if not member.is_folder:
                stamp = f"{member.crc:08x}:{member.size}"
                yield _checked(classify(member.name, source.group, stamp, member))
    elif source.kind == "folder":
        for path, stamp in _walk(source.path):
            if path != SIDECAR:
                yield classify(path, source.group, stamp)
    elif source.kind == "captions":
        yield Entry("others", None, source.path.name, source.path.name, identity(source))
    else:
        parent = source.path.parent
        inside = PERCENTAGES if parent.name == PERCENTAGES else parent.name
        yield classify(f"{inside}/{source.path.name}", None, identity(source))


def classify(
    path: str, group: str | None, stamp: str, member: zips.Member | None = None
) -> Entry | Odd:
    """What an entry is, by its path alone: a top folder or none, ``group`` where no folder says."""
    if _UNSAFE.search(path):
        return Odd(path, "unsafe name: it leaves the archive")
    parts = path.replace("\\", "/").split("/")
    folder = parts[-2] if len(parts) > 1 else ""
    inner = group_of(parts[-3]) if len(parts) > 2 else None
    if parts[-1] == CAPTIONS:
        return Entry("captions", group_of(folder) or group, parts[-1], path, stamp, member)
    if folder == PERCENTAGES and parts[-1].endswith(".csv"):
        of = group_of(parts[-1][:-4])
        return Entry("percentages", of, parts[-1], path, stamp, member)
    if folder not in FOLDERS or not parts[-1].endswith(".png") or "__MACOSX" in parts:
        return Odd(path, "not part of the layout")
    role, of = FOLDERS[folder], inner or group
    if of is None or (role == "generated" and of != "train"):
        return Odd(path, "unknown split: no folder above is train, val, test or synth")
    try:
        return Entry(role, of, stem_of(parts[-1]), path, stamp, member)
    except Refused as error:
        return Odd(path, str(error))


def _checked(entry: Entry | Odd) -> Entry | Odd:
    """The entry, or an `Odd` for an entry of a zip that must not be unpacked."""
    if isinstance(entry, Odd) or entry.member is None:
        return entry
    table = entry.role in ("captions", "percentages")
    try:
        zips.check(entry.member, budgets.TABLE_BYTES if table else budgets.PICTURE_BYTES)
    except Refused as error:
        return Odd(entry.path, str(error), entry)
    return entry


def open_table(source: Source, entry: Entry) -> BinaryIO:
    """A table as a binary stream."""
    if entry.member is not None:
        return zips.stream(source.path.open("rb"), entry.member, budgets.TABLE_BYTES)
    return table_path(source, entry).open("rb")


def table_path(source: Source, entry: Entry) -> Path:
    """Where a table is that is not in a zip."""
    return source.path / entry.path if source.kind == "folder" else source.path


def read_file(path: Path) -> bytes:
    """The bytes of a picture in a folder. Raises Refused when it is gone or too large."""
    try:
        with path.open("rb") as file:
            data = file.read(budgets.PICTURE_BYTES + 1)
    except OSError as error:
        raise Refused(f"cannot be read: {error.strerror}") from error
    if len(data) > budgets.PICTURE_BYTES:
        raise Refused(f"too large: at most {budgets.PICTURE_BYTES:,} bytes are read")
    return data


def _walk(root: Path) -> Iterator[tuple[str, str]]:
    """(relative path, size:time) of all files under a folder, links followed, sorted."""
    for folder, folders, files in os.walk(root, followlinks=True):
        inside = os.path.relpath(folder, root)
        folders[:] = sorted(folders) if inside.count(os.sep) < MOST_DEPTH else []
        prefix = "" if inside == "." else f"{inside}/"
        for name in sorted(files):
            try:
                stat = os.stat(os.path.join(folder, name))
            except OSError:  # a link that leads nowhere: reading it gives the error
                yield prefix + name, "missing"
                continue
            yield prefix + name, f"{stat.st_size}:{stat.st_mtime_ns}"


def expected_md5(path: Path, given: Mapping[str, str]) -> tuple[str, str] | None:
    """(md5, its origin) of a zip: given by its name, in MD5SUMS beside it, or of the official
    record; None when there is none or `ANY` is given."""
    if path.name in given:
        return None if given[path.name] == ANY else (given[path.name].lower(), "given")
    sums = path.parent / "MD5SUMS"
    if sums.is_file():
        for line in sums.read_text(encoding="utf-8", errors="replace").splitlines():
            value, _, name = line.partition("  ")
            if name.strip() == path.name:
                return value.lower(), "MD5SUMS beside it"
    known = OFFICIAL_MD5.get(path.name)
    return (known, f"record {OFFICIAL_RECORD}") if known else None


def verify(
    sources: Sequence[Source], given: Mapping[str, str], earlier: Mapping[str, Sequence[str]]
) -> dict[str, list[str]]:
    """Check the md5 of every zip whose sum is known: path → [identity, md5].

    ``earlier`` is what the last call returned: a zip unchanged since is not read again. Raises
    ArasError for a given name that is not a source, CorruptFile for a sum that differs.
    """
    zips_ = [source for source in sources if source.kind == "zip"]
    for name in sorted(set(given) - {source.path.name for source in zips_}):
        raise ArasError(f"an md5 is given for {name}, which is not among the zips to import")
    expected = {source: sum_ for source in zips_ if (sum_ := expected_md5(source.path, given))}
    known = {str(source.path): [identity(source), sum_] for source, (sum_, _) in expected.items()}
    stale = [s for s in expected if list(earlier.get(str(s.path), ())) != known[str(s.path)]]
    wrong = []
    size = sum(source.path.stat().st_size for source in stale)
    # hashlib lets go of the interpreter lock.
    with ThreadPoolExecutor(2) as pool, bar("md5", size, "bytes") as advance:
        sums = pool.map(lambda source: hash_file(source.path, "md5", advance=advance), stale)
        for source, digests in zip(stale, sums, strict=True):
            path, (right, origin), actual = source.path, expected[source], digests["md5"]
            if actual != right:
                wrong.append(
                    f"{path}: its md5 is {actual}, expected {right} ({origin}); fetch it again or, "
                    f"if it is another release, give its sum: --md5 {path.name}={actual} (or "
                    f'={ANY}), in a recipe "{path.name}" = "{actual}" under [import.md5]'
                )
    if wrong:
        raise CorruptFile("\n".join(wrong))
    return known


def has_captions(paths: Sequence[Path]) -> bool:
    """There are captions in, beside or above the sources behind ``paths``."""
    return any(
        isinstance(entry, Entry) and entry.role in ("captions", "others")
        for source in sorted(
            find_sources(paths), key=lambda source: source.kind in ("zip", "folder")
        )
        for entry in entries(source)
    )
