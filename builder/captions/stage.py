"""Stage: one caption stream, each caption with its model, revision, prompt digest and seed."""

import contextlib
import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import pyarrow as pa

from builder.captions.base import Answer, Backend, flaw
from builder.captions.section import Ask, Running, weights_of
from builder.core.errors import ArasError
from builder.core.seeds import seed
from builder.core.store import Store
from builder.land.columns import CAPTION, STREAM_PREFIX
from builder.land.pictures import decode_mask, image_bytes, per_class
from builder.land.prompts import Request
from builder.steps.plan import Plan
from builder.steps.stage import Made, Maker, Stage, setting

SHOWN_ERRORS = 5
"""Different errors of rows that a summary tells of."""


@dataclass(frozen=True)
class Caption(Stage):
    """Caption every row in one stream. A row that failed carries its error and a null text, and
    is the only one that the next run tries again.

    ``style`` belongs to the template backend; ``ask`` and ``running`` to those with a model.
    """

    stream: str = "full"
    backend: str = "template"
    style: str = "full"
    seed: int = 0
    ask: Ask | None = None
    running: Running = setting(Running())

    @property
    def name(self) -> str:
        return f"caption-{self.stream}"

    @property
    def needs(self) -> tuple[str, ...]:
        if self.ask is None:
            return ("id", "mask", "pixels")
        judged = self.ask.min_grounding > 0 or bool(self.ask.fallback)
        wanted = {
            "image": "image" in self.ask.sees,
            "mask": "layout" in self.ask.sees or judged,
            "pixels": "composition" in self.ask.sees or judged,
        }
        return ("id", *(name for name, is_wanted in wanted.items() if is_wanted))

    @property
    def adds(self) -> tuple[str, ...]:
        return (f"{STREAM_PREFIX}{self.stream}",)

    @property
    def gpus(self) -> float:
        return 1 if self.backend == "transformers" else 0

    @property
    def light(self) -> bool:
        return self.backend == "template"

    def config(self) -> dict[str, Any]:
        told = super().config()
        if self.ask is None:
            del told["ask"]
        else:
            del told["style"]
            # The revision is in `models`, resolved, so that pinning it changes nothing.
            told["ask"] = dataclasses.asdict(dataclasses.replace(self.ask, revision=""))
        return told

    def models(self) -> dict[str, str]:
        return self._models

    @cached_property
    def _models(self) -> dict[str, str]:
        if self.ask is None:
            return {}
        found = {"model": self.ask.revision}
        if self.backend == "transformers":
            with _naming(self.stream):
                found["model"] = weights_of(self.ask, self.running).digest()
        if self.ask.min_grounding:
            from builder.captions.checked import lexicon_version

            found["lexicon"] = lexicon_version(self.running.lexicon)
        return found

    def report(self, store: Store) -> dict[str, Any]:
        """The most frequent errors of rows that have no caption, with how many have each; and the
        commit that a model of the Hub was found at, where the recipe does not pin it."""
        errors: Counter[str] = Counter()
        for shard in store.shards(self.name):
            footer = store.footer(self.name, shard)
            if footer is not None and footer.errors:
                cells = store.load(self.name, shard, self.adds).column(0).to_pylist()
                errors.update(one["error"] for one in cells if one["error"])
        told: dict[str, Any] = {}
        if errors:
            told["row_errors"] = dict(errors.most_common(SHOWN_ERRORS))
        if self.ask and self.backend == "transformers" and not self.running.path:
            commit = self._models["model"]
            if commit != self.ask.revision:
                told["unpinned"] = {"model": self.ask.model, "commit": commit}
        return told

    def open(self, store: Store, survey: Any) -> Maker:
        backend = load_backend(self.stream, self.backend, self.style, self.ask, self.running)

        def make(table: pa.Table) -> Made:
            with _naming(self.stream), _one_thread(self.backend):
                return self._caption(table, backend)

        return make

    def _caption(self, table: pa.Table, backend: Backend) -> Made:
        column = self.adds[0]
        earlier, todo = self._todo(table)
        requests = dict(zip(todo, self._requests(table, todo), strict=True))
        whole = {i: one for i, one in requests.items() if not self._lacks(one)}
        answers = {
            i: Answer(None, f"{one.id}: has no {' and no '.join(lacks)}, which this stream needs")
            for i, one in requests.items()
            if (lacks := self._lacks(one))
        }
        if whole:
            answers |= zip(whole, backend.caption(list(whole.values())), strict=True)
        counts: Counter[str] = Counter()
        for i, answer in answers.items():
            earlier[i] = entry(backend, requests[i].seed, answer)
            counts.update(answer.counts)
        failed = sum(one["error"] is not None for one in earlier)
        made = pa.table({column: pa.array(earlier, CAPTION)})
        counts = Counter({"captions": len(earlier) - failed, "failed": failed}) + counts
        return Made(made, {"captions": 0, "failed": 0, **counts}, failed)

    def _todo(self, table: pa.Table) -> tuple[list[Any], list[int]]:
        """The earlier cells (None without), and the rows that have no caption yet."""
        earlier: list[Any] = [None] * table.num_rows
        if self.adds[0] in table.column_names:
            earlier = table.column(self.adds[0]).to_pylist()
        return earlier, [
            i for i, one in enumerate(earlier) if one is None or one["error"] is not None
        ]

    def _requests(self, table: pa.Table, todo: list[int]) -> Iterator[Request]:
        """Requests of the rows ``todo``, with what is there of the stream's needs."""
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
            pixels = [next(known) if one else None for one in counted]
            pixels = [one if one is not None and one.any() else None for one in pixels]
        for i in todo:
            yield Request(
                id=ids[i],
                seed=seed(self.seed, ids[i], self.name),
                pixels=None if pixels is None else pixels[i],
                mask=None if masks is None or masks[i] is None else decode_mask(masks[i], ids[i]),
                image=None if images is None else images[i],
            )

    def _lacks(self, request: Request) -> list[str]:
        """The columns that the stream needs and this row has not."""
        return [name for name in self.needs[1:] if getattr(request, name) is None]

    def remaining(self, store: Store, todo: Plan) -> int:
        """How many rows a run of the plan would ask the backend for; reads no image."""
        return sum(len(self._todo(table)[1]) for table in self._stale(store, todo, ("id",)))

    def outstanding(self, store: Store, todo: Plan) -> Iterator[Request]:
        """Requests of all rows that a run of the plan would ask the backend for, shard by shard."""
        for table in self._stale(store, todo, self.needs):
            asked = self._requests(table, self._todo(table)[1])
            yield from (one for one in asked if not self._lacks(one))

    def _stale(self, store: Store, todo: Plan, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Stale shards with those columns, and with the stream's own where only rows failed."""
        for task in todo.stale:
            table = store.read(task.unit.shard, columns)
            footer = store.fresh(self.name, task.unit.shard)
            if footer is not None and footer.key == task.key:
                cells = store.load(self.name, task.unit.shard, self.adds)
                table = table.append_column(self.adds[0], cells.column(0))
            yield table


def entry(backend: Backend, row_seed: int, answer: Answer) -> dict[str, Any]:
    """One cell of a caption column. An empty text, an error text is an error, not a caption."""
    error = answer.error or flaw(answer.text or "")
    by = answer.by or backend
    return {
        "text": None if error else (answer.text or "").strip(),
        "model": by.model,
        "revision": by.revision or answer.revision or "",
        "prompt_sha256": hashlib.sha256(by.prompt.encode()).hexdigest(),
        "seed": row_seed if answer.seed is None else answer.seed,
        "error": error,
    }


def load_backend(
    stream: str,
    backend: str,
    style: str,
    ask: Ask | None = None,
    running: Running | None = None,
) -> Backend:
    """The backend of a stream, its model loaded. Raises ArasError naming the stream."""
    from builder.captions.template import STYLES, Template

    if ask is None or running is None:
        if style not in STYLES:
            raise ArasError(
                f"[captions.{stream}] style = {style!r}: known styles are {', '.join(STYLES)}"
            )
        return Template(style)
    with _naming(stream):
        return _with_checks(_model_backend(backend, ask, running), ask, running)


@contextlib.contextmanager
def _naming(stream: str) -> Iterator[None]:
    """Put the stream's name before the words of an error."""
    try:
        yield
    except ArasError as error:
        raise type(error)(f"[captions.{stream}] {error}") from error


def _one_thread(backend: str) -> contextlib.AbstractContextManager[None]:
    """One CPU thread for a model, as in every stage: parallelism is the engine's."""
    if backend != "transformers":
        return contextlib.nullcontext()
    from builder.models.training import single_thread

    return single_thread()


def _model_backend(backend: str, ask: Ask, running: Running) -> Backend:
    if backend == "transformers":
        from builder.captions.local import Local

        return Local(ask, running)
    if running.answers:
        from builder.captions.batch import Results

        return Results(ask, running.answers)
    from builder.captions.openai import Server

    return Server(ask, running)


def _with_checks(made: Backend, ask: Ask, running: Running) -> Backend:
    """``made`` with the attempts, the threshold and the fallback that the stream asks for."""
    from builder.captions.checked import Checked, grounding
    from builder.captions.template import Template

    if ask.attempts == 1 and not ask.min_grounding and not ask.fallback:
        return made
    return Checked(
        made,
        attempts=1 if running.answers else ask.attempts,  # a file says the same every time
        threshold=ask.min_grounding,
        score=partial(grounding, lexicon=running.lexicon) if ask.min_grounding else None,
        fallback=Template(ask.fallback) if ask.fallback else None,
    )
