import json
import re
from pathlib import Path

import pytest

from builder.captions.ask import Ask
from builder.captions.stage import Caption
from builder.captions.template import Style
from builder.core.errors import ArasError
from builder.land import prompts
from builder.pipeline import recipe
from builder.pipeline.project import Project

SERVER = 'backend = "openai"\nbase_url = "http://127.0.0.1:1/v1"\n'


def stage(folder: Path, text: str) -> Caption:
    (folder / "dataset.toml").write_text(f"[captions.one]\n{text}\n")
    return Project(folder).caption("one")


def test_a_stream_without_keys_is_the_template(tmp_path: Path) -> None:
    plain = stage(tmp_path, "")
    assert (plain.stream, plain.backend, plain.ask) == ("one", "template", Style("full"))
    assert stage(tmp_path, 'style = "layout"').ask == Style("layout")


@pytest.mark.parametrize("name", prompts.PRESETS)
@pytest.mark.parametrize("server", ["", SERVER], ids=["transformers", "openai"])
def test_every_preset_is_a_stream_on_both_backends(tmp_path: Path, name: str, server: str) -> None:
    caption = stage(tmp_path, f'preset = "{name}"\n{server}')
    preset = prompts.PRESETS[name]
    assert caption.backend == ("openai" if server else "transformers")
    assert isinstance(caption.ask, Ask)
    assert (caption.ask.model, list(caption.ask.sees)) == (preset["model"], preset["sees"])
    assert caption.ask.prompt == preset["prompt"]
    assert caption.ask.max_new_tokens == 100


def test_the_original_streams_decode_as_they_did(tmp_path: Path) -> None:
    asks = {name: stage(tmp_path, f'preset = "{name}"').ask for name in prompts.PRESETS}
    decodings = {name: ask.decoding for name, ask in asks.items() if isinstance(ask, Ask)}
    assert decodings == {
        "text_qwen3-4b": "sample",
        "vision_gemma3-4b": "model",
        "vision_qwen3-vl-8b": "greedy",
        "hybrid_gemma3-4b": "model",
        "hybrid_qwen3-vl-8b": "greedy",
        "grounded": "sample",
    }
    text = asks["text_qwen3-4b"]
    assert isinstance(text, Ask)
    assert (text.temperature, text.top_p) == (0.7, 0.8)


def test_keys_beside_a_preset_replace_its_own(tmp_path: Path) -> None:
    (tmp_path / "mine.j2").write_text("Only {{ composition }}.")
    text = 'preset = "grounded"\nprompt_file = "mine.j2"\ndecoding = "greedy"\nrevision = "v1"'
    ask = stage(tmp_path, text).ask
    assert isinstance(ask, Ask)
    assert (ask.prompt, ask.decoding, ask.revision) == ("Only {{ composition }}.", "greedy", "v1")
    assert (ask.attempts, ask.fallback) == (1, "full")
    assert (ask.min_discrimination, ask.min_grounding) == (0.7, 0.5)


MODEL = 'backend = "transformers"\nmodel = "a/b"\nsees = ["image"]\nprompt = "Describe."\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('backend = "vllm"', "known backends are template, transformers, openai"),
        ('preset = "text_gpt"', "unknown preset; expected one of text_qwen3-4b, "),
        ('style = "poem"', "captions.one.style = 'poem'"),
        ('model = "a/b"', 'captions.one.model does not go with backend = "template": it goes with'),
        (MODEL + "concurrency = 3", 'it goes with backend = "openai"'),
        (MODEL + "bacth = 3", "unknown key captions.one.bacth; did you mean batch?"),
        (MODEL + "batch = 0", "captions.one.batch = 0: "),
        (MODEL + 'sees = ["smell"]', "sees"),
        (MODEL.replace('["image"]', "[]"), "captions.one.sees = []"),
        (MODEL.replace('["image"]', '["smell"]'), "'image', 'composition' or 'layout'"),
        (MODEL + "top_p = 0.9", 'top_p needs decoding = "sample"'),
        (MODEL + "attempts = 3", 'attempts needs decoding = "sample"'),
        (MODEL + 'prompt_file = "x.j2"', "expected either prompt (text) or prompt_file"),
        (MODEL.replace("Describe.", "{{ percentages }}"), "[captions.one] prompt: uses {{ perc"),
        ('backend = "transformers"\nsees = ["image"]\nprompt = "x"', "captions.one.model"),
        (MODEL.replace('prompt = "', 'prompt_file = "'), "[captions.one] prompt_file: "),
        ('preset = "vision_gemma3-4b"\nmodel = "./m"\nrevision = "1"', "./m is a local model"),
        (
            'preset = "vision_gemma3-4b"\nmodel = "m.gguf"',
            "a GGUF model (m.gguf) cannot see images",
        ),
        (SERVER + 'preset = "grounded"\nbase_url = "ftp://x"', "Cannot overwrite"),
        ('preset = "grounded"\nbackend = "openai"\nbase_url = "ftp://x"', "captions.one.base_url"),
        (SERVER + 'preset = "grounded"\nprice = { input = 1 }', "captions.one.price.output"),
        (SERVER + 'preset = "grounded"\nprice = { inputs = 1 }', "did you mean input?"),
    ],
)
def test_a_wrong_key_is_one_clear_line(tmp_path: Path, text: str, words: str) -> None:
    if text.count("sees =") > 1:
        words = "Cannot overwrite"
    with pytest.raises(ArasError, match=re.escape(words)) as caught:
        stage(tmp_path, text)
    assert "\n" not in str(caught.value) or "price" in text


def test_where_a_server_runs_and_its_keys_name_stay_out_of_releases(tmp_path: Path) -> None:
    caption = stage(tmp_path, SERVER + 'preset = "grounded"\napi_key_env = "MY_KEY"')
    published = json.dumps(recipe.load(tmp_path).model_dump(mode="json"))
    assert "127.0.0.1" not in published
    assert "MY_KEY" not in published
    assert "grounded" in published
    assert (caption.running.base_url, caption.running.api_key_env) == (
        "http://127.0.0.1:1/v1",
        "MY_KEY",
    )


def test_what_changes_only_the_speed_is_not_part_of_the_identity(tmp_path: Path) -> None:
    plain = stage(tmp_path, MODEL).config()
    assert stage(tmp_path, MODEL + 'batch = 3\nattention = "eager"').config() == plain
    assert stage(tmp_path, MODEL + 'revision = "v1"').config() == plain  # in `models`, resolved
    for changed in ("max_new_tokens = 50", 'dtype = "float32"', 'system = "Be brief."'):
        assert stage(tmp_path, MODEL + changed).config() != plain


def test_a_changed_prompt_file_changes_the_identity(tmp_path: Path) -> None:
    text = MODEL.replace('prompt = "Describe."', 'prompt_file = "p.j2"')
    (tmp_path / "p.j2").write_text("Describe.")
    first = stage(tmp_path, text).config()
    assert first == stage(tmp_path, MODEL).config()
    (tmp_path / "p.j2").write_text("Describe it.")
    assert stage(tmp_path, text).config() != first


def test_a_local_model_is_named_without_its_folder(tmp_path: Path) -> None:
    caption = stage(tmp_path, 'preset = "text_qwen3-4b"\nmodel = "models/small.Q4.gguf"')
    assert isinstance(caption.ask, Ask)
    assert caption.ask.model == "small.Q4"
    assert caption.running.path == tmp_path / "models/small.Q4.gguf"


def test_a_stage_needs_only_what_its_stream_sees(tmp_path: Path) -> None:
    needs = {name: stage(tmp_path, f'preset = "{name}"').needs for name in prompts.PRESETS}
    assert needs["text_qwen3-4b"] == ("id", "pixels")
    assert needs["vision_gemma3-4b"] == ("id", "image")
    assert needs["hybrid_gemma3-4b"] == ("id", "image", "pixels")
    assert needs["grounded"] == ("id", "image", "mask", "pixels")
    assert stage(tmp_path, "").needs == ("id", "mask", "pixels")
