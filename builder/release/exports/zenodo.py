"""The format of the official ARAS400k files on Zenodo: folders or zips of PNG, and CSV tables."""

import csv
import io
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from builder.core.errors import ArasError
from builder.core.files import hash_file, write_text
from builder.core.manifest import Manifest, read_manifest
from builder.core.progress import bar
from builder.land.classes import CLASSES, PALETTE
from builder.land.columns import KINDS, SPLITS
from builder.land.pictures import decode_mask, encode_png
from builder.official.names import ERROR, GROUPS, HEADER, STREAMS, stem_of
from builder.official.streams import Column, write_sidecar
from builder.release.exports import Options, Written
from builder.release.rows import opened

TOP = "ARAS400k"
"""Folder at the top of the official zips."""
MIDNIGHT = (1980, 1, 1, 0, 0, 0)
"""Time of every zip entry: equal releases give equal zips."""
COLUMNS = ["id", "image", "mask", "percent", "gen_layout", "captions"]

_GROUP = {GROUPS[group]: group for group in ("train", "val", "test", "synth")}


def write(release: Path, folder: Path, options: Options) -> Written:
    """Write ``release`` into the empty ``folder``.

    A caption column that ``options`` does not fill takes the stream of the same name, or says in
    every row that there is none. Raises ArasError for a stream that neither side has, and for rows
    that would share a name.
    """
    manifest = read_manifest(release)
    files = list(_files(manifest))
    streams = _choose(release, manifest, options.streams)
    runs = _runs(release, files)
    rows = sum(opened(release / name).metadata.num_rows for _, name in files)
    with (
        bar("export", rows, "rows") as advance,
        _Writer(folder, options.zipped, streams, len(runs) > 1) as writer,
    ):
        for group, name in files:
            with opened(release / name) as file:
                for number in range(file.num_row_groups):
                    for row in file.read_row_group(number, columns=COLUMNS).to_pylist():
                        writer.add(group, row)
                        advance(1, group)
    write_sidecar(folder, writer.provenance())
    if options.zipped:
        _write_sums(folder)
    return Written(dict(writer.rows), streams)


def _files(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """(group, path) of every data file, in the order of the official splits."""
    for kind in KINDS:
        for split in SPLITS:
            for name in manifest.split_files(kind, split):
                yield _GROUP[kind, split], name


def _choose(release: Path, manifest: Manifest, streams: Mapping[str, str]) -> dict[str, str | None]:
    """Official stream → stream of the release, None where there is none."""
    examples = manifest.facts.census.examples.values()
    own = {caption.stream for row in examples for caption in row.captions}
    if strange := sorted(set(streams) - set(STREAMS)):
        raise ArasError(
            f"{strange[0]}: not a stream of the official layout; expected one of "
            f"{', '.join(STREAMS)}"
        )
    if missing := sorted(set(streams.values()) - own):
        raise ArasError(
            f"{release}: has no stream {missing[0]}; it has {', '.join(sorted(own)) or 'none'}"
        )
    return {name: streams.get(name, name if name in own else None) for name in STREAMS}


def _runs(release: Path, files: list[tuple[str, str]]) -> set[str]:
    """Names of the synthetic runs, without the conditional runs."""
    runs = set()
    for group, name in files:
        if group == "synth":
            with opened(release / name) as file:
                for batch in file.iter_batches(columns=["id", "gen_layout"]):
                    rows = batch.to_pylist()
                    runs |= {_run(row["id"]) for row in rows if not _is_conditional(row)}
    return runs


def _run(row_id: str) -> str:
    return row_id.split("/")[1]


def _is_conditional(row: Mapping[str, Any]) -> bool:
    """A row that `aras import` took from train/generated: one per train tile, of the same name."""
    run, stem = row["id"].split("/")[-2:]
    return bool(run.endswith("-conditional") and row["gen_layout"] == f"real/{stem}")


@dataclass
class _Writer:
    """Writes rows as they come; the zips and tables stay open until the end."""

    folder: Path
    zipped: bool
    streams: Mapping[str, str | None]
    several_runs: bool
    rows: Counter[str] = field(default_factory=Counter)
    names: set[tuple[str, str]] = field(default_factory=set)
    zips: dict[str, zipfile.ZipFile] = field(default_factory=dict)
    tables: dict[str, tuple[TextIO, Any]] = field(default_factory=dict)
    seen: dict[str, Column] = field(default_factory=dict)

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_: object) -> None:
        for table, _writer in self.tables.values():
            table.close()
        for archive in self.zips.values():
            archive.close()

    def add(self, group: str, row: Mapping[str, Any]) -> None:
        """Write a row's pictures and lines."""
        run, stem = row["id"].split("/")[-2:]
        if group == "synth" and _is_conditional(row):
            self._picture("train", f"train/generated/{stem}.png", row["image"]["bytes"])
            self.rows["generated"] += 1
            return
        name = stem_of(f"{run}_{stem}" if group == "synth" and self.several_runs else stem) + ".png"
        if (group, name) in self.names:
            raise ArasError(f"{row['id']}: another row of {group} has the name {name} too")
        self.names.add((group, name))
        mask = PALETTE[decode_mask(row["mask"]["bytes"], row["id"])]
        self._picture(group, f"{group}/images/{name}", row["image"]["bytes"])
        self._picture(group, f"{group}/masks/{name}", encode_png(mask))
        percent = [row["percent"][name] for name in CLASSES]
        given = {caption["stream"]: caption for caption in row["captions"]}
        for own in given.keys() & set(self.streams.values()):
            self.seen[own] = _agreed(self.seen.get(own), Column("", own, *_written(given[own])))
        texts = [_text(given, own, stream) for stream, own in self.streams.items()]
        self._line("captions.csv", HEADER, [name, group, *percent, *texts])
        self._line(f"class_percentages/{group}.csv", ("filename", *CLASSES), [name, *percent])
        self.rows[group] += 1

    def provenance(self) -> dict[str, Column | None]:
        """Official column → the stream in it, under the column's name where two hold the same."""
        every = list(self.streams.values())
        return {
            name: self.seen[own]._replace(name=name, stream=own if every.count(own) == 1 else name)
            if own in self.seen
            else None
            for name, own in self.streams.items()
        }

    def _picture(self, archive: str, path: str, data: bytes) -> None:
        if not self.zipped:
            target = self.folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            return
        if archive not in self.zips:
            self.zips[archive] = zipfile.ZipFile(self.folder / f"{archive}.zip", "w")
        info = zipfile.ZipInfo(f"{TOP}/{path}", MIDNIGHT)
        info.external_attr = 0o644 << 16
        self.zips[archive].writestr(info, data)

    def _line(self, path: str, header: tuple[str, ...], cells: list[Any]) -> None:
        if path not in self.tables:
            target = self.folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            table: TextIO = io.TextIOWrapper(target.open("wb"), "utf-8", newline="")
            self.tables[path] = (table, csv.writer(table, lineterminator="\n"))
            self.tables[path][1].writerow(header)
        self.tables[path][1].writerow(cells)


def _written(caption: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(caption[name] for name in Column._fields[2:])


def _agreed(earlier: Column | None, now: Column) -> Column:
    """What both say of a stream's provenance; null where they differ."""
    fields = zip(Column._fields, earlier or now, now, strict=True)
    unclear: dict[str, Any] = {name: None for name, a, b in fields if a != b}
    return now._replace(**unclear)


def _text(given: Mapping[str, Mapping[str, Any]], own: str | None, stream: str) -> str:
    """A cell of captions.csv; an error is written as the official files write theirs."""
    caption = given.get(own or "")
    if caption is None:
        return f"{ERROR} this release has no stream {own or stream}"
    if caption["text"] is not None:
        return str(caption["text"])
    error = str(caption["error"])
    return error if error.startswith(ERROR) else f"{ERROR} {error}"


def _write_sums(folder: Path) -> None:
    """MD5SUMS of the zips, which `aras import` checks them against."""
    zips = sorted(folder.glob("*.zip"))
    sums = [f"{hash_file(path, 'md5')['md5']}  {path.name}\n" for path in zips]
    write_text(folder / "MD5SUMS", "".join(sums))
