"""Check: right releases pass, and each invariant broken once is named."""

import io
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from builder.core.engine import Engine
from builder.core.errors import ArasError
from builder.core.manifest import read_manifest
from builder.land.classes import PALETTE
from builder.land.pictures import decode_mask, decode_png, encode_png
from builder.pipeline.project import Project
from builder.quality.duplicates import pixel_digest
from builder.release.card import write_cards
from builder.release.check import _check_ids, violations
from builder.release.check_rows import Findings, local_paths
from builder.release.published import Publication, record_publication
from tests.makers.bombs import repeat_a_text
from tests.makers.damage import (
    copy_of,
    cut_short,
    name_an_unknown_codec,
    restamp,
    rewrite,
    rows_edited,
    spoil_pages,
)

TRAIN = "real/train-00000-of-00001.parquet"
TEST = "real/test-00000-of-00001.parquet"
DRAWN = "synthetic/train-00000-of-00001.parquet"
LIGHT = "metadata/train-00000-of-00001.parquet"

MADE = "controls/test-00000-of-00001.parquet"

Rows = list[dict[str, Any]]


@pytest.fixture
def release(project: Project, tmp_path: Path) -> Path:
    return copy_of(project.releases / "0.1.0", tmp_path)


def test_a_release_as_packaged_is_right(project: Project) -> None:
    assert violations(project.releases / "0.1.0") == []


def test_processes_find_what_serial_finds(release: Path) -> None:
    rewrite(release / TRAIN, rows_edited(lambda rows: rows[0]["percent"].update(Tree=200)))
    restamp(release)
    serial = violations(release)
    assert serial
    assert violations(release, Engine("processes", 2)) == serial


def set_row(number: int, **values: Any) -> Callable[[Rows], None]:
    return lambda rows: rows[number].update(values)


def same_id(rows: Rows) -> None:
    rows[3]["id"] = rows[5]["id"]


def wrong_mask(rows: Rows) -> None:
    ids = decode_mask(rows[2]["mask"]["bytes"], "m").copy()
    ids[5, 5] = 7
    rows[2]["mask"]["bytes"] = encode_png(ids)


def colour_mask(rows: Rows) -> None:
    rows[2]["mask"]["bytes"] = rows[2]["image"]["bytes"]


def other_palette(rows: Rows) -> None:
    picture, out = Image.open(io.BytesIO(rows[2]["mask"]["bytes"])), io.BytesIO()
    picture.putpalette(PALETTE[::-1].ravel().tolist())
    picture.save(out, "PNG")
    rows[2]["mask"]["bytes"] = out.getvalue()


def other_mask(rows: Rows) -> None:
    ids = decode_mask(rows[2]["mask"]["bytes"], "m")
    rows[2]["mask"]["bytes"] = encode_png(np.full_like(ids, (ids[0, 0] + 1) % 7))


def smaller_image(rows: Rows) -> None:
    rows[2]["image"]["bytes"] = encode_png(np.zeros((32, 32, 3), dtype=np.uint8))


def cut_image(rows: Rows) -> None:
    rows[2]["image"]["bytes"] = rows[2]["image"]["bytes"][:500]


def no_image(rows: Rows) -> None:
    rows[2]["image"] = None


def percent_off(rows: Rows) -> None:
    rows[1]["percent"]["Tree"] += 1


def percent_moved(rows: Rows) -> None:
    names = sorted(rows[1]["percent"], key=rows[1]["percent"].__getitem__)
    rows[1]["percent"][names[-1]] -= 1
    rows[1]["percent"][names[0]] += 1


def dominant_off(rows: Rows) -> None:
    rows[1]["dominant"] = (rows[1]["dominant"] + 1) % 7


def both_text_and_error(rows: Rows) -> None:
    rows[4]["captions"][0]["error"] = "timed out"


def neither_text_nor_error(rows: Rows) -> None:
    rows[4]["captions"][0]["text"] = None


BROKEN_ROWS = [
    (MADE, set_row(0, control="upside_down"), "control 'upside_down' is unknown"),
    (MADE, set_row(0, text=None), "its text is missing"),
    (MADE, set_row(0, control="empty", text="words"), "not empty where it should be"),
    (MADE, set_row(0, control="digits_masked", text="at 5 %"), "a digit remains in a text whose"),
    (MADE, set_row(0, id="real/nowhere"), "controls/test: holds ids that no row of the split has"),
    (TRAIN, same_id, r"id real/\S+ occurs 2 times"),
    (TRAIN, set_row(0, id=""), "has no id"),
    (TRAIN, wrong_mask, "mask holds id 7; ids are 0…6"),
    (TRAIN, colour_mask, "mask has 3 channels, expected a single channel"),
    (TRAIN, other_palette, "mask: its palette is not that of the classes"),
    (TRAIN, other_mask, "pixels are not the counts of the mask"),
    (TRAIN, cut_image, "image: not a whole PNG"),
    (DRAWN, no_image, "image: not a whole PNG"),
    (TRAIN, smaller_image, r"image is \(32, 32, 3\), mask \(64, 64\)"),
    (TRAIN, percent_off, "percent does not sum to 100"),
    (LIGHT, percent_off, "percent does not sum to 100"),
    (TRAIN, percent_moved, "percent does not follow from pixels"),
    (TRAIN, dominant_off, "dominant is not the largest class"),
    (TEST, set_row(0, split=0), "its split is not test"),
    (TEST, set_row(0, split=None), "its split is not test"),
    (TRAIN, set_row(0, kind=1), "its kind is not real"),
    (TRAIN, both_text_and_error, "a caption is neither a text nor an error, or both"),
    (DRAWN, neither_text_nor_error, "a caption is neither a text nor an error, or both"),
    (LIGHT, set_row(0, id="real/elsewhere"), "metadata/train: its ids are not those of the data"),
]


@pytest.mark.parametrize(("name", "edit", "message"), BROKEN_ROWS)
def test_a_row_that_breaks_a_rule_is_named(
    release: Path, name: str, edit: Callable[[Rows], None], message: str
) -> None:
    rewrite(release / name, rows_edited(edit))
    restamp(release)
    lines = violations(release)
    assert any(re.search(message, line) for line in lines)
    assert all(name in line or re.match(r"id |metadata/|controls/", line) for line in lines)


def test_many_broken_rows_are_counted_not_listed(release: Path) -> None:
    rewrite(release / TRAIN, rows_edited(lambda rows: [row.update(split=2) for row in rows]))
    restamp(release)
    lines = [line for line in violations(release) if "its split is not train" in line]
    assert len(lines) == 21
    assert re.search(r"\d+ more rows", lines[-1])


def test_the_same_id_in_two_splits_is_found(release: Path) -> None:
    first = pa.parquet.read_table(release / TRAIN).to_pylist()[0]["id"]
    rewrite(release / TEST, rows_edited(set_row(0, id=first)))
    restamp(release)
    assert f"id {first} occurs 2 times" in violations(release)


def test_a_block_in_two_splits_is_found(release: Path) -> None:
    block = pa.parquet.read_table(release / TRAIN).to_pylist()[0]["block"]
    rewrite(release / TEST, rows_edited(set_row(0, block=block)))
    restamp(release)
    assert f"block {block} is in several splits: test, train" in violations(release)


def first_image(release: Path, name: str, number: int = 0) -> dict[str, Any]:
    return pa.parquet.read_table(release / name).to_pylist()[number]["image"]


def test_equal_pixels_in_two_splits_are_found_whatever_encoded_them(release: Path) -> None:
    seen = decode_png(first_image(release, TRAIN)["bytes"])
    again = io.BytesIO()
    Image.fromarray(seen).save(again, "png", compress_level=1)
    assert again.getvalue() != first_image(release, TRAIN)["bytes"]
    rewrite(release / TEST, rows_edited(lambda r: r[0]["image"].update(bytes=again.getvalue())))
    restamp(release)
    wanted = f"image with pixels {pixel_digest(seen)[:40]} is in several splits: test, train"
    assert wanted in violations(release)


def test_a_cluster_of_near_duplicates_in_two_splits_is_found(release: Path) -> None:
    for name in (TRAIN, TEST):
        rewrite(release / name, rows_edited(set_row(0, near_duplicate_cluster="real/x")))
    restamp(release)
    wanted = "near-duplicate cluster real/x is in several splits: test, train"
    assert wanted in violations(release)


def test_an_official_split_may_repeat_itself(release: Path) -> None:
    for name in (TRAIN, TEST):
        rewrite(release / name, rows_edited(set_row(0, near_duplicate_cluster="real/x")))
    restamp(release, lambda value: value["facts"]["recipe"]["imports"].update(sources=["a.zip"]))
    assert not any("several splits" in line for line in violations(release))


def test_a_synthetic_row_outside_train_is_found(release: Path) -> None:
    held_out = "synthetic/test-00000-of-00001.parquet"
    (release / DRAWN).rename(release / held_out)
    rewrite(release / held_out, rows_edited(lambda rows: [row.update(split=2) for row in rows]))

    def move(manifest: dict[str, Any]) -> None:
        entry = manifest["configs"]["synthetic"].pop("train")
        manifest["configs"]["synthetic"]["test"] = {**entry, "files": [held_out]}

    restamp(release, move)
    lines = violations(release)
    assert any("synthetic rows may be in train only" in line for line in lines)


def less_columns(table: pa.Table) -> pa.Table:
    return table.drop_columns(["saturated"])


def other_type(table: pa.Table) -> pa.Table:
    place = table.schema.get_field_index("latitude")
    return table.set_column(place, "latitude", table.column("latitude").cast(pa.float32()))


def no_features(table: pa.Table) -> pa.Table:
    return table.replace_schema_metadata(None)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (less_columns, "schema differs from the published schema: it lacks saturated"),
        (
            other_type,
            "schema differs from the published schema: latitude is float, expected double",
        ),
        (no_features, "footer carries other features than published"),
    ],
)
def test_another_schema_in_a_footer_is_found(
    release: Path, edit: Callable[[pa.Table], pa.Table], message: str
) -> None:
    rewrite(release / DRAWN, edit)
    restamp(release)
    assert f"{DRAWN}: {message}" in violations(release)


@pytest.mark.parametrize("damage", [cut_short, spoil_pages, name_an_unknown_codec])
@pytest.mark.parametrize("name", [TRAIN, LIGHT])
def test_a_file_that_cannot_be_decoded_ends_the_check_and_accuses_no_row(
    release: Path, damage: Callable[[bytes], bytes], name: str
) -> None:
    (release / name).write_bytes(damage((release / name).read_bytes()))
    rewrite(release / TEST, rows_edited(lambda rows: rows[0]["percent"].update(Tree=200)))
    restamp(release)
    (line,) = violations(release)
    assert line.startswith(f"{name}: pyarrow {pa.__version__} cannot decode it (")
    assert line.endswith("or read it with another version of pyarrow; no row was judged")


def test_a_release_of_other_columns_is_told_which(release: Path) -> None:
    def older(table: pa.Table) -> pa.Table:
        seeds = table.column("gen_seed").cast(pa.int64())
        place = table.column_names.index("gen_seed")
        return table.set_column(place, "gen_seed", seeds).drop_columns(["flags"])

    rewrite(release / DRAWN, older)
    restamp(release)
    assert (
        f"{DRAWN}: schema differs from the published schema: it lacks flags; "
        "gen_seed is int64, expected string"
    ) in violations(release)


def test_a_row_too_few_is_found(release: Path) -> None:
    for name in (TRAIN, LIGHT):
        rewrite(release / name, lambda table: table.slice(1))
    restamp(release)
    lines = violations(release)
    for part in ("real/train", "augmented/train", "metadata/train"):
        assert any(re.match(rf"{part}: manifest\.json says \d+ rows", line) for line in lines)


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", [TRAIN, "README.md", "pictures/class-shares.png"])
def test_a_flipped_bit_is_found(release: Path, name: str) -> None:
    flip_a_bit(release / name)
    assert f"{name}: checksum does not match manifest.json" in violations(release)


@pytest.mark.parametrize("name", [TRAIN, "LICENSE"])
def test_a_missing_file_is_found(release: Path, name: str) -> None:
    (release / name).unlink()
    assert f"{name}: listed in manifest.json but missing" in violations(release)


def test_a_stray_file_is_found(release: Path) -> None:
    (release / "real" / ".DS_Store").write_bytes(b"x")
    assert "real/.DS_Store: is in the directory but not in manifest.json" in violations(release)


def test_a_stray_file_called_missing_hides_nothing_else(release: Path) -> None:
    (release / "real" / "missing.txt").write_text("x")
    rewrite(release / TRAIN, rows_edited(percent_off))
    lines = violations(release)
    assert "real/missing.txt: is in the directory but not in manifest.json" in lines
    assert any("percent does not sum to 100" in line for line in lines)


@pytest.mark.parametrize(
    ("name", "old", "new", "path"),
    [
        ("manifest.json", '"*_Map.tif"', '"/home/alice/in/*_Map.tif"', "/home/alice/in/*_Map.tif"),
        ("manifest.json", '"*_Map.tif"', '"C:\\\\Users\\\\alice"', "C:\\\\Users\\\\alice"),
        ("README.md", "Train tiles", "Made in ~/data/tiles. Train tiles", "~/data/tiles."),
        ("CITATION.cff", "The testers", "file:///srv/x", "file:///srv/x"),
        ("croissant.json", "Real tiles.", "From /mnt/data/tiles.", "/mnt/data/tiles."),
        (".zenodo.json", "The testers", "/data/lab/us", "/data/lab/us"),
    ],
)
def test_a_text_that_tells_a_local_path_is_found(
    release: Path, name: str, old: str, new: str, path: str
) -> None:
    text = (release / name).read_text(encoding="utf-8")
    assert old in text
    (release / name).write_text(text.replace(old, new, 1), encoding="utf-8")
    restamp(release)
    assert any(
        line.startswith(f"{name}: contains the local path {path}") for line in violations(release)
    )


@pytest.mark.parametrize("name", [TRAIN, LIGHT, MADE])
def test_a_footer_that_tells_a_local_path_is_found(release: Path, name: str) -> None:
    def stamped(table: pa.Table) -> pa.Table:
        metadata = {**table.schema.metadata, b"made_from": b"/home/alice/tiles.parquet"}
        return table.replace_schema_metadata(metadata)

    rewrite(release / name, stamped)
    restamp(release)
    wanted = f"{name}: footer made_from contains the local path /home/alice/tiles.parquet"
    assert wanted in violations(release)


def test_a_caption_s_model_that_is_a_local_path_is_found(release: Path) -> None:
    rewrite(
        release / TRAIN,
        rows_edited(lambda rows: rows[0]["captions"][0].update(model="/home/alice/models/x")),
    )
    restamp(release)
    wanted = f"{TRAIN}: captions name a model by its local path /home/alice/models/x"
    assert wanted in violations(release)


@pytest.mark.parametrize(
    "text",
    [
        "https://huggingface.co/datasets/org/name, km/h, and/or, a / b, </think>, 0.5°/tile",
        "real/train-00000-of-00001.parquet and ](subsets/mini.csv)",
        '"@vocab": "https://schema.org/", "identifier": "10.5281/zenodo.1"',
        "application/x-parquet, ./models/x, 2026/01/31, /",
    ],
)
def test_addresses_fractions_and_names_of_a_release_are_no_local_paths(text: str) -> None:
    assert local_paths(text) == []


def publish(release: Path, **facts: str) -> None:
    record_publication(release, Publication(kind="hub", destination="someone/tiny", **facts))


@pytest.fixture
def versioned(release: Path) -> Path:
    """The release under its version, where the list of its publications lies beside it."""
    return release.rename(release.with_name("0.1.0"))


def test_a_version_that_is_published_with_the_same_content_passes(versioned: Path) -> None:
    manifest = read_manifest(versioned)
    publish(versioned, content_sha256=manifest.content_sha256, key=manifest.key)
    assert violations(versioned) == []


def test_a_version_that_is_published_with_other_rows_is_refused(versioned: Path) -> None:
    publish(versioned, content_sha256="0" * 64, key="1" * 64)
    (line,) = violations(versioned)
    assert line.startswith("version 0.1.0 is published at someone/tiny with other content")
    assert "raise version in [dataset]" in line


def test_a_version_that_is_published_with_other_words_is_refused(versioned: Path) -> None:
    content = read_manifest(versioned).content_sha256
    publish(versioned, content_sha256=content, key="1" * 64)
    (line,) = violations(versioned)
    assert "is published at someone/tiny with other words in its recipe" in line


def test_a_doi_in_the_cards_of_a_published_version_is_no_other_content(versioned: Path) -> None:
    manifest = read_manifest(versioned)
    publish(versioned, content_sha256=manifest.content_sha256, key=manifest.key)
    write_cards(versioned, doi="10.5281/zenodo.2", concept_doi="10.5281/zenodo.1")
    assert violations(versioned) == []


def test_a_card_that_was_edited_after_packaging_is_refused(versioned: Path) -> None:
    card = versioned / "README.md"
    card.write_text(card.read_text(encoding="utf-8") + "More words.\n", encoding="utf-8")
    assert "README.md: checksum does not match manifest.json" in violations(versioned)


@pytest.mark.parametrize("sums", ["SHA256SUMS", "MD5SUMS"])
@pytest.mark.parametrize("fault", ["a sum", "a line", "the file"])
def test_wrong_checksum_files_are_found(release: Path, sums: str, fault: str) -> None:
    path = release / sums
    lines = path.read_text().splitlines(keepends=True)
    if fault == "the file":
        path.unlink()
    else:
        lines[1] = lines[1].replace(lines[1][:4], "0bad") if fault == "a sum" else ""
        path.write_text("".join(lines))
    assert f"{sums}: does not list the files and sums of manifest.json" in violations(release)


def test_a_checksum_file_that_is_wrong_about_the_manifest_is_found(release: Path) -> None:
    path = release / "SHA256SUMS"
    listed = next(line for line in path.read_text().splitlines() if "manifest.json" in line)
    path.write_text(path.read_text().replace(listed, "0" * 64 + "  manifest.json"))
    assert "SHA256SUMS: does not list the files and sums of manifest.json" in violations(release)


def test_a_garbled_checksum_file_is_found(release: Path) -> None:
    (release / "MD5SUMS").write_text("nonsense\n")
    assert "MD5SUMS: does not list the files and sums of manifest.json" in violations(release)


def edit_card(release: Path, old: str, new: str) -> None:
    path = release / "README.md"
    text = path.read_text(encoding="utf-8")
    assert re.search(old, text)
    path.write_text(re.sub(old, new, text, count=1), encoding="utf-8")
    restamp(release)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (r"num_examples: \d+", "num_examples: 1", "config real: num_examples are not the rows"),
        (
            r"config_name: real\n  splits:",
            "config_name: real\n  features: [{name: id, dtype: int32}]\n  splits:",
            "config real: features are not those",
        ),
        (
            r"synthetic/train-00000-of-00001\.parquet",
            "real/train-00000-of-00001.parquet",
            "config synthetic: data_files are not those",
        ),
        (r"  default: true\n", "", "exactly one config must be the default"),
        (r"config_name: metadata", "config_name: extra", "config metadata: data_files are not"),
        (r"^---\n", "", "its YAML cannot be read"),
        (r"configs:", "configs: [", "its YAML cannot be read"),
    ],
)
def test_a_card_that_tells_other_facts_than_the_files_is_found(
    release: Path, old: str, new: str, message: str
) -> None:
    edit_card(release, old, new)
    assert any(f"README.md: {message}" in line for line in violations(release))


def test_a_directory_that_is_no_release_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArasError, match="not a release directory"):
        violations(tmp_path)


def test_restamping_alone_breaks_nothing(release: Path) -> None:
    """The helper that hides changes from the checksums is honest itself."""
    rewrite(release / TRAIN, lambda table: table)
    restamp(release)
    assert violations(release) == []
    assert read_manifest(release).files


def test_the_metadata_of_a_part_may_tell_of_the_other_part_s_rows_too() -> None:
    def violations_of(metadata: list[str], *, is_part: bool) -> list[str]:
        seen = {"real/train": [Findings("a", ids=["1"])]}
        if metadata:
            seen["metadata/train"] = [Findings("b", ids=metadata)]
        return list(_check_ids(seen, is_part=is_part))

    wrong = ["metadata/train: its ids are not those of the data files"]
    assert violations_of(["1", "2"], is_part=True) == violations_of([], is_part=True) == []
    assert violations_of(["2"], is_part=True) == wrong
    assert violations_of(["1", "2"], is_part=False) == violations_of([], is_part=False) == wrong


def test_a_release_that_unpacks_to_gigabytes_is_named_in_bounded_memory(release: Path) -> None:
    repeat_a_text(release / TRAIN, "text", 32 << 20)
    restamp(release)
    assert (release / TRAIN).stat().st_size < 1 << 20
    (problem,) = violations(release)
    assert re.match(rf"{TRAIN}: cannot be read: .* unpacks to [\d,]+ bytes", problem)
    code = (
        "import sys; from pathlib import Path; from builder.release.check import violations; "
        "violations(Path(sys.argv[1])); print(Path('/proc/self/status').read_text())"
    )
    done = subprocess.run([sys.executable, "-c", code, release], capture_output=True, text=True)
    peak = re.search(r"VmHWM:\s+(\d+) kB", done.stdout)
    assert peak, done.stderr
    assert int(peak[1]) < 1 << 20


def test_a_text_of_any_length_is_searched_for_paths(release: Path) -> None:
    (release / "LICENSE").write_text(
        "word " * 1_000_000 + "\n/home/somebody/data\n" + "-" * 3_000_000
    )
    restamp(release)
    assert any("LICENSE: contains the local path /home/somebody" in p for p in violations(release))


@pytest.mark.parametrize("text", ["---\n" + "[" * 5000 + "\n---\n", "---\n" + " " * (3 << 20)])
def test_a_card_that_would_cost_too_much_is_a_violation(release: Path, text: str) -> None:
    (release / "README.md").write_text(text)
    restamp(release)
    assert any(p.startswith("README.md: its YAML cannot be read") for p in violations(release))


def test_medians_that_the_rows_do_not_have_are_a_violation(release: Path) -> None:
    def embellished(manifest: dict[str, Any]) -> None:
        manifest["facts"]["census"]["measures"]["synthetic/train"]["realism"] = 0.99

    restamp(release, embellished)
    (problem,) = violations(release)
    assert problem == "manifest.json: the medians of synthetic/train are not those of its rows"
