"""A shard counts as made only when the process that reports it can read it."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from builder.core.engine import Engine
from builder.core.errors import WorkFailed
from builder.core.store import Footer, Store
from builder.steps.plan import run
from builder.steps.stage import Maker, setting
from builder.steps.written import Witness, Written
from tests.makers.toy import Source


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "work")


Write = Callable[..., Footer]


def nothing(write: Write, store: Store, *what: Any, **how: Any) -> Footer:
    """Writes to a folder of its own, as a worker without the shared file system does."""
    return Store(store.root.parent / "elsewhere").write(*what, **how)


def older(write: Write, store: Store, *what: Any, **how: Any) -> Footer:
    footer = write(*what, **how)
    write(*what, **{**how, "key": "of an earlier recipe"})
    return footer


def other_rows(
    write: Write, store: Store, stage: str, shard: str, table: Any, **how: Any
) -> Footer:
    footer = write(stage, shard, table, **how)
    write(stage, shard, table.slice(1), **how)
    return footer


def cut_short(write: Write, store: Store, *what: Any, **how: Any) -> Footer:
    footer = write(*what, **how)
    os.truncate(store.path("tiles", what[1]), 1000)
    return footer


@dataclass(frozen=True)
class Lying(Source):
    """Says that it wrote each shard, and did not, or wrote something else after all."""

    lie: Any = setting(None)

    def open(self, store: Store, survey: Any) -> Maker:
        write = store.write
        store.write = lambda *what, **how: self.lie(write, store, *what, **how)  # type: ignore[method-assign]
        return super().open(store, survey)


LIES = {
    nothing: "work/tiles, and it is not in ",
    older: "holds another file than its worker wrote",
    other_rows: "holds another file than its worker wrote",
    cut_short: "cannot be read (",
}


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_a_shard_that_is_not_as_its_worker_says_has_failed(store: Store, lie: Any) -> None:
    summary = run(Lying(lie=lie), store, Engine())
    assert (summary.shards_made, summary.rows_made, summary.rows) == (0, 0, 0)
    assert summary.failed.keys() == {f"real-{i:05d}" for i in range(4)}
    assert all(LIES[lie] in why for why in summary.failed.values())
    assert summary.corrupt == []  # the build need not start over


def test_what_an_honest_worker_made_meanwhile_is_kept(store: Store) -> None:
    run(Source(shards=2), store, Engine())
    summary = run(Lying(lie=nothing), store, Engine())
    assert summary.failed.keys() == {"real-00002", "real-00003"}
    assert (summary.shards_made, summary.rows) == (0, 16)


def test_a_file_that_a_network_file_system_shows_later_is_waited_for(store: Store) -> None:
    class Later(Store):
        """The file appears at the third look."""

        looks = 0

        def refresh(self, stage: str) -> None:
            self.looks += 1
            if self.looks == 3:
                run(Source(shards=1), Store(self.root), Engine())

    footer = run_elsewhere(store)
    later = Later(store.root)
    far = Written(
        footer.rows, footer.key, footer.digest, "another-host:/data/tiles", "another-host"
    )
    witness = Witness(later, "tiles", patience=60)
    witness.check("real-00000", far)
    assert later.looks == 3

    with pytest.raises(WorkFailed, match="its worker wrote it to another-host:/data/tiles"):
        replace(witness, patience=0.5).check("real-00009", far)


def run_elsewhere(store: Store) -> Footer:
    other = Store(store.root.parent / "other")
    run(Source(shards=1), other, Engine())
    footer = other.footer("tiles", "real-00000")
    assert footer
    return footer
