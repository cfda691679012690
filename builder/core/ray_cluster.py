"""The machines of a Ray cluster, as `core/dispatch` sees them."""

import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from builder.core.dispatch import Event, Lost, Outcome
from builder.core.errors import ArasError, WorkFailed
from builder.core.progress import counted, note

ANSWER = 5.0
"""Seconds that a Ray cluster has to accept a connection."""

FETCH = 60.0
"""Seconds to fetch what a worker returned."""


class RayMachines:
    """Workers are Ray Core actors, of one CPU each, or of a share of GPUs where there are any."""

    def __init__(self, worker: Callable[[], Any], gpus: float) -> None:
        """``worker()`` gives the function for a task, in the actor's process.

        Raises ArasError where Ray is missing or its cluster does not answer.
        """
        self.ray = _connected()
        self.share = gpus if self.ray.cluster_resources().get("GPU", 0) >= gpus else 0
        self.unit = "GPU" if self.share else "CPU"
        self._worker = worker
        self._actor = self.ray.remote(num_cpus=0 if self.share else 1, num_gpus=self.share)(_Actor)
        self._doers: dict[Any, Any] = {}
        """Event → its actor."""
        self._nodes: dict[Any, str] = {}
        """Actor → the id of its node."""

    def now(self) -> float:
        return time.monotonic()

    def room(self) -> int:
        free = float(self.ray.available_resources().get(self.unit, 0))
        return int(free / (self.share or 1))

    def start(self) -> Any:
        return self._actor.remote(self._worker)

    def ask(self, worker: Any) -> Event:
        return self._sent(worker, worker.node.remote())

    def send(self, worker: Any, task: Any) -> Event:
        return self._sent(worker, worker.work.remote(task))

    def _sent(self, worker: Any, event: Event) -> Event:
        self._doers[event] = worker
        return event

    def wait(self, events: Sequence[Event], seconds: float) -> Sequence[Event]:
        if not events:
            time.sleep(seconds)
            return []
        ended, others = self.ray.wait(list(events), num_returns=1, timeout=seconds)
        if ended and others:
            also, _ = self.ray.wait(others, num_returns=len(others), timeout=0)
            ended += also
        return list(ended)

    def result(self, event: Event) -> Outcome:
        actor = self._doers.pop(event)
        errors = self.ray.exceptions
        try:
            outcome = self.ray.get(event, timeout=FETCH)
        except errors.RayTaskError as error:  # the worker lives; it could not send its answer
            return WorkFailed(str(error).strip().splitlines()[-1])
        except errors.RayError as error:
            own = isinstance(error, errors.ActorDiedError) and self._stands(actor)
            raise Lost(f"its Ray actor died: {_reason(error)}", is_own=own) from error
        self._nodes.setdefault(actor, outcome)  # what an actor says first is its node
        return outcome

    def stop(self, worker: Any) -> None:
        self._nodes.pop(worker, None)
        self.ray.kill(worker)

    def words(self) -> str:
        nodes = sum(node["Alive"] for node in self.ray.nodes())
        total = self.ray.cluster_resources().get(self.unit, 0)
        free = self.ray.available_resources().get(self.unit, 0)
        what = f"{free:g} of {total:g} {self.unit}s free" if total else f"no {self.unit}"
        return f"{counted(nodes, 'node')} in the Ray cluster, {what}"

    def _stands(self, actor: Any) -> bool:
        """Whether the node of an actor is alive, as far as the cluster knows."""
        nodes = {node["NodeID"]: node["Alive"] for node in self.ray.nodes()}
        return bool(nodes.get(self._nodes.get(actor, "")))


class _Actor:
    """What runs on a node of the cluster."""

    def __init__(self, worker: Callable[[], Any]) -> None:
        self.function = worker()

    def node(self) -> str:
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def work(self, task: Any) -> Outcome:
        return self.function(task)


def _reason(error: Exception) -> str:
    """The last sentence but its advice; before it come stack frames and ids."""
    return str(error).strip().splitlines()[-1].strip().split(". ")[0]


def _connected() -> Any:
    """Ray, connected to the cluster that RAY_ADDRESS names, or that `ray start` made here; else a
    runtime of this machine alone."""
    try:
        import ray
    except ImportError as error:
        raise ArasError("the ray engine needs Ray: pip install 'aras[ray]'") from error
    if ray.is_initialized():
        return ray
    options: dict[str, Any] = {}
    named = os.environ.get("RAY_ADDRESS", "")
    if named and not _answers(named):
        raise ArasError(
            f"no Ray cluster answers at {named}, which RAY_ADDRESS names; start it, or unset "
            "RAY_ADDRESS"
        )
    if not named and (left := _left_address()) and not _answers(left):
        note(f"no Ray cluster answers at {left} any more; using this machine alone")
        options["address"] = "local"
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="error", **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        why = str(error).strip().splitlines()[0]
        raise ArasError(f"cannot connect to Ray at {named or 'this machine'}: {why}") from error
    return ray


def _left_address() -> str:
    """The address of the last cluster that was started on this machine, which may be gone."""
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    try:
        return (Path(folder) / "ray" / "ray_current_cluster").read_text().strip()
    except OSError:
        return ""


def _answers(address: str) -> bool:
    """Whether something listens at HOST:PORT; true of names that only Ray understands."""
    try:
        parts = urlsplit(address if "//" in address else f"//{address}")
        if not parts.hostname or not parts.port:
            return True
        with socket.create_connection((parts.hostname, parts.port), ANSWER):
            return True
    except (OSError, ValueError):
        return False
