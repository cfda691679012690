"""``aras publish zenodo`` as a user runs it: killed, resumed, reviewed, finished."""

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from builder.cli import release as publish
from tests.loopback.zenodo import Fault, LoopbackZenodo
from tests.makers.zenodo_publisher import (
    TOKEN,
    Publisher,
    assert_ended_well,
    assert_holds_what_it_must,
    assert_nothing_sent_twice,
)
from tests.makers.zenodo_release import make_release, violations, write_cards

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from builder.cli import release as publish
from tests.makers.zenodo_release import violations, write_cards
publish._check, publish._render = violations, write_cards
publish.publish(["zenodo", *sys.argv[1:]])
"""

CUT = """
import os, signal, sys
from pathlib import Path
from builder.cli import release as publish
from builder.publish import cards
from tests.makers.zenodo_release import violations
def cut(release, **dois):
    (release / "README.md").write_text("half a ca")
    os.kill(os.getpid(), signal.SIGKILL)
publish._check, publish._render = violations, cut
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def publisher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    monkeypatch.delenv("ZENODO_API_TOKEN", raising=False)
    monkeypatch.setenv("ZENODO_SANDBOX_API_TOKEN", TOKEN)
    monkeypatch.setenv("PYSTOW_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("PYSTOW_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(publish, "_check", violations)
    monkeypatch.setattr(publish, "_render", write_cards)
    with LoopbackZenodo(TOKEN) as server:
        yield Publisher(server, tmp_path)


def aras(publisher: Publisher, release: Path, *options: str) -> Result:
    """Run the command in this process; everything that it printed is kept for the token check."""
    arguments = ["zenodo", str(release), "--url", publisher.server.url, *options]
    result = CliRunner().invoke(publish.publish, arguments)
    publisher.said.append(result.output)
    return result


@contextlib.contextmanager
def running(
    publisher: Publisher, release: Path, *options: str, program: str = PROGRAM
) -> Iterator[subprocess.Popen[str]]:
    """Run the command in a process of its own, which is gone when the block ends."""
    arguments = [str(release), "--url", publisher.server.url, *options]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        with contextlib.suppress(ValueError):  # the block has read it
            publisher.said.append(process.communicate()[0])


def killed(publisher: Publisher, release: Path, fault: Fault, *options: str) -> None:
    """Run the command until the server hangs by ``fault``, then kill -9 it."""
    publisher.server.faults = [fault]
    with running(publisher, release, *options) as process:
        assert publisher.server.hanging.wait(60), process.communicate()[0]
        process.kill()
        assert process.wait(30) == -9
    publisher.server.hanging.clear()


@pytest.mark.parametrize(
    "fault",
    [
        Fault("POST", "/deposit/depositions$", "hang-done"),
        Fault("PUT", "real-train-00001", "hang"),
        Fault("PUT", "real-train-00001", "hang-done"),
    ],
    ids=["create", "mid-upload", "after upload"],
)
def test_a_killed_draft_goes_on_where_it_was(publisher: Publisher, fault: Fault) -> None:
    release = make_release(publisher.root)
    killed(publisher, release, fault)
    assert aras(publisher, release).exit_code == 0
    assert publisher.server.counted("POST", "/deposit/depositions$") == 1
    assert aras(publisher, release, "--finish").exit_code == 0
    assert_ended_well(publisher, release)


@pytest.mark.parametrize("options", [[], ["--max-files", "14"]], ids=["one record", "two"])
@pytest.mark.parametrize("action", ["hang", "hang-done"])
def test_a_killed_finish_publishes_once(
    publisher: Publisher, action: str, options: list[str]
) -> None:
    """Of two records, the second one is cut: the first is public by then."""
    release = make_release(publisher.root)
    assert aras(publisher, release, *options).exit_code == 0
    nth = (1,) if options else (0,)
    killed(publisher, release, Fault("POST", "publish$", action, nth=nth), "--finish")
    assert aras(publisher, release, "--finish").exit_code == 0
    assert publisher.server.counted("POST", "publish$", 202) == 1 + len(options) // 2
    assert_holds_what_it_must(publisher, release)


def named_command(result: Result) -> list[str]:
    """The arguments of the command that a message names."""
    (line,) = re.findall(r"`aras publish zenodo ([^`]*)`", result.output)
    return shlex.split(line)


@pytest.mark.parametrize("options", [[], ["--max-files", "14"]], ids=["one record", "two"])
@pytest.mark.parametrize(
    "fault",
    [
        Fault("POST", "pids/doi$", "hang-done"),
        Fault("PUT", r"/deposit/depositions/\d+$", "hang-done"),
        Fault("PUT", "/README.md$", "hang"),
        Fault("PUT", "/README.md$", "hang-done"),
        Fault("PUT", "/MD5SUMS$", "hang"),
        Fault("PUT", "/MD5SUMS$", "hang-done"),
    ],
    ids=lambda fault: f"{fault.path.strip('$')} {fault.action}",
)
def test_a_draft_killed_before_its_last_card_is_not_finished_but_completed(
    publisher: Publisher, fault: Fault, options: list[str]
) -> None:
    release = make_release(publisher.root)
    nth = (1,) if options else (0,)  # of two records, the second one's
    killed(publisher, release, replace(fault, nth=nth), *options)
    refused = aras(publisher, release, "--finish")
    assert refused.exit_code == 2
    assert "is not complete" in refused.output
    assert publisher.server.published() == []
    assert publisher.server.counted("POST", "publish$") == 0
    again = CliRunner().invoke(publish.publish, ["zenodo", *named_command(refused), *options])
    assert again.exit_code == 0, again.output
    assert aras(publisher, release, "--finish").exit_code == 0
    assert_holds_what_it_must(publisher, release)


def test_a_kill_while_a_ready_draft_gets_other_cards_is_seen(publisher: Publisher) -> None:
    release = make_release(publisher.root)
    assert aras(publisher, release).exit_code == 0
    (release / "CHANGELOG.md").write_text("# 0.1.0, in other words\n")
    write_cards(release)
    killed(publisher, release, Fault("PUT", "/manifest.json$", "hang"))
    refused = aras(publisher, release, "--finish")
    assert (refused.exit_code, publisher.server.published()) == (2, [])
    assert "is not complete" in refused.output
    assert aras(publisher, release).exit_code == 0
    assert aras(publisher, release, "--finish").exit_code == 0
    assert_ended_well(publisher, release)


def test_a_kill_while_the_cards_are_written_is_mended_before_anything_is_published(
    publisher: Publisher,
) -> None:
    release = make_release(publisher.root)
    with running(
        publisher, release, program=f"{CUT}\npublish.publish(['zenodo', *sys.argv[1:]])"
    ) as process:
        assert process.wait(60) == -9
    refused = aras(publisher, release, "--finish")
    assert (refused.exit_code, publisher.server.published()) == (2, [])
    assert aras(publisher, release).exit_code == 0
    whole = (release / "README.md").read_bytes()

    # Once more with the draft ready, as when a Hub's repo is written into the cards.
    manifest = json.loads((release / "manifest.json").read_text())
    dois = [manifest[name] for name in ("doi", "concept_doi")]
    again = "cards.rewrite(Path(sys.argv[1]), cut, doi=sys.argv[2], concept_doi=sys.argv[3])"
    command = [sys.executable, "-c", f"{CUT}\n{again}", str(release), *dois]
    assert subprocess.run(command, cwd=ROOT, env=environment()).returncode == -9
    assert (release / "README.md").read_bytes() != whole
    assert aras(publisher, release, "--finish").exit_code == 0
    assert (release / "README.md").read_bytes() == whole
    assert_ended_well(publisher, release)


def test_a_killed_new_version_goes_on_with_the_rest_of_the_delta(publisher: Publisher) -> None:
    publisher.publish(make_release(publisher.root))
    shards = {"real/train-00000-of-00002.parquet": b"other", "real/train-00001.parquet": b"new"}
    release = make_release(publisher.root, "0.2.0", shards)
    killed(publisher, release, Fault("PUT", "real-train-00001", "hang"))
    assert aras(publisher, release).exit_code == 0
    assert aras(publisher, release, "--finish").exit_code == 0
    assert_ended_well(publisher, release)


def test_the_first_step_ends_with_what_to_look_at_and_what_to_type(publisher: Publisher) -> None:
    release = make_release(publisher.root)
    result = aras(publisher, release)
    assert result.exit_code == 0
    [draft] = publisher.server.drafts()
    assert f"{publisher.server.url}/deposit/{draft.id}" in result.stdout
    assert f"DOI 10.5072/zenodo.{draft.id}" in result.stdout
    last = result.stdout.splitlines()[-1].strip()
    assert last == f"aras publish zenodo {release} --url {publisher.server.url} --finish"
    published = aras(publisher, release, "--finish")
    assert published.stdout.splitlines()[-1] == "version 0.1.0 is published"
    assert "NOT published" not in published.stdout
    again = aras(publisher, release, "--dry-run")
    assert again.stdout == f"version 0.1.0 is already published as 10.5072/zenodo.{draft.id}\n"


def test_json_is_one_object_and_nothing_else_on_stdout(publisher: Publisher) -> None:
    release = make_release(publisher.root)
    publisher.server.faults = [Fault("PUT", "LICENSE", "429")]
    for options, state in ((["--dry-run"], "plan"), ([], "ready"), (["--finish"], "published")):
        result = aras(publisher, release, "--json", *options)
        outcome = json.loads(result.stdout)
        assert outcome["state"] == state
        assert set(outcome["records"]) == {"main"}
    assert "429" not in result.stdout
    assert_ended_well(publisher, release)


def test_a_dry_run_needs_no_token_and_asks_nothing(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZENODO_SANDBOX_API_TOKEN")
    release = make_release(publisher.root)
    result = aras(publisher, release, "--dry-run", "--max-files", "14")
    assert result.exit_code == 0
    assert "main record: 14 files" in result.stdout
    assert "synthetic record: 11 files" in result.stdout
    assert "add     synthetic-train-00000-of-00001.parquet" in result.stdout
    assert publisher.server.log == []


def test_the_limits_of_a_record_can_be_told(publisher: Publisher) -> None:
    release = make_release(publisher.root)
    assert aras(publisher, release, "--max-bytes", "20000").exit_code == 0
    assert "delete" not in aras(publisher, release, "--dry-run").stdout
    asked = aras(publisher, release, "--dry-run", "--max-files", "100")
    assert re.search(r"\ndelete draft \d+: one record holds the release now\n", asked.stdout)
    assert aras(publisher, release).exit_code == 0
    result = aras(publisher, release, "--finish")
    assert result.exit_code == 0
    assert len(publisher.server.published()) == 2
    assert_nothing_sent_twice(publisher.server)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--url", "http://zenodo.example.org"], 2, "plain http"),
        (["--production"], 2, "set ZENODO_API_TOKEN"),
        (["--finish", "--dry-run"], 2, "cannot be combined"),
        (["--finish"], 2, "there is no draft of it"),
        (["--max-files", "3"], 2, "too large for Zenodo even as two records"),
    ],
)
def test_what_cannot_be_is_refused_before_a_call(
    publisher: Publisher, options: list[str], code: int, said: str
) -> None:
    result = aras(publisher, make_release(publisher.root), *options)
    assert result.exit_code == code
    assert said in result.output
    assert TOKEN not in result.output
    assert publisher.server.log == []


@pytest.mark.parametrize("odd", [[], {}, {"id": 1002, "conceptrecid": "1001"}], ids=str)
def test_a_server_that_is_no_zenodo_is_told_from_one_without_a_traceback(
    publisher: Publisher, odd: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher.server, "shown", lambda deposit: odd)
    with running(publisher, make_release(publisher.root)) as process:
        output = process.communicate()[0]
        assert process.returncode == 1, output
    assert "does not answer like Zenodo" in output
    assert "Traceback" not in output
    assert TOKEN not in output


def test_a_missing_token_is_named(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZENODO_SANDBOX_API_TOKEN")
    result = aras(publisher, make_release(publisher.root))
    assert result.exit_code == 2
    assert "set ZENODO_SANDBOX_API_TOKEN" in result.output


def test_a_wrong_token_is_refused_and_not_shown(publisher: Publisher) -> None:
    publisher.server.token = "another"
    result = aras(publisher, make_release(publisher.root))
    assert result.exit_code == 2
    assert "ZENODO_SANDBOX_API_TOKEN must hold" in result.output
    assert TOKEN not in result.output


def test_a_full_server_is_work_that_failed(publisher: Publisher) -> None:
    publisher.server.quota = 1000
    result = aras(publisher, make_release(publisher.root))
    assert result.exit_code == 1
    assert "Bucket quota exceeded" in result.output


def test_a_release_is_looked_for_under_the_directory_of_the_group(publisher: Publisher) -> None:
    make_release(publisher.root)
    arguments = ["zenodo", "release/0.1.0", "--url", publisher.server.url]
    result = CliRunner().invoke(publish.publish, arguments, obj=publisher.root)
    assert result.exit_code == 0
    assert f"aras publish zenodo {publisher.root}/release/0.1.0 --url" in result.stdout


def test_a_release_may_be_the_current_folder(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = make_release(publisher.root)
    monkeypatch.chdir(release)
    assert aras(publisher, Path(".")).exit_code == 0
    assert aras(publisher, Path("."), "--finish").exit_code == 0
    assert_ended_well(publisher, release)
