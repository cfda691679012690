"""The texts of a release, rendered from its manifest and Parquet footers: nothing typed in."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from builder import __version__
from builder.core.document import environment
from builder.core.errors import ArasError
from builder.core.escape import one_line
from builder.core.fields import citation, creator
from builder.core.files import write_json
from builder.core.licences import licence, on_hub
from builder.core.manifest import (
    ExampleCaption,
    Extent,
    Manifest,
    RetrievalFigures,
    ReviewFigures,
    SplitFiles,
    describe_files,
    listed_files,
    read_manifest,
    write_manifest,
)
from builder.land.classes import CLASSES, PALETTE
from builder.land.columns import (
    COLUMNS,
    CONTROLS,
    KINDS,
    SPLITS,
    Column,
)
from builder.land.grid import EARTH_KM
from builder.land.legends import PUBLIC_MAPS, WORLDCOVER_LEGEND
from builder.land.score_columns import SCORE_COLUMNS, shown_in
from builder.release import benchmark, readers, stac
from builder.release.croissant import (
    cite,
    croissant,
    holds_synthetic,
    keywords,
    release_address,
    shows_sentinel,
    shows_worldcover,
)
from builder.release.diff import history
from builder.release.disclosure import HUB, locations
from builder.release.rows import held_columns, opened
from builder.release.shares import obtained_shares
from builder.release.verdict import verdict

TEXTS = ("README.md", "croissant.json")
"""Files of which a flat copy holds a variant."""

HERE = "str(Path.cwd())"
"""What a snippet loads that reads the folder of the card."""

BESIDE = 'str(Path.cwd() / "{}")'
"""How such a snippet names a file of that folder."""


def flat_name(path: str) -> str:
    """``real/train-00000-of-00002.parquet`` → ``real-train-00000-of-00002.parquet``."""
    return path.replace("/", "-")


def flat_texts(release: Path, manifest: Manifest) -> dict[str, bytes]:
    """Name → content of the files that a flat copy holds in place of the release's own.

    Raises ArasError as `flat_text`.
    """
    paths = [file.path for file in manifest.files]
    return {
        name: flat_text(name, (release / name).read_bytes().decode(), paths).encode()
        for name in TEXTS
        if name in paths
    }


def flat_text(name: str, text: str, paths: Sequence[str]) -> str:
    """One of `TEXTS` with the ``paths`` of a release by their flat names.

    Of README.md the YAML and the targets of links change; snippets name files of the repository
    that they load, and stay, unless that is the folder of the card. Raises ArasError when
    `folder_text` would not give ``text`` back.
    """
    names = {path: flat_name(path) for path in paths}
    if name == "README.md":
        end = text.index("\n---\n", 3) if text.startswith("---\n") else 0
        front, body = text[:end], text[end:]
        links = {f"]({path})": f"]({flat})" for path, flat in names.items()}
        beside = BESIDE
        links |= {beside.format(path): beside.format(flat) for path, flat in names.items()}
        flat = _replaced(front, names) + _replaced(body, links)
    else:
        flat = _replaced(text, names)
    if folder_text(flat, paths) != text:
        taken = next(path for path in paths if "/" in path and flat_name(path) in text)
        raise ArasError(
            f"{name}: holds {flat_name(taken)!r}, the name of {taken} where there are no "
            "folders; take it out of the recipe's description and package again"
        )
    return flat


def folder_text(text: str, paths: Sequence[str]) -> str:
    """A flat variant → the release's own text."""
    return _replaced(text, {flat_name(path): path for path in paths})


def _replaced(text: str, names: Mapping[str, str]) -> str:
    """Every key by its value, the longest first, in one pass."""
    keys = sorted((name for name in names if name != names[name]), key=len, reverse=True)
    if not keys:
        return text
    return re.sub("|".join(map(re.escape, keys)), lambda match: names[match.group()], text)


TEMPLATES = {
    "README.md.j2": "README.md",
    "CITATION.cff.j2": "CITATION.cff",
    "zenodo.json.j2": ".zenodo.json",
    "LICENSE.j2": "LICENSE",
    "CHANGELOG.md.j2": "CHANGELOG.md",
}
MAP = "pictures/map.png"
NAMES = {"double": "float64", "float": "float32", "timestamp[us, tz=UTC]": "timestamp, UTC"}
"""Arrow's names of the floating types → everybody else's."""
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def write_cards(
    release: Path,
    *,
    doi: str | None = None,
    concept_doi: str | None = None,
    synthetic_doi: str | None = None,
    repo: str | None = None,
    endpoint: str | None = None,
    copies: Mapping[str, str] | None = None,
    retrieval: Sequence[RetrievalFigures] = (),
    review: ReviewFigures | None = None,
) -> None:
    """(Re)write every text and picture of a release, its manifest's file list and checksums.

    ``doi`` and ``concept_doi`` go into card, citation, croissant.json and manifest where they are
    known; .zenodo.json has none, because Zenodo keeps the DOI that it reserved. ``synthetic_doi``
    is that of a second record, with the synthetic tiles ("" where there is none any more). ``repo``
    takes the place of the recipe's in the snippets, ``endpoint`` that of huggingface.co in
    addresses; ``copies`` adds addresses at other publishing targets, by name; ``retrieval`` adds
    figures of models, in place of those of the same model and captions; ``review`` takes the place
    of an earlier review by people. Shards keep the digests
    that the manifest has of them: new cards never describe other bytes than were packaged.
    """
    from builder.release.pictures import contact_sheet, plot_balance, plot_classes, plot_map

    manifest = read_manifest(release)
    changes: dict[str, Any] = {
        "doi": doi or manifest.doi,
        "concept_doi": concept_doi or manifest.concept_doi,
    }
    if synthetic_doi is not None:
        changes["synthetic_doi"] = synthetic_doi
    if repo:
        changes["facts"] = manifest.facts.with_setting("release", "repo", repo)
    if retrieval:
        facts = changes.get("facts", manifest.facts)
        changes["facts"] = facts.model_copy(
            update={"retrieval": _joined(facts.retrieval, retrieval)}
        )
    if review:
        facts = changes.get("facts", manifest.facts)
        changes["facts"] = facts.model_copy(update={"review": review})
    if endpoint:
        changes["endpoint"] = None if endpoint == HUB else endpoint
    if copies:
        changes["copies"] = {**manifest.copies, **copies}
    if manifest.history is None:  # written once: a release never changes, its neighbours may go
        changes["history"] = history(release, manifest)
    manifest = manifest.model_copy(update=changes)
    (release / "pictures").mkdir(exist_ok=True)
    contact_sheet(release, manifest, release / "pictures" / "contact-sheet.png")
    plot_classes(manifest, release / "pictures" / "class-shares.png")
    plot_balance(manifest, release / "pictures" / "balance.png")
    plot_map(release, manifest, release / MAP)
    values = card_values(release, manifest)
    for template, name in TEMPLATES.items():
        text = environment().get_template(template).render(values)
        (release / name).write_text(text, encoding="utf-8", newline="\n")
    benchmark.write_texts(release, manifest)
    if (release / stac.ITEMS).is_file():
        write_json(release / stac.COLLECTION, stac.collection(manifest))
    names = listed_files(release)
    known = {file.path: file for file in manifest.files}
    shards = [
        known.get(name) or describe_files(release, [name])[0]
        for name in names
        if name.endswith(".parquet")
    ]
    write_json(
        release / "croissant.json", croissant(manifest, shards, held_columns(release, manifest))
    )
    texts = {name for name in listed_files(release) if not name.endswith(".parquet")}
    described = [*shards, *describe_files(release, texts)]
    files = tuple(sorted(described, key=lambda file: file.path))
    write_manifest(release, manifest.model_copy(update={"files": files}))


def _joined(
    old: Sequence[RetrievalFigures], new: Sequence[RetrievalFigures]
) -> tuple[RetrievalFigures, ...]:
    """Figures of each caption stream in the order in which it came, best first."""
    by_name = {(each.split, each.stream, each.model): each for each in (*old, *new)}
    streams = list(dict.fromkeys(name[:2] for name in by_name))
    return tuple(
        sorted(
            by_name.values(), key=lambda each: (streams.index((each.split, each.stream)), -each.mR)
        )
    )


def column_type(column: Column) -> str:
    """A column's type as a reader of the card needs it."""
    if column.is_image:
        return "Image"
    if column.labels:
        return f"ClassLabel: {', '.join(column.labels)}"
    kind = column.type
    if pa.types.is_struct(kind):
        names = tuple(child.name for child in kind)
        members = "per class" if names == CLASSES else f"({', '.join(names)})"
        return f"{NAMES.get(str(kind[0].type), kind[0].type)} {members}"
    if pa.types.is_list(kind) and not pa.types.is_struct(kind.value_type):
        return f"list of {NAMES.get(str(kind.value_type), kind.value_type)}"
    if pa.types.is_list(kind):
        return f"list of ({', '.join(child.name for child in kind.value_type)})"
    return NAMES.get(str(kind), str(kind))


def card_values(release: Path, manifest: Manifest) -> dict[str, Any]:
    """Everything that the templates may name.

    Snippets load the repo that the recipe names; where none is, and in a part of a release, which
    no repo holds, the folder that the card lies in.
    """
    legend = PUBLIC_MAPS.get(str(manifest.facts.setting("tiles", "legend", WORLDCOVER_LEGEND)))
    repo, pixels = manifest.repo, manifest.facts.census.pixels
    means = [stream.means for stream in manifest.facts.census.streams.values()]
    held = held_columns(release, manifest)
    there = {name for names in held.values() for name in names}
    return {
        **dict(manifest),
        "hub": release_address(manifest),
        "aras_version": __version__,
        "source": HERE if manifest.part or not repo else f'"{repo}"',
        "here": HERE,
        "beside": lambda name: (
            BESIDE.format(name) if manifest.part or not repo else f'"hf://datasets/{repo}/{name}"'
        ),
        "front_matter": front_matter(release, manifest),
        "names": there,
        "benchmark": benchmark.FOLDER if (release / benchmark.FACTS).is_file() else "",
        "stac": stac.COLLECTION if (release / stac.ITEMS).is_file() else "",
        "columns": [column for column in COLUMNS if column.name in there],
        "controls": CONTROLS,
        "scores": SCORE_COLUMNS,
        "score_means": [
            name
            for name in shown_in("card")
            if all(name in each for each in means) and any(each[name] is not None for each in means)
        ],
        "column_type": column_type,
        "classes": CLASSES,
        "palette": PALETTE.tolist(),
        "map_title": legend.title if legend else "the map",
        "code_names": {code: name for code, (name, _) in legend.codes.items()} if legend else {},
        "class_shares": class_shares(pixels),
        "extremes": extremes(pixels),
        "locations": locations(manifest),
        "creators": [creator(author) for author in manifest.authors],
        "citation_authors": [citation(author) for author in manifest.authors],
        "bibtex": cite(manifest),
        "keywords": keywords(manifest),
        "licence": licence(manifest.license),
        "worldcover_composites": any("RGBNIR" in s.name for s in manifest.facts.sources),
        "sentinel_tiles": shows_sentinel(manifest),
        "worldcover_tiles": shows_worldcover(manifest),
        "fenced": fenced,
        "hex": lambda colour: "#" + bytes(colour).hex(),
        "side": manifest.facts.setting("tiles", "size"),
        "repo": repo,
        "place": place,
        "grid": grid,
        "longest": longest,
        "target_meaning": target_meaning,
        "obtained": obtained_shares(manifest),
        "gap": smallest_gap(manifest),
        "has_map": (release / MAP).is_file(),
        "reached": reached(manifest),
        "verdict": verdict(manifest),
        "compared": compared(manifest),
        "readers": readers.spans(),
    }


def fenced(text: str, kind: str = "text") -> str:
    """A block of code in Markdown, in a fence longer than any in the text."""
    runs = [len(run) for run in re.findall("`+", text)]
    fence = "`" * max(3, 1 + max(runs, default=0))
    return f"{fence}{kind}\n{text.rstrip()}\n{fence}"


def longest(captions: Sequence[ExampleCaption]) -> str:
    """The stream whose caption says most; empty where no model wrote any."""
    texts = {caption.stream: caption.text for caption in captions if caption.text}
    return max(texts, key=lambda stream: len(texts[stream]), default="")


def target_meaning(target: str) -> str:
    """What a balance target asks for, in brackets; nothing where its text says it."""
    if target == "natural":
        return " (those of the real train tiles)"
    kind, _, exponent = target.partition(":")
    tempered = kind == "tempered"
    return f" (those of the real train tiles, to the power {exponent})" if tempered else ""


def place(extent: Extent) -> str:
    """The box of the tiles, as in 78.38° W to 77.98° W, 0.17° S to 0.17° N."""

    def side(degrees: float, letters: str) -> str:
        return f"{abs(degrees):.2f}° {letters[degrees >= 0]}"

    west, south, east, north = extent.bounds
    return f"{side(west, 'WE')} to {side(east, 'WE')}, {side(south, 'SN')} to {side(north, 'SN')}"


def grid(extent: Extent) -> str:
    """Reference systems and width of a pixel, as far as they are known."""
    known = list(extent.crs)
    if extent.crs == ("EPSG:4326",) and len(extent.pixel) == 1:
        (width,) = extent.pixel
        metres = math.radians(width) * EARTH_KM * 1000
        known.append(f"pixels of 1/{1 / width:,.0f}°, {metres:.1f} m from north to south")
    elif extent.pixel:
        widths = ", ".join(f"{width:g}" for width in extent.pixel)
        known.append(f"pixels of {widths} in its units")
    return ", ".join(known)


def smallest_gap(manifest: Manifest) -> float | None:
    """The smallest distance between two splits in km; None where it is unknown or they touch."""
    report = manifest.facts.split
    known = [km for km in report.smallest_distance_km.values() if km is not None] if report else []
    return (min(known, default=None) or None) if "real" in manifest.configs else None


@dataclass(frozen=True)
class Reached:
    """Of a split by blocks, in per cent as text: the share of the tiles that the recipe asks for,
    and what it has of the real tiles and of the pixels of each class."""

    asked: str
    tiles: str
    classes: tuple[str, ...]


def reached(manifest: Manifest) -> dict[str, Reached]:
    """Split → what it has; empty where the recipe asked for no shares, or no real row is here."""
    facts = manifest.facts
    asked = facts.setting("split", "shares", {})
    real = {split: f"real/{split}" for split in SPLITS if f"real/{split}" in facts.census.rows}
    is_official = facts.imported is not None and facts.setting("imports", "split") == "official"
    if not real or not asked or is_official or manifest.selection:
        return {}
    tiles = sum(facts.census.rows[part] for part in real.values())
    pixels = {
        name: sum(facts.census.pixels[part][name] for part in real.values()) for name in CLASSES
    }
    return {
        split: Reached(
            _percent(asked[split], sum(asked.values())),
            _percent(facts.census.rows[part], tiles),
            tuple(_percent(facts.census.pixels[part][name], pixels[name]) for name in CLASSES),
        )
        for split, part in real.items()
    }


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


@dataclass(frozen=True)
class Compared:
    """Medians as text: a column per part of the release, a row per measure."""

    parts: tuple[str, ...]
    rows: dict[str, list[str]]


def compared(manifest: Manifest) -> Compared | None:
    """Measures of real and synthetic rows side by side; None unless the release has both kinds.

    A measure of one kind alone compares nothing and is left out.
    """
    census = manifest.facts.census
    if manifest.part is None and not holds_synthetic(manifest):
        return None
    parts = tuple(census.measures)
    names = dict.fromkeys(name for values in census.measures.values() for name in values)
    kinds = {
        name: {part.split("/")[0] for part in parts if name in census.measures[part]}
        for name in names
    }
    rows = {
        name: [_median(census.measures[part].get(name)) for part in parts]
        for name in names
        if kinds[name] == set(KINDS)
    }
    return Compared(parts, rows) if rows else None


def _median(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def extremes(pixels: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, Any]]:
    """Kind of rows → its largest and smallest class, their shares, and how often either is in the
    other: None where the smallest is absent."""
    spread = {}
    for kind in KINDS:
        counts = Counter[str]()
        for part, counts_of_part in pixels.items():
            if part.startswith(f"{kind}/"):
                counts.update(counts_of_part)
        if total := counts.total():
            (most, many), *_, (least, few) = sorted(counts.items(), key=lambda item: -item[1])
            spread[kind] = {
                "most": most,
                "most_share": many / total,
                "least": least,
                "least_share": few / total,
                "ratio": many / few if few else None,
            }
    return spread


def class_shares(pixels: Mapping[str, Mapping[str, int]]) -> dict[str, list[str]]:
    """Pixels per part and class → their shares in the part, in the order of CLASSES, as text."""
    shares = {}
    for part, counts in pixels.items():
        total = max(1, sum(counts.values()))
        shares[part] = [f"{100 * counts[name] / total:.2f} %" for name in CLASSES]
    return shares


def front_matter(release: Path, manifest: Manifest) -> str:
    """The card's YAML: the files of each config, and rows and sizes as their footers have them.

    Columns are not among them: every version of `datasets` that reads a release reads its features
    from the footers (``make readers``), and they took nine lines of ten.
    """
    configs: list[dict[str, Any]] = []
    infos = []
    for config, splits in manifest.configs.items():
        files = [
            {"split": split, "path": part.files[0] if len(part.files) == 1 else list(part.files)}
            for split, part in splits.items()
        ]
        default = {} if configs else {"default": True}
        configs.append({"config_name": config, **default, "data_files": files})
        infos.append(_info(release, config, splits))
    rows = sum(manifest.facts.census.rows.values())
    tasks = ["image-to-text", "text-to-image"] if manifest.facts.census.streams else []
    value = {
        "pretty_name": one_line(manifest.title),
        **on_hub(one_line(manifest.license)),
        "language": ["en"],
        "task_categories": ["image-segmentation", *tasks],
        "annotations_creators": ["machine-generated"],
        "source_datasets": ["original"],
        "size_categories": [next((name for most, name in SIZES if rows < most), "n>1M")],
        "tags": [
            "remote-sensing",
            "land-cover",
            *(["sentinel-2"] if shows_sentinel(manifest) else []),
            *(["synthetic"] if holds_synthetic(manifest) else []),
            "geospatial",
        ],
        "configs": configs,
        "dataset_info": infos,
    }
    return yaml.safe_dump(
        value, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None
    )


def _info(release: Path, config: str, splits: Mapping[str, SplitFiles]) -> dict[str, Any]:
    """One entry of dataset_info; rows and sizes as the footers have them."""
    sizes: list[dict[str, Any]] = []
    for split, part in splits.items():
        size = {"num_bytes": 0, "num_examples": 0}
        for name in part.files:  # one footer at a time: many files have large footers
            with opened(release / name) as file:
                footer = file.metadata
            groups = (footer.row_group(i) for i in range(footer.num_row_groups))
            size["num_bytes"] += sum(group.total_byte_size for group in groups)
            size["num_examples"] += footer.num_rows
        sizes.append({"name": split, **size})
    return {
        "config_name": config,
        "splits": sizes,
        "download_size": sum(part.bytes for part in splits.values()),
        "dataset_size": sum(size["num_bytes"] for size in sizes),
    }
