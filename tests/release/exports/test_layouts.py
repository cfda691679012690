"""Exports for other tools: each is read back by the tool that it is for."""

import hashlib
import json
import shutil
import tarfile
import warnings
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio

from builder.core.errors import ArasError
from builder.core.manifest import read_manifest
from builder.land.classes import CLASSES, PALETTE
from builder.land.pictures import decode_mask, decode_png
from builder.pipeline.project import Project
from builder.release.exports import FORMATS, Exported, Options, export, webdataset
from tests.makers import official

LAYOUTS = sorted(set(FORMATS) - {"zenodo"})


@pytest.fixture(scope="module")
def release(project: Project) -> Path:
    return project.releases / project.recipe.dataset.version


@pytest.fixture(scope="module")
def rows(release: Path) -> dict[str, dict]:
    """Every row with pictures, by id."""
    files = [path for kind in ("real", "synthetic") for path in (release / kind).glob("*.parquet")]
    return {row["id"]: row for path in files for row in pq.read_table(path).to_pylist()}


@pytest.fixture(scope="module")
def out(release: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every layout of the release, by name."""
    base = tmp_path_factory.mktemp("layouts")
    for name in LAYOUTS:
        export(release, base / name, name, Options())
    return {name: base / name for name in LAYOUTS}


@pytest.fixture(scope="module")
def placeless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of imported rows whose names give no place, without captions."""
    files = official.official(train=2, val=1, test=1, synth=1)
    for i, path in enumerate([path for path in files.files if "/images/" in path]):
        split, _, name = path.removesuffix(".png").split("/")
        files.rename(split, name, f"plain-{i}")
    return official.release(files, tmp_path_factory.mktemp("placeless"), captions=False)


def text_of(row: dict, stream: str) -> str | None:
    return next(entry["text"] for entry in row["captions"] if entry["stream"] == stream)


def digest(folder: Path) -> str:
    state = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        state.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return state.hexdigest()


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_geotiffs_lie_where_their_rows_do_with_the_pixels_and_colours_of_the_masks(
    out: dict[str, Path], rows: dict[str, dict]
) -> None:
    seen = set()
    for path in out["geotiff"].rglob("*.tif"):
        if path.name.endswith(".mask.tif"):
            continue
        with rasterio.open(path) as image, rasterio.open(path.with_suffix(".mask.tif")) as mask:
            row = rows[image.tags()["id"]]
            assert mask.tags()["id"] == row["id"]
            assert (np.moveaxis(image.read(), 0, -1) == decode_png(row["image"]["bytes"])).all()
            assert (mask.read(1) == decode_mask(row["mask"]["bytes"], "mask")).all()
            assert [mask.colormap(1)[i][:3] for i in range(7)] == [*map(tuple, PALETTE.tolist())]
            assert [mask.tags(1)[f"class_{i}"] for i in range(7)] == list(CLASSES)
            for file in (image, mask):
                if row["kind"] == 0:
                    assert file.crs.to_string() == row["crs"]
                    assert list(file.transform)[:6] == row["transform"]
                    centre = file.xy(32, 32, offset="ul")
                    assert centre == pytest.approx((row["longitude"], row["latitude"]))
                else:
                    assert file.crs is None
            seen.add(row["id"])
    assert seen == rows.keys()


def test_rows_without_a_place_are_plain_tiff_and_counted(
    release: Path, placeless: Path, tmp_path: Path
) -> None:
    exported = export(placeless, tmp_path / "a", "geotiff", Options())
    assert exported.notes == ("5 rows without a place: plain TIFF, without CRS and transform",)
    synthetic = read_manifest(release).facts.census.rows["synthetic/train"]
    exported = export(release, tmp_path / "b", "geotiff", Options())
    assert exported.notes[0].startswith(f"{synthetic} rows without a place")
    assert sum(exported.rows.values()) > synthetic


def test_writing_plain_tiff_warns_nobody(placeless: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export(placeless, tmp_path / "out", "geotiff", Options())


def test_an_unknown_crs_is_named_with_its_row(release: Path, tmp_path: Path) -> None:
    copy = tmp_path / "release"
    shutil.copytree(release, copy)
    path = next((copy / "real").glob("test-*.parquet"))
    table = pq.read_table(path)
    place = table.schema.get_field_index("crs")
    strange = pa.array(["EPSG:none"] * table.num_rows)
    pq.write_table(table.set_column(place, "crs", strange), path)
    with pytest.raises(ArasError, match=r"real/\S+: CRS 'EPSG:none' is unknown"):
        export(copy, tmp_path / "out", "geotiff", Options())
    assert not (tmp_path / "out").exists()


def test_tar_shards_load_as_a_webdataset(out: dict[str, Path], rows: dict[str, dict]) -> None:
    shards = {
        kind: [str(path) for path in (out["webdataset"] / kind).glob("*.tar")]
        for kind in ("real", "synthetic")
    }
    read = {}
    for files in shards.values():
        loaded = datasets.load_dataset(
            "webdataset", data_files=files, split="train", streaming=True
        )
        read |= {sample["json"]["id"]: sample for sample in loaded}
    assert read.keys() == rows.keys()
    for row_id, sample in read.items():
        row = rows[row_id]
        assert sample["__key__"] == row_id
        assert (np.asarray(sample["png"]) == decode_png(row["image"]["bytes"])).all()
        mask = decode_mask(row["mask"]["bytes"], "mask")
        assert (np.asarray(sample["mask.png"]) == mask).all()
        assert sample["txt"] == text_of(row, "dominant")
        assert sample["json"]["captions"]["full"] == text_of(row, "full")
        assert sample["json"]["percent"] == row["percent"]


def test_another_stream_fills_the_caption_of_a_sample(
    release: Path, rows: dict[str, dict], tmp_path: Path
) -> None:
    exported = export(release, tmp_path / "out", "webdataset", Options(streams={"txt": "full"}))
    assert exported.streams == {"txt": "full"}
    with tarfile.open(next((tmp_path / "out" / "real").glob("test-*.tar"))) as archive:
        text = next(name for name in archive.getnames() if name.endswith(".txt"))
        data = archive.extractfile(text)
        assert data is not None
        row = rows[text.removesuffix(".txt")]
        assert data.read().decode() == text_of(row, "full")


def test_a_full_shard_is_followed_by_another_and_no_sample_spans_two(
    release: Path, rows: dict[str, dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webdataset, "SHARD_BYTES", 100_000)
    export(release, tmp_path / "out", "webdataset", Options())
    shards = sorted((tmp_path / "out" / "real").glob("train-*.tar"))
    assert len(shards) > 1
    assert [path.name for path in shards] == [f"train-{i:05d}.tar" for i in range(len(shards))]
    keys = []
    for path in shards:
        with tarfile.open(path) as archive:
            names = archive.getnames()
        for key in dict.fromkeys(name.split(".")[0] for name in names):
            assert {f"{key}.png", f"{key}.mask.png", f"{key}.json"} <= set(names)
            keys.append(key)
    assert len(keys) == len(set(keys))


def test_a_key_holds_no_dot() -> None:
    assert webdataset.key_of("synthetic/v1.5/0001") == "synthetic/v1%2E5/0001"


def test_an_image_folder_loads_with_masks_and_texts(
    out: dict[str, Path], rows: dict[str, dict], tmp_path: Path
) -> None:
    loaded = datasets.load_dataset(
        "imagefolder", data_dir=str(out["imagefolder"]), cache_dir=str(tmp_path)
    )
    read = {sample["id"]: (split, sample) for split in loaded for sample in loaded[split]}
    assert read.keys() == rows.keys()
    for row_id, (split, sample) in read.items():
        row = rows[row_id]
        assert split == sample["split"]
        assert (np.asarray(sample["image"]) == decode_png(row["image"]["bytes"])).all()
        assert (np.asarray(sample["mask"]) == decode_mask(row["mask"]["bytes"], "mask")).all()
        assert sample["text"] == text_of(row, "dominant")
        assert sample["captions"]["layout"] == text_of(row, "layout")
        assert sample["dominant"] == CLASSES[row["dominant"]]


def test_an_image_folder_without_captions_loads_too(placeless: Path, tmp_path: Path) -> None:
    exported = export(placeless, tmp_path / "out", "imagefolder", Options())
    assert exported.streams == {"text": None}
    loaded = datasets.load_dataset(
        "imagefolder", data_dir=str(tmp_path / "out"), cache_dir=str(tmp_path / "cache")
    )
    assert {split: part.num_rows for split, part in loaded.items()} == exported.rows
    assert "text" not in loaded["train"].features


def test_coco_captions_are_those_of_every_stream(
    out: dict[str, Path], rows: dict[str, dict]
) -> None:
    seen = set()
    for path in (out["coco-captions"] / "annotations").iterdir():
        split = path.stem.removeprefix("captions_")
        document = json.loads(path.read_text())
        images = {image["id"]: image for image in document["images"]}
        assert list(images) == list(range(1, len(images) + 1))
        texts: dict[int, dict[str, str]] = {}
        for annotation in document["annotations"]:
            texts.setdefault(annotation["image_id"], {})[annotation["stream"]] = annotation[
                "caption"
            ]
        for number, image in images.items():
            row = rows[image["row"]]
            picture = (out["coco-captions"] / split / image["file_name"]).read_bytes()
            assert picture == row["image"]["bytes"]
            assert (image["width"], image["height"]) == (64, 64)
            assert texts[number] == {
                entry["stream"]: entry["text"]
                for entry in row["captions"]
                if entry["text"] is not None
            }
            seen.add(row["id"])
    assert seen == rows.keys()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_equal_releases_give_equal_files(
    release: Path, out: dict[str, Path], layout: str, tmp_path: Path
) -> None:
    exported = export(release, tmp_path / "again", layout, Options())
    assert digest(tmp_path / "again") == digest(out[layout])
    assert isinstance(exported, Exported)
    assert sum(exported.rows.values()) == sum(read_manifest(release).facts.census.rows.values())


@pytest.mark.parametrize(
    ("layout", "options", "message"),
    [
        ("webdataset", Options(streams={"txt": "none"}), "has no stream none; it has dominant"),
        ("imagefolder", Options(streams={"txt": "full"}), "txt: this layout has one caption "),
        ("coco-captions", Options(streams={"text": "full"}), "the captions of every stream"),
        ("geotiff", Options(streams={"text": "full"}), "geotiff: holds no captions"),
        ("geotiff", Options(zipped=True), "layout geotiff has no zips; leave --zip out"),
    ],
)
def test_an_option_that_does_not_fit_is_refused_with_what_does(
    release: Path, layout: str, options: Options, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ArasError, match=message):
        export(release, tmp_path / "out", layout, options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("row_id", ["../../escaped", "/escaped", "real/..", "a//b", ""])
@pytest.mark.parametrize("layout", ["geotiff", "imagefolder"])
def test_no_id_leads_out_of_the_folder(
    release: Path, layout: str, row_id: str, tmp_path: Path
) -> None:
    copy = tmp_path / "release"
    shutil.copytree(release, copy)
    path = next((copy / "real").glob("train-*.parquet"))
    table = pq.read_table(path)
    ids = [row_id, *table.column("id").to_pylist()[1:]]
    pq.write_table(table.set_column(0, "id", pa.array(ids)), path)
    with pytest.raises(ArasError, match="cannot be the name of a file"):
        export(copy, tmp_path / "to" / "out", layout, Options())
    assert [path.name for path in tmp_path.iterdir()] in (["release", "to"], ["to", "release"])
    assert not list((tmp_path / "to").iterdir())


@pytest.mark.parametrize("layout", ["coco-captions", "geotiff", "imagefolder"])
def test_a_row_never_hides_another_of_its_id(release: Path, layout: str, tmp_path: Path) -> None:
    copy = tmp_path / "release"
    shutil.copytree(release, copy)
    path = next((copy / "real").glob("train-*.parquet"))
    table = pq.read_table(path)
    ids = table.column("id").to_pylist()
    pq.write_table(table.set_column(0, "id", pa.array([ids[0], *ids[:1], *ids[2:]])), path)
    with pytest.raises(ArasError, match="two rows of the release have this id"):
        export(copy, tmp_path / "out", layout, Options())
