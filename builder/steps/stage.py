"""Stage: a frozen dataclass that makes rows or adds columns, one shard at a time."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

import pyarrow as pa

from builder.core.errors import ArasError, CorruptFile, NotMade, RunEnded
from builder.core.store import Store

T = TypeVar("T")


@dataclass(frozen=True)
class Unit:
    """One shard to make. ``payload`` is what a source makes it from; ``inputs`` its digest."""

    shard: str
    payload: Any = None
    inputs: str = ""


class Output(NamedTuple):
    """What a stage makes of one unit: the new columns, counts for the summary, failed rows.

    ``errors`` counts cells that carry an error of their own (captions). ``failed`` are the numbers
    of the rows that could not be made, with the reason (see `each`): `steps.plan` stores null for
    them, hands them to no stage that needs these columns, and tries only them in the next run; a
    release leaves them out.
    """

    table: pa.Table
    counts: dict[str, int] = {}  # noqa: RUF012 - a NamedTuple default, never changed
    errors: int = 0
    failed: Mapping[int, str] = {}


def each(
    ids: Sequence[str], make: Callable[[int, str], T], rows: Iterable[int] | None = None
) -> tuple[dict[int, T], dict[int, str]]:
    """``make(i, id)`` of every row, or of ``rows``: the results by number, and why the other rows
    have none, because ``make`` raised ArasError."""
    results: dict[int, T] = {}
    failed: dict[int, str] = {}
    for i in range(len(ids)) if rows is None else rows:
        try:
            results[i] = make(i, ids[i])
        except (CorruptFile, NotMade, RunEnded):
            raise  # not the row's fault
        except ArasError as error:
            failed[i] = str(error).removeprefix(f"{ids[i]}: ")
    return results, failed


class Report(Protocol):
    """What a step came to, for a person and for a program."""

    def lines(self) -> list[str]:
        """As the terminal shows it."""

    def as_json(self) -> dict[str, Any]:
        """As --json prints it and reports/ keeps it."""


Scan = Callable[[Sequence[str]], Iterator[tuple[str, pa.Table]]]
"""Columns → (shard, table) of every surveyed shard, one at a time; may be called again."""

Maker = Callable[[Any], Output]
"""Payload (of a source) or table of the needed columns → output."""


def setting(default: Any = MISSING) -> Any:
    """A field that changes how fast a stage works but not what it makes: not part of its key."""
    return field(default=default, metadata={"identity": False})


@dataclass(frozen=True)
class Stage:
    """Base of all stages.

    The fields are the configuration and, but for those declared by `setting`, the identity. A stage
    with ``needs`` maps a table to as many rows in the same order. One without makes rows and
    lists its own `units`. One with ``surveys`` first looks at those columns of all shards.
    """

    version: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """Folder under work/ and name in messages."""
        return type(self).__name__.lower()

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of rows that the stage makes or widens."""
        return ("real", "synthetic")

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns that a unit's table holds; none for a source."""
        return ()

    @property
    def adds(self) -> tuple[str, ...]:
        """Columns that the stage makes."""
        raise NotImplementedError

    @property
    def surveys(self) -> tuple[str, ...]:
        """Columns of all shards of the kinds ``surveyed`` that `survey` looks at first."""
        return ()

    @property
    def gpus(self) -> float:
        """GPUs that one worker wants where there are any."""
        return 0

    @property
    def light(self) -> bool:
        """Whether a shard costs less than starting a process."""
        return False

    @property
    def surveyed(self) -> tuple[str, ...]:
        return ("real", "synthetic")

    def config(self) -> dict[str, object]:
        """The settings that decide the result, by name: hashed into the key, read by nobody."""
        return {
            part.name: getattr(self, part.name)
            for part in fields(self)
            if part.metadata.get("identity", True)
        }

    def models(self) -> dict[str, str]:
        """Digests of the models that `open` loads: name → sha256."""
        return {}

    def units(self, store: Store) -> list[Unit]:
        """The shards to make, in order; by default every shard of the stage's kinds."""
        return [Unit(shard) for shard in shards(store, self.kinds)]

    def understood(self, store: Store) -> dict[str, list[str]]:
        """What each file that a source reads says of itself, in words, by its path."""
        return {}

    def survey(self, scan: Scan) -> Any:
        """What the stage must know of all surveyed shards before it makes any; picklable."""
        raise NotImplementedError

    def open(self, store: Store, survey: Any) -> Maker:
        """Load what is costly, once per worker, and return the function that makes a unit."""
        raise NotImplementedError

    def report(self, store: Store) -> Report | None:
        """What the summary says beyond counts, from the finished shards; None for nothing."""
        return None


def spans(run: str, rows: int, shard_rows: int) -> list[Unit]:
    """Shards of the synthetic rows of a run; the payload is the span of their numbers."""
    return [
        Unit(f"synthetic-{run}-{i:05d}", (start, min(start + shard_rows, rows)))
        for i, start in enumerate(range(0, rows, shard_rows))
    ]


SOURCES = ("tiles", "import", "layouts")
"""Stages that make rows; every other stage adds columns to theirs."""


def shards(store: Store, kinds: Iterable[str]) -> list[str]:
    """Names of all shards of ``kinds`` (``real-…``, ``synthetic-…``), sorted."""
    names = {shard for source in SOURCES for shard in store.shards(source)}
    return sorted(shard for shard in names if shard.split("-")[0] in set(kinds))


def refuse_beside(store: Store) -> None:
    """Raises ArasError when the store holds rows cut from maps."""
    sources = [name for name in SOURCES if name != "import" and store.shards(name)]
    if sources:
        raise ArasError(
            f"{store.root}: already holds rows of {', '.join(sources)}; a dataset holds either "
            "cut and drawn rows or imported rows: import into another directory"
        )
