"""A release of ours comes in again as it is, each file checked against its manifest."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builder.core.engine import Engine
from builder.core.errors import ArasError, CorruptFile
from builder.core.files import sha256_file
from builder.core.manifest import MANIFEST, read_manifest
from builder.core.store import Store
from builder.land.columns import COLUMNS, SPLITS
from builder.land.pictures import decode_png
from builder.official.import_ import ImportSection
from builder.official.import_release import ImportRelease, is_release, streams_of
from builder.steps.plan import Summary, run
from tests.makers.damage import copy_of, restamp, rewrite, rows_edited
from tests.makers.official import official, release
from tests.makers.pngs import damaged, png, turned
from tests.makers.stages import by_default


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    layout = official(train=3, val=1, test=1, synth=2, generated=1)
    return release(layout, tmp_path_factory.mktemp("made"))


def bring(folder: Path, source: Path, **options: object) -> tuple[Summary, Store]:
    store = Store(folder / "work")
    values = {"release": source, "streams": streams_of(source), **options}
    stage = by_default(ImportRelease, ImportSection(), **values)
    return run(stage, store, Engine("serial")), store


def test_a_release_is_told_by_its_manifest(packaged: Path, tmp_path: Path) -> None:
    assert is_release(packaged)
    assert not is_release(tmp_path)


def test_every_column_of_every_row_comes_in(packaged: Path, tmp_path: Path) -> None:
    summary, store = bring(tmp_path, packaged)
    assert not summary.failed
    assert summary.report.account.as_json() == {"rows_in": 8, "rows_out": 8, "rejects": 0}
    for kind, splits in read_manifest(packaged).configs.items():
        if kind not in ("real", "synthetic"):
            continue
        for split, entry in splits.items():
            (name,) = entry.files
            wanted = pq.read_table(packaged / name).replace_schema_metadata(None)
            shards = [
                shard for shard in store.shards("import") if shard.startswith(f"{kind}-{split}-")
            ]
            imported = pa.concat_tables([store.load("import", shard) for shard in shards])
            assert imported.column("split").to_pylist() == [SPLITS.index(split)] * len(imported)
            own = {"kind", "captions", "caption_scores", "flags"}
            own |= {
                column.name for column in COLUMNS if column.made_by in ("quality", "duplicates")
            }
            assert not own & set(imported.column_names)
            for column in set(wanted.column_names) - own:
                assert imported.column(column).to_pylist() == wanted.column(column).to_pylist()
            for row, captions in zip(
                imported.to_pylist(), wanted.column("captions").to_pylist(), strict=True
            ):
                assert [
                    {"stream": caption["stream"], **row[f"caption_{caption['stream']}"]}
                    for caption in captions
                ] == captions


def test_a_second_run_makes_nothing(packaged: Path, tmp_path: Path) -> None:
    first, _ = bring(tmp_path, packaged)
    again, _ = bring(tmp_path, packaged)
    assert (again.shards_made, again.digest) == (0, first.digest)


def test_a_file_that_is_not_the_listed_one_is_refused(packaged: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(packaged, copy)
    path = copy / read_manifest(copy).configs["real"]["test"].files[0]
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(CorruptFile, match=r"test-00000.*not the file that manifest\.json lists"):
        bring(tmp_path, copy)
    path.unlink()
    with pytest.raises(ArasError, match=r"listed in manifest\.json but missing"):
        bring(tmp_path, copy)


def test_streams_left_out_are_not_made(packaged: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "work")
    run(
        by_default(
            ImportRelease,
            ImportSection(),
            release=packaged,
            streams=("text_qwen3-4b", "other"),
        ),
        store,
        Engine("serial"),
    )
    table = store.load("import", store.shards("import")[0])
    captions = [name for name in table.column_names if name.startswith("caption_")]
    assert captions == ["caption_text_qwen3-4b", "caption_other"]
    assert all(cell["error"] for cell in table.column("caption_other").to_pylist())


OLDER = {"transform": pa.list_(pa.float64(), 6), "gen_seed": pa.int64()}
"""Types that releases had before all readers could read them."""


def in_older_types(path: Path) -> None:
    """Rewrite a data file as an older aras wrote it; every synthetic row and caption has a seed."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    for i, row in enumerate(rows):
        row["gen_seed"] = 2**60 + i if row["id"].startswith("synthetic/") else None
        for caption in row["captions"]:
            caption["seed"] = 2**61 + i
    captions = table.schema.field("captions").type
    entry = pa.struct(
        [
            pa.field(member.name, pa.int64()) if member.name == "seed" else member
            for member in captions.value_type
        ]
    )
    older = {**OLDER, "captions": pa.list_(entry)}
    fields = [pa.field(f.name, older.get(f.name, f.type)) for f in table.schema]
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(fields)), path)


def test_a_release_of_an_older_aras_comes_in_with_todays_types(
    packaged: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "release"
    shutil.copytree(packaged, copy)
    manifest = json.loads((copy / MANIFEST).read_text())
    for file in manifest["files"]:
        if file["path"].startswith(("real/", "synthetic/")):
            in_older_types(copy / file["path"])
            file["sha256"] = sha256_file(copy / file["path"])
    (copy / MANIFEST).write_text(json.dumps(manifest))
    summary, store = bring(tmp_path, copy)
    assert not summary.failed
    (stream, *_) = streams_of(copy)
    for shard in store.shards("import"):
        table = store.load("import", shard)
        synthetic = shard.startswith("synthetic")
        n = table.num_rows
        seeds = [str(2**60 + i) if synthetic else None for i in range(n)]
        assert table.column("gen_seed").to_pylist() == seeds
        assert table.column("transform").type == pa.list_(pa.float64())
        cells = table.column(f"caption_{stream}").to_pylist()
        assert {cell["seed"] for cell in cells} <= {str(2**61 + i) for i in range(n)}
        assert any(cell["seed"] for cell in cells)


def test_a_row_whose_pictures_readers_cannot_decode_is_a_reject(
    packaged: Path, tmp_path: Path
) -> None:
    source = copy_of(packaged, tmp_path)
    name = "real/train-00000-of-00001.parquet"
    ids: list[str] = []

    def spoil(rows: list[dict[str, Any]]) -> None:
        pixels = decode_png(rows[0]["image"]["bytes"])
        rows[0]["image"]["bytes"] = png(pixels, turned(6))
        rows[1]["mask"]["bytes"] = damaged(pixels)["filter"]
        ids.extend(row["id"] for row in rows[:2])

    rewrite(source / name, rows_edited(spoil))
    restamp(source)
    summary, _ = bring(tmp_path, source)
    assert not summary.failed
    assert summary.report.account.as_json() == {"rows_in": 8, "rows_out": 6, "rejects": 2}
    listed = (tmp_path / "reports" / "import-rejects.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in listed[1:]] == [[name, id_] for id_ in ids]
    assert "EXIF orientation 6" in listed[1]
    assert "not a whole PNG" in listed[2]
    again, _ = bring(tmp_path, source)
    assert again.shards_made == 0
    assert again.report.account.as_json() == summary.report.account.as_json()
