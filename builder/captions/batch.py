"""The OpenAI batch file format: requests written for an offline run, its results read back."""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from builder.captions.ask import Ask
from builder.captions.base import Answer
from builder.captions.server import body, read_answer, short
from builder.core.errors import ArasError
from builder.core.files import atomic, digest_of
from builder.land.prompts import Request

MAX_REQUESTS = 50_000
MAX_BYTES = 190_000_000
"""What a file may hold: OpenAI's limits are 50,000 requests and 200 MB."""


def tag(ask: Ask) -> str:
    """Twelve hex digits of all that decides a text, so that results of another prompt, model or
    decoding are not taken for these."""
    return digest_of(dataclasses.asdict(ask))[:12]


def write_requests(
    folder: Path, stream: str, ask: Ask, requests: Iterable[Request]
) -> tuple[list[Path], int]:
    """Write ``STREAM-00001.jsonl`` … under ``folder``; returns (files, number of requests).

    Each file stays within the limits above. Raises ArasError when a tile lacks what the stream
    sees; files under their names are whole.
    """
    lines = (_line(ask, request) for request in requests)
    files: list[Path] = []
    total = 0
    waiting = next(lines, None)
    while waiting is not None:
        path = folder / f"{stream}-{len(files) + 1:05d}.jsonl"
        with atomic(path) as temporary, temporary.open("wb") as file:
            count = size = 0
            while waiting is not None and (
                not count or (count < MAX_REQUESTS and size + len(waiting) <= MAX_BYTES)
            ):
                file.write(waiting)
                count, size = count + 1, size + len(waiting)
                waiting = next(lines, None)
        files.append(path)
        total += count
    return files, total


def _line(ask: Ask, request: Request) -> bytes:
    entry = {
        "custom_id": f"{tag(ask)}:{request.id}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": body(ask, request),
    }
    return json.dumps(entry, ensure_ascii=False).encode() + b"\n"


class Results:
    """The backend of an offline batch: answers rows from result files instead of asking.

    A row that the files do not hold fails with an error that says so, and is asked again by the
    next run or the next export. Raises ArasError naming file and line for what is not a
    result file, and when none of the results belongs to this stream's prompt, model and decoding.
    """

    def __init__(self, ask: Ask, files: Sequence[Path]) -> None:
        self.ask, self.model, self.revision = ask, ask.model, ask.revision
        self.answers: dict[str, Answer] = {}
        mine, others = f"{tag(ask)}:", 0
        for path, number, result in _lines(files):
            name = result.get("custom_id") if isinstance(result, dict) else None
            if not isinstance(name, str) or not ("response" in result or "error" in result):
                raise ArasError(
                    f"{path}, line {number}: is not a result of a batch: expected custom_id, and "
                    "response or error"
                )
            if name.startswith(mine):
                self.answers[name[len(mine) :]] = self._read(result)
            else:
                others += 1
        if not self.answers:
            raise ArasError(
                f"{', '.join(map(str, files))}: none of the {others:,} results answers the "
                "stream's current requests; its model, prompt or decoding has changed since they "
                "were written, or they belong to another stream"
            )

    @property
    def prompt(self) -> str:
        return self.ask.instructions

    def caption(self, requests: Sequence[Request]) -> list[Answer]:
        missing = Answer(None, "the batch's result files hold no answer to this row")
        return [self.answers.get(request.id, missing) for request in requests]

    def _read(self, result: dict[str, Any]) -> Answer:
        response = result.get("response")
        if result.get("error") or not isinstance(response, dict):
            return Answer(None, f"the batch says: {short(result.get('error'))}")
        status = response.get("status_code", 200)
        if status != 200:
            return Answer(None, f"the batch answers {short(status)}: {short(response.get('body'))}")
        return read_answer(response.get("body"), self.ask.max_new_tokens)


def result_files(path: Path) -> tuple[Path, ...]:
    """A result file, or the .jsonl files of a folder, sorted. Raises ArasError for none."""
    if path.is_file():
        return (path.absolute(),)
    files = tuple(sorted(file.absolute() for file in path.glob("[!.]*.jsonl")))
    if not files:
        raise ArasError(f"{path}: is neither a result file nor a folder with .jsonl files")
    return files


def _lines(files: Sequence[Path]) -> Iterator[tuple[Path, int, Any]]:
    for path in files:
        with path.open(encoding="utf-8") as file:
            try:
                for number, line in enumerate(file, 1):
                    if line.strip():
                        yield path, number, json.loads(line)
            except UnicodeDecodeError as error:
                raise ArasError(f"{path}: is not UTF-8 text ({error})") from error
            except (ValueError, RecursionError) as error:
                raise ArasError(f"{path}, line {number}: is not JSON ({error})") from error
