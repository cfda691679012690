"""A release of ours comes in again as it is, each file checked against its manifest."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builder.core.engine import Engine
from builder.core.errors import ArasError, CorruptFile
from builder.core.manifest import read_manifest
from builder.core.store import Store
from builder.land.columns import COLUMNS, SPLITS
from builder.official.import_release import ImportRelease, is_release, streams_of
from builder.steps.plan import Summary, run
from tests.makers.official import official, release


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    layout = official(train=3, val=1, test=1, synth=2, generated=1)
    return release(layout, tmp_path_factory.mktemp("made"))


def bring(folder: Path, source: Path, **options: object) -> tuple[Summary, Store]:
    store = Store(folder / "work")
    stage = ImportRelease(source, streams_of(source), **options)
    return run(stage, store, Engine("serial")), store


def test_a_release_is_told_by_its_manifest(made: Path, tmp_path: Path) -> None:
    assert is_release(made)
    assert not is_release(tmp_path)


def test_every_column_of_every_row_comes_in(made: Path, tmp_path: Path) -> None:
    summary, store = bring(tmp_path, made)
    assert not summary.failed
    assert summary.report["account"] == {"rows_in": 8, "rows_out": 8, "rejects": 0}
    for kind, splits in read_manifest(made).configs.items():
        if kind not in ("real", "synthetic"):
            continue
        for split, entry in splits.items():
            (name,) = entry.files
            wanted = pq.read_table(made / name).replace_schema_metadata(None)
            shards = [one for one in store.shards("import") if one.startswith(f"{kind}-{split}-")]
            found = pa.concat_tables([store.load("import", shard) for shard in shards])
            assert found.column("split").to_pylist() == [SPLITS.index(split)] * len(found)
            own = {"kind", "captions", "caption_scores", "flags"}
            own |= {one.name for one in COLUMNS if one.made_by in ("quality", "duplicates")}
            assert not own & set(found.column_names)
            for column in set(wanted.column_names) - own:
                assert found.column(column).to_pylist() == wanted.column(column).to_pylist()
            for row, captions in zip(
                found.to_pylist(), wanted.column("captions").to_pylist(), strict=True
            ):
                assert [
                    {"stream": one["stream"], **row[f"caption_{one['stream']}"]} for one in captions
                ] == captions


def test_a_second_run_makes_nothing(made: Path, tmp_path: Path) -> None:
    first, _ = bring(tmp_path, made)
    again, _ = bring(tmp_path, made)
    assert (again.made, again.digest) == (0, first.digest)


def test_a_file_that_is_not_the_listed_one_is_refused(made: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    path = copy / read_manifest(copy).configs["real"]["test"].files[0]
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(CorruptFile, match=r"test-00000.*is not the file that manifest\.json lists"):
        bring(tmp_path, copy)
    path.unlink()
    with pytest.raises(ArasError, match=r"listed in manifest\.json but missing"):
        bring(tmp_path, copy)


def test_streams_left_out_are_not_made(made: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "work")
    run(ImportRelease(made, ("text_qwen3-4b", "other")), store, Engine("serial"))
    table = store.load("import", store.shards("import")[0])
    captions = [name for name in table.column_names if name.startswith("caption_")]
    assert captions == ["caption_text_qwen3-4b", "caption_other"]
    assert all(cell["error"] for cell in table.column("caption_other").to_pylist())
