"""Data of others in the forms in which they circulate, scored by our rules."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image

from builder.cli import cli
from builder.core.errors import ArasError
from builder.land.classes import CLASSES, PALETTE
from builder.retrieval import others
from builder.retrieval.benchmark import Model, run
from builder.retrieval.protocol import Settings
from builder.retrieval.result import read
from tests.makers.toy_encoders import colours

MODEL = "tests.makers.toy_encoders:colours"
IMAGES = 9
NAMES = [f"{n:012d}.png" for n in range(IMAGES)]


def picture(n: int) -> bytes:
    rng = np.random.default_rng(n)
    mask = np.where(rng.random((16, 16)) < 0.6, n % 7, (n * 3 + 1) % 7)
    file = io.BytesIO()
    Image.fromarray(np.array(PALETTE, np.uint8)[mask]).save(file, "PNG")
    return file.getvalue()


def captions(n: int) -> list[str]:
    """Two captions; the last image has none, and is a distractor."""
    if n == IMAGES - 1:
        return []
    first, second = CLASSES[n % 7].lower(), CLASSES[(n * 3 + 1) % 7].lower()
    return [f"A place of {first} and {second}.", f"Mostly {first}."]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    for n, name in enumerate(NAMES):
        (tmp_path / "pictures" / name).write_bytes(picture(n))
    return tmp_path


def karpathy(folder: Path) -> Path:
    images = [
        {
            "filename": name,
            "split": "test",
            "sentences": [{"raw": text, "tokens": text.split()} for text in captions(n)],
        }
        for n, name in enumerate(NAMES)
    ]
    images.append(
        {"filename": "elsewhere.png", "split": "train", "sentences": [{"raw": "A lake."}]}
    )
    (folder / "karpathy.json").write_text(json.dumps({"images": images}))
    return folder / "karpathy.json"


def web_dataset(folder: Path) -> Path:
    with tarfile.open(folder / "shard.tar", "w") as archive:
        for n, name in enumerate(NAMES):
            texts = json.dumps({"captions": captions(n)}).encode()
            for suffix, data in (("png", picture(n)), ("json", texts)):
                member = tarfile.TarInfo(f"{Path(name).stem}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return folder / "shard.tar"


def dataset_folder(folder: Path) -> Path:
    (folder / "rows").mkdir()
    rows = [
        {"file_name": name, "image": {"bytes": picture(n), "path": name}, "captions": captions(n)}
        for n, name in enumerate(NAMES)
    ]
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema(
        [("file_name", pa.string()), ("image", image), ("captions", pa.list_(pa.string()))]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / "rows" / "part.parquet")
    return folder / "rows"


def coco(folder: Path) -> Path:
    value = {
        "images": [{"id": n, "file_name": name} for n, name in enumerate(NAMES)],
        "annotations": [
            {"id": 10 * n + k, "image_id": n, "caption": text}
            for n in range(IMAGES)
            for k, text in enumerate(captions(n))
        ],
    }
    (folder / "coco.json").write_text(json.dumps(value))
    return folder / "coco.json"


def by_hand(images: int) -> list[float]:
    """Strict t2i R@1 and R@5 of the toy encoder, ties at their mean, from all scores."""
    of_image, of_text = colours()
    pixels = [np.asarray(Image.open(io.BytesIO(picture(n)))) for n in range(images)]
    texts = [(n, text) for n in range(IMAGES) for text in captions(n)]
    x, y = of_image(pixels).astype(float), of_text([text for _, text in texts]).astype(float)
    x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))
    recalls = []
    for k in (1, 5):
        hits = []
        for t, (own, _) in enumerate(texts):
            wrong = np.delete(x @ y[t], own)
            best = x[own] @ y[t]
            above, level = (wrong > best + 1e-6).sum(), (np.abs(wrong - best) <= 1e-6).sum()
            hits.append(np.clip((k - above) / (level + 1), 0, 1))
        recalls.append(100 * float(np.mean(hits)))
    return recalls


def figures(data: Path, images: Path | None):
    rows = others.load(data, images, "test")
    return run(rows, Model(MODEL), (others.STREAM,), Settings()).result.streams[others.STREAM]


@pytest.mark.parametrize("form", [karpathy, web_dataset, dataset_folder])
def test_every_form_gives_the_figures_of_the_score_matrix_with_its_distractor(folder, form):
    evaluation = figures(form(folder), folder / "pictures" if form is karpathy else None)
    assert (evaluation.images, evaluation.texts) == (IMAGES - 1, 2 * (IMAGES - 1))
    for k, value in zip((1, 5), by_hand(IMAGES), strict=True):
        assert evaluation.S.t2i[f"R@{k}"] == pytest.approx(value)
    assert evaluation.S.gallery.t2i.keys() == {str(IMAGES)}
    assert evaluation.C is None


def test_a_distractor_is_in_the_way_of_texts_alone(folder):
    """COCO lists no image that has no caption, so its gallery has no distractor."""
    with_distractor = figures(karpathy(folder), folder / "pictures")
    without = figures(coco(folder), folder / "pictures")
    assert without.S.t2i["R@1"] == pytest.approx(by_hand(IMAGES - 1)[0])
    assert with_distractor.S.t2i["R@1"] < without.S.t2i["R@1"]
    assert with_distractor.S.i2t == without.S.i2t


def test_equal_captions_are_merged_and_bound_the_strict_figure(folder):
    evaluation = figures(karpathy(folder), folder / "pictures")
    assert evaluation.S.ceiling["R@1"] < 100
    assert evaluation.D.captions < evaluation.texts
    assert evaluation.D.mR > evaluation.S.mR
    assert evaluation.D_near is None or evaluation.D_near.captions <= evaluation.D.captions


def test_the_command_scores_captions_alone_and_says_how_often_they_repeat(folder, monkeypatch):
    monkeypatch.chdir(folder)
    command = ["bench", "retrieval", "--data", str(karpathy(folder)), "--model", "tfidf"]
    answer = CliRunner().invoke(cli, [*command, "--out", "mine.json"])
    assert answer.exit_code == 0, answer.output
    result = read(folder / "mine.json")
    assert result.streams["captions"].texts == IMAGES - 1  # the others search the first of each
    assert any("redundancy" in note for note in result.notes)
    assert "12.50 % raw" in answer.output


def test_what_is_missing_is_named(folder, monkeypatch):
    data = karpathy(folder)
    with pytest.raises(ArasError, match="its splits are test, train"):
        others.load(data, None, "validation")
    (folder / "pictures" / NAMES[3]).unlink()
    with pytest.raises(ArasError, match=f"no picture of {NAMES[3]}"):
        others.load(data, folder / "pictures", "test")
    both = ["bench", "retrieval", str(folder), "--data", str(data), "--model", "tfidf"]
    answer = CliRunner().invoke(cli, both)
    assert "either RELEASE or --data FILE" in answer.output
