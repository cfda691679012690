"""One file over a connection that does everything wrong."""

import hashlib
import json
import random
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

from builder.core.errors import ArasError, CorruptFile
from builder.core.web import new_session
from builder.fetch.download import CHUNK, FRESH, Line, NoSpace, Remote, Stopped, download, part
from tests.loopback.files import Fault, FileServer, file_server

BODY = random.Random(1).randbytes(24 * CHUNK + 123)
OTHER = random.Random(2).randbytes(len(BODY))
CUT = 3 * CHUNK


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        running.put("/a.zip", BODY)
        yield running


@dataclass
class Run:
    server: FileServer
    target: Path
    said: list[str] = field(default_factory=list)
    counted: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def advance(self, count: int) -> None:
        self.counted += count

    def __call__(self, body: bytes | None = BODY, *, size: int | None = len(BODY)) -> None:
        md5 = hashlib.md5(body).hexdigest() if body is not None else None
        remote = Remote("a.zip", f"{self.server.url}/a.zip", size=size, md5=md5)
        line = Line(new_session(), self.advance, self.said.append, self.stop, backoff=0.001)
        download(remote, self.target, line)

    def ranges(self) -> list[str | None]:
        return [asked.range for asked in self.server.gets("/a.zip")]

    def left(self) -> list[str]:
        return sorted(path.name for path in self.target.parent.iterdir())


@pytest.fixture
def run(server: FileServer, tmp_path: Path) -> Run:
    return Run(server, tmp_path / "to" / "a.zip")


def stop_at_the_cut(run: Run, **known: object) -> None:
    """Leave a partial file of CUT bytes, as a process that was ended would."""

    def advance(count: int) -> None:
        run.counted += count
        if run.counted >= CUT:
            run.stop.set()

    run.counted = 0
    run.advance = advance  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        run(**known)  # type: ignore[arg-type]
    run.stop.clear()
    run.counted = 0
    del run.advance  # type: ignore[attr-defined]
    run.server.log.clear()
    assert part(run.target).read_bytes() == BODY[:CUT]


def test_a_file_arrives_whole_under_its_name_and_nothing_else_stays(run: Run) -> None:
    run()
    assert run.target.read_bytes() == BODY
    assert run.left() == ["a.zip"]
    assert run.counted == len(BODY)


def test_a_dropped_connection_is_resumed_from_the_byte_it_reached(run: Run) -> None:
    run.server.fault("/a.zip", Fault(drop_after=CUT))
    run()
    assert run.target.read_bytes() == BODY
    assert run.ranges() == [None, f"bytes={CUT}-"]
    assert [asked.sent for asked in run.server.gets("/a.zip")] == [CUT, len(BODY) - CUT]


def test_progress_counts_every_byte_once_however_often_it_breaks(run: Run) -> None:
    run.server.fault("/a.zip", Fault(drop_after=CUT), Fault(ignore_range=True))
    run()
    assert run.counted == len(BODY)


def test_more_drops_than_retries_are_fine_while_bytes_come(run: Run) -> None:
    run.server.fault("/a.zip", *[Fault(drop_after=CHUNK + 99)] * 20)
    run()
    assert run.target.read_bytes() == BODY
    assert len(run.ranges()) == 21


def test_a_server_that_brings_no_more_bytes_is_given_up_and_the_part_kept(run: Run) -> None:
    run.server.fault("/a.zip", Fault(drop_after=CUT), always=Fault(drop_after=0))
    with pytest.raises(requests.RequestException):
        run()
    assert part(run.target).read_bytes() == BODY[:CUT]
    assert not run.target.exists()
    assert len(run.ranges()) < 20


def test_503_and_429_are_waited_out(run: Run) -> None:
    run.server.fault("/a.zip", Fault(status=503), Fault(status=429), Fault(status=502))
    run()
    assert [asked.status for asked in run.server.gets("/a.zip")] == [503, 429, 502, 200]
    assert "503" in run.said[0]


def test_retry_after_is_honoured(run: Run) -> None:
    run.server.fault("/a.zip", Fault(status=429, headers=(("Retry-After", "1"),)))
    run()
    first, second = run.server.gets("/a.zip")
    assert second.moment - first.moment >= 1


def test_a_retry_after_that_makes_no_sense_is_no_reason_to_fail(run: Run) -> None:
    run.server.fault("/a.zip", Fault(status=503, headers=(("Retry-After", "soon"),)))
    run()
    assert run.target.read_bytes() == BODY


def test_a_later_run_asks_only_for_the_missing_bytes(run: Run) -> None:
    stop_at_the_cut(run)
    run()
    (asked,) = run.server.gets("/a.zip")
    assert asked.range == f"bytes={CUT}-"
    assert asked.headers["if-range"] == '"one"'
    assert asked.sent == len(BODY) - CUT
    assert run.target.read_bytes() == BODY
    assert run.counted == len(BODY)


def test_a_part_that_is_already_whole_is_not_asked_for_again(run: Run) -> None:
    stop_at_the_cut(run)
    part(run.target).write_bytes(BODY)
    run()
    assert run.server.log == []
    assert run.target.read_bytes() == BODY


@pytest.mark.parametrize("body", [OTHER, OTHER[: CUT + 9]])
def test_a_file_that_changed_on_the_server_is_not_spliced(run: Run, body: bytes) -> None:
    stop_at_the_cut(run, body=None, size=None)
    run.server.put("/a.zip", body, etag='"two"')
    run(body, size=None)
    assert run.target.read_bytes() == body
    assert any("another version" in text for text in run.said)


def test_a_server_that_ignores_if_range_cannot_make_a_splice_either(run: Run) -> None:
    stop_at_the_cut(run, body=None, size=None)
    run.server.put("/a.zip", OTHER, etag='"two"')
    run.server.fault("/a.zip", Fault(ignore_if_range=True))
    run(None, size=None)
    assert run.target.read_bytes() == OTHER
    assert any("has changed" in text for text in run.said)


def test_last_modified_serves_where_there_is_no_strong_etag(run: Run) -> None:
    run.server.put("/a.zip", BODY, etag='W/"weak"')
    stop_at_the_cut(run)
    run()
    (asked,) = run.server.gets("/a.zip")
    assert asked.headers["if-range"] == "Mon, 05 Jan 2026 10:00:00 GMT"
    assert asked.sent == len(BODY) - CUT


def test_without_validator_a_part_is_continued_only_when_the_md5_would_tell(run: Run) -> None:
    run.server.put("/a.zip", BODY, etag=None, last_modified=None)
    stop_at_the_cut(run)
    run()
    assert run.ranges() == [f"bytes={CUT}-"]
    run.target.unlink()
    stop_at_the_cut(run, body=None, size=None)
    run(None, size=None)
    assert run.ranges() == [None]
    assert run.target.read_bytes() == BODY


def test_a_part_of_another_address_is_not_continued(run: Run) -> None:
    stop_at_the_cut(run)
    note = part(run.target).with_name(part(run.target).name + ".json")
    note.write_text(json.dumps({**json.loads(note.read_text()), "url": "https://mirror.example"}))
    run()
    assert run.ranges() == [None]


def test_a_part_whose_note_is_lost_or_torn_is_not_continued(run: Run) -> None:
    note = part(run.target).with_name(part(run.target).name + ".json")
    for damage in (note.unlink, lambda: note.write_text("{"), lambda: note.write_text("[]")):
        stop_at_the_cut(run)
        damage()
        run()
        assert run.ranges() == [None]
        run.target.unlink()


def test_a_server_that_ignores_range_sends_all_again_and_we_say_so(run: Run) -> None:
    stop_at_the_cut(run)
    run.server.fault("/a.zip", Fault(ignore_range=True))
    run()
    assert run.target.read_bytes() == BODY
    assert run.said == ["a.zip: the server ignores Range; starting over"]


def test_a_206_from_another_place_is_not_appended(run: Run) -> None:
    stop_at_the_cut(run, body=None, size=None)
    run.server.fault("/a.zip", Fault(shift=7))
    run(None, size=None)
    assert run.target.read_bytes() == BODY
    assert run.ranges() == [f"bytes={CUT}-", None]


def test_a_206_that_ends_early_is_continued(run: Run) -> None:
    stop_at_the_cut(run)
    run.server.fault("/a.zip", Fault(claim=CHUNK))
    run()
    assert run.target.read_bytes() == BODY
    assert run.ranges() == [f"bytes={CUT}-", f"bytes={CUT + CHUNK}-"]


def test_a_file_that_shrank_answers_416_and_starts_again(run: Run) -> None:
    stop_at_the_cut(run, body=None, size=None)
    run.server.put("/a.zip", BODY[:99])
    run(None, size=None)
    assert run.target.read_bytes() == BODY[:99]
    assert [asked.status for asked in run.server.gets("/a.zip")] == [416, 200]


def test_one_wrong_byte_is_found_and_the_file_fetched_again(run: Run) -> None:
    run.server.fault("/a.zip", Fault(flip=CUT))
    run()
    assert run.target.read_bytes() == BODY
    assert run.ranges() == [None, None]
    assert "md5" in run.said[0]


def test_a_file_that_never_verifies_fails_and_leaves_nothing(run: Run) -> None:
    run.server.fault("/a.zip", always=Fault(flip=CUT))
    with pytest.raises(CorruptFile, match=hashlib.md5(BODY).hexdigest()) as caught:
        run()
    assert "fetched 3 times" in str(caught.value)
    assert len(run.ranges()) == FRESH
    assert run.left() == []
    assert run.counted == 0


def test_a_wrong_file_leaves_the_one_that_is_there_alone(run: Run) -> None:
    run.target.parent.mkdir()
    run.target.write_bytes(b"older")
    run.server.fault("/a.zip", always=Fault(flip=CUT))
    with pytest.raises(CorruptFile):
        run()
    assert run.target.read_bytes() == b"older"


def test_a_length_that_promises_too_much_is_a_break(run: Run) -> None:
    run.server.fault("/a.zip", Fault(claim=len(BODY) + 50))
    run(size=None)
    assert run.target.read_bytes() == BODY


def test_a_length_that_always_promises_too_much_ends(run: Run) -> None:
    run.server.fault("/a.zip", always=Fault(claim=len(BODY) + 50, ignore_range=True))
    with pytest.raises(requests.RequestException):
        run(size=None)
    assert not run.target.exists()


def test_a_length_that_cuts_the_file_short_is_found(run: Run) -> None:
    run.server.fault("/a.zip", Fault(claim=CUT))
    run()
    assert run.target.read_bytes() == BODY
    assert f"offers {CUT} bytes, expected {len(BODY)}" in run.said[0]


def test_a_short_file_of_unknown_size_fails_its_md5(run: Run) -> None:
    run.server.fault("/a.zip", Fault(claim=CUT))
    run(size=None)
    assert run.target.read_bytes() == BODY
    assert "md5" in run.said[0]


def test_a_body_without_announced_length_is_taken_and_checked(run: Run) -> None:
    run.server.fault("/a.zip", Fault(chunked=True))
    run()
    assert run.target.read_bytes() == BODY


def test_a_body_longer_than_the_record_says_is_cut_off(run: Run) -> None:
    run.server.fault("/a.zip", always=Fault(chunked=True))
    with pytest.raises(CorruptFile, match=f"more than {CUT} bytes"):
        run(size=CUT)
    assert run.left() == []


def test_an_empty_file_is_a_file(run: Run) -> None:
    run.server.put("/a.zip", b"")
    run(b"", size=0)
    assert run.target.read_bytes() == b""
    assert run.left() == ["a.zip"]


def test_a_missing_file_is_not_asked_for_twice(run: Run) -> None:
    run.server.fault("/a.zip", Fault(status=404))
    with pytest.raises(requests.HTTPError, match="404"):
        run()
    assert len(run.ranges()) == 1


def test_a_redirect_is_followed(run: Run) -> None:
    run.server.put("/b.zip", BODY)
    run.server.fault("/a.zip", Fault(redirect="/b.zip"))
    run()
    assert run.target.read_bytes() == BODY


def test_a_redirect_to_plain_http_elsewhere_is_refused(run: Run) -> None:
    run.server.put("/b.zip", BODY)
    # 0.0.0.0 reaches this server but is not a loopback address.
    elsewhere = run.server.url.replace("127.0.0.1", "0.0.0.0") + "/b.zip"
    run.server.fault("/a.zip", Fault(redirect=elsewhere))
    with pytest.raises(ArasError, match="https://"):
        run()
    assert run.left() == []


def test_an_answer_that_is_neither_file_nor_error_is_refused(run: Run) -> None:
    run.server.fault("/a.zip", Fault(status=204))
    with pytest.raises(ArasError, match="204"):
        run()


def test_a_file_larger_than_the_disk_is_not_begun(run: Run, tmp_path: Path) -> None:
    huge = shutil.disk_usage(tmp_path).free + 10**12
    run.server.fault("/a.zip", always=Fault(claim=huge))
    with pytest.raises(NoSpace, match=f"{huge} bytes still to come"):
        run(None, size=None)
    assert not run.target.exists()
