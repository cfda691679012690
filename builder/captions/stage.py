"""Stage: a caption stream, each caption with its model, revision, prompt digest and seed."""

import contextlib
import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from builder.captions.ask import BEST, Ask
from builder.captions.base import Answer, Backend, BackendSpec, Running, Settings, flaw
from builder.captions.section import BACKENDS, backend_of
from builder.captions.template import Style
from builder.core.errors import ArasError
from builder.core.fields import Section
from builder.core.seeds import SEED, seed
from builder.core.store import Store
from builder.land.columns import CAPTION, STREAM_PREFIX
from builder.land.pictures import decode_mask, decode_png, image_bytes, per_class
from builder.land.prompts import Request
from builder.steps.plan import Plan
from builder.steps.stage import Maker, Output, Stage, setting

SHOWN_ERRORS = 5
"""Most different errors of rows that a summary shows."""


@dataclass(frozen=True)
class Unpinned:
    """A model of the Hub that the recipe does not pin, and the commit that was used."""

    model: str
    commit: str


@dataclass(frozen=True)
class CaptionReport:
    """The most frequent errors of rows that have no caption, with how many have each."""

    row_errors: dict[str, int]
    unpinned: Unpinned | None

    def lines(self) -> list[str]:
        lines = [f"{rows:,} × {error}" for error, rows in self.row_errors.items()]
        if self.unpinned is None:
            return lines
        model, commit = self.unpinned.model, self.unpinned.commit
        pin = f'revision = "{commit}" in the recipe pins it'
        return [f"{model} is not pinned: this run used commit {commit}; {pin}", *lines]

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in dataclasses.asdict(self).items() if value}


@dataclass(frozen=True)
class Caption(Stage):
    """Caption every row in one stream. A row that failed carries its error and a null text, and
    only such a row is tried again by the next run.

    ``backend`` is a name in `BACKENDS`; ``ask`` and ``running`` are what it is configured with.
    """

    stream: str = "full"
    backend: str = "template"
    seed: int = SEED
    ask: Settings = Style()
    running: Running = setting(Running())

    @property
    def spec(self) -> BackendSpec:
        return BACKENDS[self.backend]

    @property
    def name(self) -> str:
        return f"caption-{self.stream}"

    @property
    def needs(self) -> tuple[str, ...]:
        return ("id", *self.ask.needs)

    @property
    def adds(self) -> tuple[str, ...]:
        return (f"{STREAM_PREFIX}{self.stream}",)

    @property
    def gpus(self) -> float:
        return self.spec.gpus

    @property
    def light(self) -> bool:
        return self.spec.light

    def config(self) -> dict[str, object]:
        settings = super().config()
        del settings["ask"]
        return settings | self.ask.identity()

    def models(self) -> dict[str, str]:
        return self._models

    @cached_property
    def _models(self) -> dict[str, str]:
        models = {}
        if self.spec.pin:
            with _naming(self.stream):
                models["model"] = self.spec.pin(self.ask, self.running)
        if isinstance(self.ask, Ask) and self.ask.is_judged:
            from builder.scores import lexicon, references

            models["lexicon"] = lexicon.load(self.running.lexicon).sha256
            if self.ask.min_discrimination or self.ask.fallback == BEST:
                models["reference"] = references.built_in().name
        return models

    def report(self, store: Store) -> CaptionReport:
        errors: Counter[str] = Counter()
        for shard in store.shards(self.name):
            footer = store.footer(self.name, shard)
            if footer is not None and footer.errors:
                cells = store.load(self.name, shard, self.adds).column(0).to_pylist()
                errors.update(cell["error"] for cell in cells if cell["error"])
        unpinned = None
        if isinstance(self.ask, Ask) and not self.running.path:
            commit = self._models.get("model", self.ask.revision)
            if commit != self.ask.revision:
                unpinned = Unpinned(self.ask.model, commit)
        return CaptionReport(dict(errors.most_common(SHOWN_ERRORS)), unpinned)

    def open(self, store: Store, survey: Any) -> Maker:
        backend = load_backend(self.stream, self.backend, self.ask, self.running)

        def make(table: pa.Table) -> Output:
            with _naming(self.stream):
                return self._caption(table, backend)

        return make

    def _caption(self, table: pa.Table, backend: Backend) -> Output:
        column = self.adds[0]
        cells, todo = self._todo(table)
        requests = dict(zip(todo, self._requests(table, todo), strict=True))
        whole, answers = {}, {}
        for i, request in requests.items():
            if lacks := self._lacks(request):
                why = f"has no {' and no '.join(lacks)}, which this stream needs"
                answers[i] = Answer(None, f"{request.id}: {why}")
            elif request.flaw:
                answers[i] = Answer(None, request.flaw)
            else:
                whole[i] = request
        if whole:
            answers |= zip(whole, backend.caption(list(whole.values())), strict=True)
        counts: Counter[str] = Counter()
        for i, answer in answers.items():
            cells[i] = cell_of(backend, requests[i].seed, answer)
            counts.update(answer.counts)
        failed = sum(cell["error"] is not None for cell in cells)
        table = pa.table({column: pa.array(cells, CAPTION)})
        counts = Counter({"captions": len(cells) - failed, "failed": failed}) + counts
        return Output(table, {"captions": 0, "failed": 0, **counts}, failed)

    def _todo(self, table: pa.Table) -> tuple[list[Any], list[int]]:
        """The earlier cells (None without), and the rows that have no caption yet."""
        earlier: list[Any] = [None] * table.num_rows
        if self.adds[0] in table.column_names:
            earlier = table.column(self.adds[0]).to_pylist()
        return earlier, [
            i for i, cell in enumerate(earlier) if cell is None or cell["error"] is not None
        ]

    def _requests(self, table: pa.Table, todo: list[int]) -> Iterator[Request]:
        """Requests of the rows ``todo``, with what the table has of the stream's needs."""
        table = table.select(list(self.needs))
        ids = table.column("id").to_pylist()
        images, masks, pixels = None, None, None
        if "image" in self.needs:
            images = image_bytes(table.column("image"))
        if "mask" in self.needs:
            masks = image_bytes(table.column("mask"))
        if "pixels" in self.needs:
            counted = table.column("pixels").is_valid().to_pylist()
            known = iter(per_class(table.column("pixels").drop_null()))
            pixels = [next(known) if is_counted else None for is_counted in counted]
            pixels = [row if row is not None and row.any() else None for row in pixels]
        for i in todo:
            mask, flaw = None, ""
            try:
                if masks is not None and masks[i] is not None:
                    mask = decode_mask(masks[i], ids[i])
                if images is not None and images[i] is not None:
                    decode_png(images[i], ids[i])  # no backend is given what it cannot read
            except ArasError as error:
                flaw = str(error)
            yield Request(
                id=ids[i],
                seed=seed(self.seed, ids[i], self.name),
                pixels=None if pixels is None else pixels[i],
                mask=mask,
                image=None if images is None else images[i],
                flaw=flaw,
            )

    def _lacks(self, request: Request) -> list[str]:
        """The columns that the stream needs and that are missing in this row."""
        if request.flaw:
            return []
        return [name for name in self.needs[1:] if getattr(request, name) is None]

    def remaining(self, store: Store, todo: Plan) -> int:
        """How many rows a run of the plan would ask the backend for; reads no image."""
        return sum(len(self._todo(table)[1]) for table in self._stale(store, todo, ("id",)))

    def outstanding(self, store: Store, todo: Plan) -> Iterator[Request]:
        """Requests of all rows that a run of the plan would ask the backend for, shard by shard."""
        for table in self._stale(store, todo, self.needs):
            asked = self._requests(table, self._todo(table)[1])
            yield from (r for r in asked if not r.flaw and not self._lacks(r))

    def _stale(self, store: Store, todo: Plan, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Stale shards with those columns, and with the stream's own where only rows failed."""
        for task in todo.stale:
            table = store.read(task.unit.shard, columns)
            footer = store.fresh(self.name, task.unit.shard)
            if footer is not None and footer.key == task.key:
                cells = store.load(self.name, task.unit.shard, self.adds)
                table = table.append_column(self.adds[0], cells.column(0))
            yield table


def stage_of(
    stream: str, section: Section, directory: Path, *, seed: int, cache: Path, lexicon: Path | None
) -> Caption:
    """The stage of the recipe's ``[captions.stream]``; its paths are relative to ``directory``.

    ``cache`` remembers digests of model files, ``lexicon`` is laid over the built-in lexicon.
    Raises ArasError naming the key that is wrong.
    """
    backend = backend_of(section)
    settings, running = BACKENDS[backend].configure(f"[captions.{stream}]", section, directory)
    running = dataclasses.replace(running, cache=cache, lexicon=lexicon)
    return Caption(stream, backend, seed, settings, running)


def cell_of(backend: Backend, row_seed: int, answer: Answer) -> dict[str, Any]:
    """One cell of a caption column. An empty text, an error text is an error, not a caption."""
    error = answer.error or flaw(answer.text or "")
    by = answer.by or backend
    return {
        "text": None if error else (answer.text or "").strip(),
        "model": by.model,
        "revision": by.revision or answer.revision or "",
        "prompt_sha256": hashlib.sha256(by.prompt.encode()).hexdigest(),
        "seed": str(row_seed if answer.seed is None else answer.seed),
        "error": error,
    }


def load_backend(stream: str, backend: str, settings: Settings, running: Running) -> Backend:
    """The backend of a stream, its model loaded. Raises ArasError naming the stream."""
    with _naming(stream):
        loaded = BACKENDS[backend].open(settings, running)
        if not isinstance(settings, Ask):
            return loaded
        from builder.captions.checked import checked

        return checked(loaded, settings, running)


@contextlib.contextmanager
def _naming(stream: str) -> Iterator[None]:
    """Put the stream's name before the words of an error."""
    try:
        yield
    except ArasError as error:
        raise type(error)(f"[captions.{stream}] {error}") from error
