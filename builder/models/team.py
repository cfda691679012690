"""The processes that train a model together, one per GPU, as `accelerate launch` starts them."""

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

Item = TypeVar("Item")


def rank() -> int:
    """This process's number among those that were launched together; 0 for a process alone."""
    return int(os.environ.get("RANK", "0"))


@dataclass(frozen=True)
class Team:
    """``world`` processes of which this is number ``rank``; each takes its part of every batch.

    Number 0 leads: it alone writes files. Without an accelerator it is a process alone.
    """

    rank: int = 0
    world: int = 1
    accelerator: Any = None

    @classmethod
    def join(cls) -> "Team":
        """The team that this process was launched into; a team of one where it was not."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return ALONE
        import torch
        from accelerate import Accelerator

        accelerator = Accelerator(cpu=not torch.cuda.is_available())
        return cls(accelerator.process_index, accelerator.num_processes, accelerator)

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def share(self, model: Any) -> Any:
        """The model to call: its gradients are averaged over the team (DDP)."""
        return self.accelerator.prepare(model) if self.accelerator else model

    def bare(self, model: Any) -> Any:
        """The model inside a shared model: its weights have the names that are saved."""
        return self.accelerator.unwrap_model(model) if self.accelerator else model

    def quiet(self, model: Any) -> AbstractContextManager[Any]:
        """Gradients inside stay in this process: more of them are to be added."""
        if self.accelerator:
            return self.accelerator.no_sync(model)  # type: ignore[no-any-return]
        return contextlib.nullcontext()

    def mean(self, value: Any) -> float:
        """Mean of a scalar tensor over the team."""
        if self.accelerator:
            value = self.accelerator.reduce(value, "mean")
        return float(value)

    def all_rows(self, own: Any) -> Any:
        """The rows (n, d) of every member below each other, in order of rank: (world · n, d).

        Only a member's own rows carry gradients, ``world`` times as large: their mean over the
        team, which `share` takes, is then the gradient of the whole.
        """
        if not self.accelerator:
            return own
        import torch

        rows = list(self.accelerator.gather(own.detach().contiguous()).chunk(self.world))
        rows[self.rank] = self.world * own - (self.world - 1) * own.detach()
        return torch.cat(rows)

    def map(self, work: Callable[[int], Item], n: int) -> list[Item]:
        """``work(i)`` for i in 0…n-1, shared among the team; every member gets all, in order."""
        own = [(i, work(i)) for i in range(self.rank, n, self.world)]
        if self.accelerator:
            from accelerate.utils import gather_object

            own = gather_object(own)
        return [result for _, result in sorted(own, key=lambda pair: pair[0])]

    def agree(self, value: Item) -> Item:
        """The leader's value, for all: what decides must be the same number everywhere."""
        if not self.accelerator:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]  # type: ignore[no-any-return]

    def wait(self) -> None:
        """Until all are here."""
        if self.accelerator:
            self.accelerator.wait_for_everyone()

    @contextlib.contextmanager
    def leader_first(self) -> Iterator[None]:
        """The leader does the block before the others: they find what it has written."""
        if not self.leads:
            self.wait()
        yield
        if self.leads:
            self.wait()


ALONE = Team()
