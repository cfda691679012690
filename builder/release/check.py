"""Check: read every byte of a release again and list each violated invariant."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import yaml

from builder.core import budgets
from builder.core.arrow import combine
from builder.core.engine import Engine
from builder.core.errors import ShortOfMemory
from builder.core.files import sha256_file
from builder.core.foreign import Undecodable
from builder.core.manifest import MANIFEST, Manifest, checksum_files, listed_files, read_manifest
from builder.core.progress import bar
from builder.land.columns import (
    ALWAYS,
    COLUMN_NAMES,
    KINDS,
    LATER,
    SPLITS,
    features,
    names_of,
)
from builder.release.check_facts import check_catalogue, check_facts
from builder.release.check_rows import MOST, FileChecker, Findings, local_paths
from builder.release.funnel import has_official_split
from builder.release.published import publications
from builder.release.rows import held_columns

NOT_TEXTS = (".parquet", ".png", ".csv")


def violations(release: Path, engine: Engine | None = None) -> list[str]:
    """Every violated invariant of a release, one line each.

    A file that cannot be decoded is named and ends the check: what the rows of the others should
    agree with is not known. Raises ArasError when the directory holds no release at all.
    """
    manifest = read_manifest(release)
    problems = list(_check_files(release, manifest))
    if any(not (release / file.path).is_file() for file in manifest.files):
        return problems
    seen: dict[str, list[Findings]] = {}
    undecoded: list[str] = []
    tasks = [
        (config, split, name)
        for config, splits in manifest.configs.items()
        if config != "augmented"
        for split, part in splits.items()
        for name in part.files
    ]
    shards = {
        (kind, split): frozenset(manifest.split_files(kind, split))
        for kind in KINDS
        if kind in manifest.configs
        for split in SPLITS
    }
    with bar("check", len(tasks), "files") as advance:
        checker = FileChecker(release, shards, _optional(manifest))
        for task, outcome in (engine or Engine()).map(checker, tasks):
            if isinstance(outcome, Undecodable):
                undecoded.append(f"{outcome}; no row was judged")
            elif isinstance(outcome, ShortOfMemory):
                raise outcome
            elif isinstance(outcome, BaseException):
                undecoded.append(f"{task[2]}: cannot be read: {outcome}")
            else:
                seen.setdefault(f"{task[0]}/{task[1]}", []).append(outcome)
            advance(1)
    if undecoded:
        return [*problems, *undecoded]
    problems += [line for files in seen.values() for file in files for line in file.problems]
    problems += _check_columns(seen)
    problems += _check_ids(seen, is_part=manifest.part is not None)
    problems += _check_blocks(seen)
    setting = manifest.facts.setting
    if not has_official_split(setting("imports", "sources"), setting("imports", "split")):
        problems += _check_duplicates(seen)
    problems += _check_counts(manifest, seen)
    problems += check_facts(release, manifest, seen)
    if not any(line.startswith("metadata/") for line in problems):  # what the items are made from
        problems += check_catalogue(release, manifest)
    problems += _check_content(manifest, seen)
    problems += _check_published(release, manifest)
    problems += _check_card(release, manifest, seen)
    problems += _check_paths(release, manifest)
    return problems


def _check_files(release: Path, manifest: Manifest) -> Iterator[str]:
    """Checksums, sizes, and nothing there that is not listed."""
    listed = {file.path: file for file in manifest.files}
    for name in sorted(set(listed_files(release)) - set(listed)):
        yield f"{name}: is in the directory but not in {MANIFEST}"
    for name, file in listed.items():
        path = release / name
        if not path.is_file():
            yield f"{name}: listed in {MANIFEST} but missing"
        elif path.stat().st_size != file.bytes or sha256_file(path) != file.sha256:
            yield f"{name}: checksum does not match {MANIFEST}"
    for name, text in checksum_files(release, manifest).items():
        path = release / name
        data = text.encode()
        same = path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data
        if not same:
            yield f"{name}: does not list the files and sums of {MANIFEST}"


def _optional(manifest: Manifest) -> frozenset[str]:
    """Columns that a release may lack: later ones, and those that a part was asked to leave out."""
    kept = manifest.selection.columns if manifest.selection else None
    return LATER if kept is None else LATER | set(COLUMN_NAMES).difference(kept, ALWAYS)


def _check_columns(seen: dict[str, list[Findings]]) -> Iterator[str]:
    """A column that releases may lack is in every file of a config, or in none."""
    by_config: dict[str, list[Findings]] = {}
    for part, files in seen.items():
        by_config.setdefault(part.split("/")[0], []).extend(files)
    for config, files in by_config.items():
        for name in set().union(*(file.lacks for file in files)):
            has = [file.path for file in files if name not in file.lacks]
            lacking = [file.path for file in files if name in file.lacks]
            if has:
                yield f"{lacking[0]}: lacks column {name}, which {has[0]} of config {config} has"


def lacking_columns(release: Path) -> list[str]:
    """Columns of today's releases that a release of an older aras lacks, in their order.

    Raises ArasError when the directory holds no release, or a file cannot be read.
    """
    manifest = read_manifest(release)
    lacking: dict[str, None] = {}
    left_out = _optional(manifest) - LATER
    for config, held in held_columns(release, manifest).items():
        lacking |= dict.fromkeys(n for n in names_of(config) if n not in (*held, *left_out))
    return list(lacking)


def _check_ids(seen: dict[str, list[Findings]], *, is_part: bool) -> Iterator[str]:
    """Ids are unique over all rows, in one split only, and the same in the metadata config.

    The metadata of a part of a release, where it has any, cover the other part's rows too.
    """
    has_metadata = any(name.startswith("metadata/") for name in seen)
    data = [f for part, files in seen.items() if part.split("/")[0] in KINDS for f in files]
    counts = Counter(row for file in data for row in file.ids)
    twice = [row for row, n in counts.items() if n > 1]
    for row in twice[:MOST]:
        yield f"id {row} occurs {counts[row]} times"
    if len(twice) > MOST:
        yield f"{len(twice) - MOST} more ids occur several times"
    for split in SPLITS:
        of_data = {
            row for kind in KINDS for file in seen.get(f"{kind}/{split}", []) for row in file.ids
        }
        of_metadata = {row for file in seen.get(f"metadata/{split}", []) for row in file.ids}
        missing = of_data - of_metadata
        if (missing and has_metadata) if is_part else of_data != of_metadata:
            yield f"metadata/{split}: its ids are not those of the data files"
        vectors = {row for file in seen.get(f"embeddings/{split}", []) for row in file.ids}
        if vectors and {row.partition("#")[0] for row in vectors} - of_data:
            yield f"embeddings/{split}: holds ids that no row of the split has"
        of_controls = {row for file in seen.get(f"controls/{split}", []) for row in file.ids}
        if unknown := sorted(of_controls - of_data):
            more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
            yield f"controls/{split}: holds ids that no row of the split has: {unknown[0]}{more}"


def _check_blocks(seen: dict[str, list[Findings]]) -> Iterator[str]:
    """A block of real tiles is in one split only."""
    where: dict[str, set[str]] = {}
    for part, files in seen.items():
        if part.startswith("real/"):
            for block in set().union(*(file.blocks for file in files)):
                where.setdefault(block, set()).add(part.split("/")[1])
    for block, splits in sorted(where.items()):
        if len(splits) > 1:
            yield f"block {block} is in several splits: {', '.join(sorted(splits))}"


def _check_duplicates(seen: dict[str, list[Findings]]) -> Iterator[str]:
    """No image is in two splits, and no cluster of near-duplicates spans two."""
    for what, name in (("pixels", "image with pixels"), ("near", "near-duplicate cluster")):
        where: dict[str, set[str]] = {}
        for part, files in seen.items():
            if part.split("/")[0] in KINDS:
                for value in set().union(*(getattr(file, what) for file in files)):
                    where.setdefault(value, set()).add(part.split("/")[1])
        wrong = sorted((value, splits) for value, splits in where.items() if len(splits) > 1)
        for value, splits in wrong[:MOST]:
            yield f"{name} {value[:40]} is in several splits: {', '.join(sorted(splits))}"
        if len(wrong) > MOST:
            yield f"{len(wrong) - MOST} more {name}s are in several splits"


def _check_counts(manifest: Manifest, seen: dict[str, list[Findings]]) -> Iterator[str]:
    rows = {part: sum(file.rows for file in files) for part, files in seen.items()}
    for config, splits in manifest.configs.items():
        for split, part in splits.items():
            kinds = ("real", "synthetic") if config == "augmented" else (config,)
            there = sum(rows.get(f"{kind}/{split}", 0) for kind in kinds)
            if part.rows != there:
                yield (
                    f"{config}/{split}: {MANIFEST} says {part.rows} rows, the files hold {there}"
                )


def _check_content(manifest: Manifest, seen: dict[str, list[Findings]]) -> Iterator[str]:
    """The rows are those that were packaged: content digests of each part and of the whole."""
    digests = {}
    for name, findings in seen.items():
        ordered = sorted(findings, key=lambda file: file.path)
        lines = [digest for file in ordered for digest in file.digests]
        digests[name] = hashlib.sha256("".join(lines).encode()).hexdigest()
    wrong = False
    for config, splits in manifest.configs.items():
        for split, part in splits.items():
            if config == "augmented" or part.content_sha256 == digests.get(f"{config}/{split}"):
                continue
            wrong = True
            first, more = part.files[0], len(part.files) - 1
            where = f"{first} and {more} more" if more else first
            yield f"{where}: its rows are not those that were packaged (content digest)"
    if not wrong and combine(digests) != manifest.content_sha256:
        yield f"{MANIFEST}: content_sha256 does not follow from the digests of its parts"


def _check_published(release: Path, manifest: Manifest) -> Iterator[str]:
    """This version is not published with other content, as far as is recorded beside it.

    Rows must be the same, and the words of the recipe (title, authors, licence, description): of
    a published version only its DOI may be new.
    """
    version = manifest.version
    for place in publications(release.parent / version):
        for published, what, own in (
            (place.content_sha256, "content", manifest.content_sha256),
            (place.key, "words in its recipe", manifest.key),
        ):
            if published and published != own:
                yield (
                    f"version {version} is published at {place.destination} with other "
                    f"{what} ({published[:12]}…, this is {str(own)[:12]}…); raise version in "
                    "[dataset] and package again (`aras diff --bump` prints the next version)"
                )
                break


def _check_paths(release: Path, manifest: Manifest) -> Iterator[str]:
    """No text names a path of the machine that the release was packaged on."""
    for name in (*(file.path for file in manifest.files), MANIFEST):
        if not name.endswith(NOT_TEXTS):
            for path in _local_paths(release / name):
                yield (
                    f"{name}: contains the local path {path}; take it out of the recipe and "
                    "package again"
                )


def _local_paths(path: Path) -> list[str]:
    """The absolute paths in a text, which is read line by line."""
    with path.open(encoding="utf-8", errors="replace") as file:
        lines = iter(lambda: file.readline(budgets.LINE_CHARS), "")
        return list(dict.fromkeys(name for line in lines for name in local_paths(line)))


def _check_card(
    release: Path, manifest: Manifest, seen: dict[str, list[Findings]]
) -> Iterator[str]:
    """The card's YAML has the same files and rows as the manifest.

    An older release names its features there too, which must be those of the footers.
    """
    try:
        if (size := (release / "README.md").stat().st_size) > budgets.CARD_BYTES:
            raise ValueError(f"{size:,} bytes, at most {budgets.CARD_BYTES:,} are read")
        text = (release / "README.md").read_text(encoding="utf-8")
        card = yaml.safe_load(text.split("---\n")[1])
        infos = {info["config_name"]: info for info in card["dataset_info"]}
        files = {
            config["config_name"]: {
                split["split"]: [paths] if isinstance(paths := split["path"], str) else paths
                for split in config["data_files"]
            }
            for config in card["configs"]
        }
    except (OSError, LookupError, TypeError, ValueError, RecursionError, yaml.YAMLError) as error:
        yield f"README.md: its YAML cannot be read ({type(error).__name__}: {error})"
        return
    if sum(config.get("default", False) for config in card["configs"]) != 1:
        yield "README.md: exactly one config must be the default"
    for config, splits in manifest.configs.items():
        rows = {split: part.rows for split, part in splits.items()}
        paths = {split: list(part.files) for split, part in splits.items()}
        info = infos.get(config, {"splits": []})
        if {split["name"]: split["num_examples"] for split in info["splits"]} != rows:
            yield f"README.md: config {config}: num_examples are not the rows of the files"
        if files.get(config, {}) != paths:
            yield f"README.md: config {config}: data_files are not those of the manifest"
        checked = [file for split in splits for file in seen.get(f"{config}/{split}", ())]
        lacks = {name for file in checked for name in file.lacks}
        held = [name for name in names_of(config) if name not in lacks]
        columns = features(held)._to_yaml_list()
        if info.get("features", columns) != columns:
            yield f"README.md: config {config}: features are not those of the footers"
