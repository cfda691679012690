"""`aras caption` with model backends, as a user runs it: dry run, resume, offline batches."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from builder.captions.ask import Ask
from builder.captions.server import body
from builder.captions.template import Template
from builder.cli import cli
from builder.core.store import Store
from builder.land.pictures import composition_columns, encode_png, image_column
from builder.land.prompts import PRESETS
from tests.loopback.openai import TEXT, Fault, OpenAIServer, completion, first, openai_server
from tests.makers.caption_requests import requests
from tests.makers.tiny_models import tiny_model

ROWS, SHARDS = 8, 2
WRONG = "A busy harbour with many ships under a clear sky."
PRESET = Ask(PRESETS["grounded"]["model"], PRESETS["grounded"]["prompt"], ("image", "composition"))

RECIPE = """
[engine]
kind = "serial"
[captions.hosted]
backend = "openai"
base_url = "URL"
model = "tiny"
sees = ["composition"]
prompt = "Land cover: {{ percentages }}. Describe it."
retries = 0
price = { input = 2.0, output = 10.0 }
"""

LOCAL = """
[captions.local]
backend = "transformers"
model = "models/tiny"
sees = ["composition"]
prompt = "Land cover: {{ percentages }}. Describe it."
max_new_tokens = 30
batch = 3
"""


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with openai_server() as running:
        yield running


@pytest.fixture
def project(tmp_path: Path, server: OpenAIServer) -> Path:
    """Eight tiles in two shards, and a stream for the loopback server."""
    store = Store(tmp_path / "work")
    rows = requests(ROWS)
    for shard in range(SHARDS):
        part = rows[shard * ROWS // SHARDS : (shard + 1) * ROWS // SHARDS]
        names = [f"{row.id.split('/')[1]}.png" for row in part]
        table = pa.table(
            {
                "id": pa.array([row.id for row in part]),
                "image": image_column([row.image or b"" for row in part], names),
                "mask": image_column([encode_png(row.mask) for row in part], names),
                **composition_columns(_stack(part)),
            }
        )
        store.write("tiles", f"real-N00E000-{shard:02d}", table, key="k")
    (tmp_path / "dataset.toml").write_text(RECIPE.replace("URL", server.url))
    return tmp_path


def _stack(part: list[Any]) -> Any:
    import numpy as np

    return np.stack([row.pixels for row in part])


def aras(project: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["-C", str(project), *arguments])


def summary_of(project: Path, *arguments: str) -> dict[str, Any]:
    result = aras(project, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def cells(project: Path, stream: str = "hosted") -> dict[str, dict[str, Any]]:
    """The caption cell of every row, by id."""
    store = Store(project / "work")
    captions = {}
    for shard in store.shards(f"caption-{stream}"):
        table = store.read(shard, ("id", f"caption_{stream}"))
        captions.update(zip(*(column.to_pylist() for column in table.columns), strict=True))
    return captions


def every_third(fault: Fault) -> Callable[[Any], Fault | None]:
    """The third, sixth … different prompt goes wrong, whenever it is asked."""
    seen: list[str] = []

    def fault_of(asked: Any) -> Fault | None:
        if asked.prompt not in seen:
            seen.append(asked.prompt)
        return fault if seen.index(asked.prompt) % 3 == 2 else None

    return fault_of


def test_failed_rows_carry_their_error_and_are_asked_alone_by_the_next_run(
    project: Path, server: OpenAIServer
) -> None:
    server.fault_of = every_third(Fault(status=500))
    once = summary_of(project, "caption")
    assert (once["rows"], once["row_errors"]) == (8, 2)
    assert once["counts"]["captions"] == 6
    assert sum(once["report"]["row_errors"].values()) == 2
    before = cells(project)
    failed = {name for name, cell in before.items() if cell["error"]}
    assert len(failed) == 2
    assert all(cell["text"] is None for name, cell in before.items() if name in failed)
    assert "500 Internal Server Error" in before[min(failed)]["error"]

    server.fault_of = lambda asked: None
    server.log.clear()
    second = summary_of(project, "caption")
    assert len(server.log) == 2
    assert (second["row_errors"], second["counts"]["captions"]) == (0, 8)
    after = cells(project)
    assert {name: after[name] for name in before.keys() - failed} == {
        name: before[name] for name in before.keys() - failed
    }
    assert all(after[name]["text"] == TEXT for name in failed)

    server.log.clear()
    assert summary_of(project, "caption")["made"] == 0
    assert server.log == []


def test_an_ungrounded_caption_is_asked_for_again_and_then_replaced_by_the_template(
    project: Path, server: OpenAIServer
) -> None:
    recipe = RECIPE.replace("URL", server.url).split("model =")[0] + 'preset = "grounded"\n'
    (project / "dataset.toml").write_text(recipe.replace("retries = 0", ""))
    true = {
        request["messages"][0]["content"][1]["text"]: Template("composition").caption([row])[0].text
        for row in requests(ROWS)
        for request in [body(PRESET, row)]
    }
    lost = min(true)  # this tile is described wrongly every time, the others once

    def fault_of(asked: Any) -> Fault:
        first = sum(sent.prompt == asked.prompt for sent in server.log) == 1
        return Fault(text=WRONG if first or asked.prompt == lost else true[asked.prompt])

    server.fault_of = fault_of
    told_of = summary_of(project, "caption")
    assert told_of["row_errors"] == 0
    assert told_of["counts"] == {
        "captions": 8, "failed": 0, "attempts": 17, "ungrounded": 10, "fallbacks": 1,
        "prompt_tokens": 17 * 50, "new_tokens": 17 * 12,
    }  # fmt: skip
    assert len(server.log) == 17
    written = cells(project)
    assert sorted(cell["model"] for cell in written.values()).count("aras-template") == 1
    assert WRONG not in {cell["text"] for cell in written.values()}
    seeds = {sent.body["seed"] for sent in server.log if sent.prompt == lost}
    assert len(seeds) == 3


def test_a_caption_names_its_model_prompt_and_seed(project: Path) -> None:
    summary_of(project, "caption")
    written = cells(project)
    assert {cell["model"] for cell in written.values()} == {"tiny"}
    assert {cell["revision"] for cell in written.values()} == {"tiny-2026-01-05"}
    assert len({cell["prompt_sha256"] for cell in written.values()}) == 1
    assert len({cell["seed"] for cell in written.values()}) == ROWS


def test_the_summary_counts_what_the_server_used(project: Path) -> None:
    counts = summary_of(project, "caption")["counts"]
    assert counts == {"captions": 8, "failed": 0, "prompt_tokens": 400, "new_tokens": 96}


def test_a_server_that_refuses_the_key_ends_the_run_with_one_line(
    project: Path, server: OpenAIServer
) -> None:
    server.fault_of = lambda asked: Fault(status=401)
    result = aras(project, "caption")
    assert result.exit_code == 1
    assert "[captions.hosted]" in result.output
    assert "name the variable with the key: api_key_env" in result.output
    assert "nothing to do" not in result.output
    assert "0 of 2 shards made, 1 failed" in result.output
    (line,) = [line for line in result.output.splitlines() if "the run ended" in line]
    assert line.endswith("all that was done is kept, and the same command goes on from there")
    assert cells(project) == {}
    assert len({asked.prompt for asked in server.log}) <= ROWS // SHARDS


def test_a_quota_that_is_spent_in_the_middle_keeps_what_was_done(
    project: Path, server: OpenAIServer
) -> None:
    spent = Fault(status=429, raw='{"error": {"message": "no", "code": "insufficient_quota"}}')
    server.fault_of = lambda asked: spent if len(server.log) > ROWS // SHARDS else None
    result = aras(project, "caption", "--engine", "serial")
    assert result.exit_code == 1
    assert "1 of 2 shards made, 1 failed" in result.output
    assert "add credit there, then run the same command again" in result.output
    server.fault_of = lambda asked: None
    server.log.clear()
    assert aras(project, "caption", "--engine", "serial").exit_code == 0
    assert len(server.log) == ROWS - ROWS // SHARDS


def test_nonsense_of_a_server_fails_its_rows_and_no_shard(
    project: Path, server: OpenAIServer
) -> None:
    nonsense = [
        Fault(text="A forest \ud800 here"),
        Fault(raw="[" * 100_000),
        Fault(raw='{"nonsense": "\\ud800"}'),
        Fault(raw=json.dumps(completion(finish="\ud800") | {"usage": {"prompt_tokens": 10**30}})),
    ]
    server.fault_of = first(*nonsense)
    summary = summary_of(project, "caption")
    assert (summary["failed"], summary["row_errors"]) == ({}, 4)
    assert summary["counts"]["captions"] == 4


def test_the_dry_run_estimates_requests_tokens_and_cost_and_asks_nothing(
    project: Path, server: OpenAIServer
) -> None:
    estimate = summary_of(project, "caption", "--dry-run")["steps"][0]["estimate"]
    assert estimate["requests"] == ROWS
    assert estimate["new_tokens_at_most"] == ROWS * 100
    expected = estimate["prompt_tokens"] * 2e-6 + ROWS * 100 * 10e-6
    assert estimate["cost_at_most"] == pytest.approx(expected)
    assert server.log == []
    text = aras(project, "caption", "--dry-run").output
    assert "2 of 2 shards to make" in text
    assert "about 8 requests" in text

    server.fault_of = every_third(Fault(status=500))
    summary_of(project, "caption")
    again = summary_of(project, "caption", "--dry-run")["steps"][0]["estimate"]
    assert again["requests"] == 2


def test_a_batch_goes_out_and_comes_back_as_files(
    project: Path, server: OpenAIServer, tmp_path: Path
) -> None:
    out = tmp_path / "batch"
    said = summary_of(project, "caption", "hosted", "--write-requests", str(out))
    assert (said["requests"], [Path(name).name for name in said["files"]]) == (
        8,
        ["hosted-00001.jsonl"],
    )
    lines = [json.loads(line) for line in (out / "hosted-00001.jsonl").read_text().splitlines()]

    def results(name: str, part: list[dict[str, Any]]) -> Path:
        path = tmp_path / name
        response = {"status_code": 200, "body": completion()}
        answers = [{"custom_id": line["custom_id"], "response": response} for line in part]
        path.write_text("".join(json.dumps(answer) + "\n" for answer in answers))
        return path

    first = summary_of(
        project, "caption", "hosted", "--read-results", str(results("a.jsonl", lines[:5]))
    )
    assert (first["counts"]["captions"], first["row_errors"]) == (5, 3)
    rest = summary_of(project, "caption", "hosted", "--write-requests", str(tmp_path / "rest"))
    assert rest["requests"] == 3
    second = summary_of(
        project, "caption", "hosted", "--read-results", str(results("b.jsonl", lines[5:]))
    )
    assert (second["counts"]["captions"], second["row_errors"]) == (8, 0)
    assert all(caption["text"] == TEXT for caption in cells(project).values())
    assert server.log == []
    assert (
        summary_of(project, "caption", "hosted")["made"] == 0
    )  # the live stream finds it all done
    nothing = aras(project, "caption", "hosted", "--write-requests", str(tmp_path / "none"))
    assert "every row has its caption" in nothing.output


def test_a_batch_is_of_one_stream_of_a_server(project: Path, tmp_path: Path) -> None:
    result = aras(project, "caption", "--write-requests", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert "expected one STREAM" in result.output
    (tmp_path / "r").mkdir()
    both = ("--write-requests", str(tmp_path / "out"), "--read-results", str(tmp_path / "r"))
    assert aras(project, "caption", "hosted", *both).exit_code == 2


def test_an_unknown_stream_is_named(project: Path) -> None:
    result = aras(project, "caption", "hosed")
    assert result.exit_code == 2
    assert "'hosed' is not in the recipe; streams: hosted" in result.output


def test_a_local_model_captions_shards_and_a_changed_one_makes_them_again(project: Path) -> None:
    (project / "dataset.toml").write_text(LOCAL)
    missing = aras(project, "caption")
    assert missing.exit_code == 2
    assert "[captions.local]" in missing.output
    assert "hf download models/tiny" in missing.output
    assert "give the path of a folder that holds it" in missing.output

    tiny_model(project / "models" / "tiny")
    first = summary_of(project, "caption", "--engine", "serial")
    captions = cells(project, "local")
    assert (
        first["counts"]["captions"]
        == sum(caption["text"] is not None for caption in captions.values())
        > 2
    )
    revisions = {caption["revision"] for caption in captions.values()}
    assert len(revisions) == 1
    assert min(revisions).startswith("sha256:")

    tiny_model(project / "models" / "tiny", seed=1)
    again = summary_of(project, "caption", "--engine", "serial")
    assert again["made"] == SHARDS
    assert {caption["revision"] for caption in cells(project, "local").values()}.isdisjoint(
        revisions
    )


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_a_model_of_the_hub_without_a_commit_is_said_to_be_unpinned(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    home = tmp_path / "hub" / "models--someone--tiny"
    tiny_model(home / "snapshots" / COMMIT)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(COMMIT)
    recipe = LOCAL.replace("models/tiny", "someone/tiny")
    (project / "dataset.toml").write_text(recipe)
    said = aras(project, "caption", "--engine", "serial").output
    assert f'someone/tiny is not pinned: this run used commit {COMMIT}; revision = "' in said
    (project / "dataset.toml").write_text(f'{recipe}revision = "{COMMIT}"\n')
    pinned = aras(project, "caption", "--engine", "serial").output
    assert "caption-local: 8 rows" in pinned
    assert "not pinned" not in pinned
