"""What is kept of a dose–response experiment: facts, validity of the doses, ranks of every run.

A folder of two files, study.json and runs.jsonl, from which every figure of the report is computed
again; no tile and no model is needed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from builder.core.errors import ArasError
from builder.core.files import read_json, write_json, write_text
from builder.experiments.dose_response import DEPTHS, DIGITS, Bench, Hits
from builder.experiments.imbalance_report import Groups
from builder.experiments.validity import Validity
from builder.retrieval import metrics
from builder.retrieval.ranks import Floats, Ints
from builder.retrieval.result import Part

STUDY, RUNS = "study.json", "runs.jsonl"
DEPTH = 10
"""K of the R@K by class."""


class ArmFacts(Part):
    """An arm; ``dose`` is empty for a control."""

    what: str
    dose: str = ""
    shares: str = ""
    ratio: float = 0.0
    scenes: int
    synthetic: int = 0
    distinct: int
    """Distinct tiles, real ones and of the dose."""


class DoseFacts(Part):
    """A dose and how good its tiles are."""

    kind: str
    family: str
    strength: float
    keep: float
    file: str = ""
    check: bool = False
    validity: Validity | None = None


class Facts(Part):
    """All of an experiment but its runs. ``layouts``: the classes of each test scene, as digits."""

    name: str
    content_sha256: str
    protocol: str
    training: dict[str, Any]
    classes: tuple[str, ...]
    train_tiles: tuple[int, ...]
    layouts: tuple[str, ...]
    floor: str
    arms: dict[str, ArmFacts]
    doses: dict[str, DoseFacts]
    limits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Study:
    """Facts, and arm → (S, N, 2) ranks of N test scenes, both ways, of S seeds."""

    facts: Facts
    runs: Mapping[str, Ints]
    cost: float
    """Processor seconds of all runs."""

    @property
    def seeds(self) -> int:
        return min(len(ranks) for ranks in self.runs.values())

    @cached_property
    def shares(self) -> Floats:
        """(N, K) class shares of the test scenes."""
        kinds = np.array([[int(digit, 36) for digit in row] for row in self.facts.layouts])
        return np.stack([(kinds == k).mean(1) for k in range(len(self.facts.classes))], 1)

    @cached_property
    def groups(self) -> Groups:
        counts = np.array(self.facts.train_tiles)
        tail = metrics.tail(np.repeat(np.arange(len(counts)), counts), len(counts))
        names = self.facts.classes
        head = [name for k, name in enumerate(names) if k not in tail]
        return Groups(names, head, [names[k] for k in tail], DEPTH)

    def cells(self, arm: str) -> Floats:
        """(2, S, N): per seed and scene, numbers in per cent whose means are mR and tail recall.

        Tail recall is the mean over the tail classes of R@10, a scene counting for a class by the
        share of its tiles; the weights of the test scenes are fixed, every class being as often.
        """
        ranks, tail = self.runs[arm], [self.groups.names.index(name) for name in self.groups.tail]
        recall = np.mean([ranks < k for k in DEPTHS], axis=(0, 3))
        weights = self.shares[:, tail] / self.shares[:, tail].mean(0)
        return 100 * np.stack([recall, (ranks < DEPTH).mean(2) * weights.mean(1)])

    def validity(self, dose: str) -> Validity:
        validity = self.facts.doses[dose].validity
        if validity is None:
            raise ArasError(f"{self.facts.name}: the validity of {dose} was not measured")
        return validity

    def write(self, folder: Path, records: Mapping[str, Sequence[Hits]]) -> None:
        write_json(folder / STUDY, self.facts.as_json())
        rows = (
            {
                "arm": run.arm,
                "seed": run.seed,
                **run.ranks,
                "loss": [round(run.loss.first, 3), round(run.loss.last, 3)] if run.loss else None,
                "cpu_seconds": run.cpu_seconds,
            }
            for runs in records.values()
            for run in runs
        )
        write_text(folder / RUNS, "".join(json.dumps(row) + "\n" for row in rows))


def of_bench(
    bench: Bench, records: Mapping[str, Sequence[Hits]], validity: Mapping[str, Validity]
) -> Study:
    """The study of the runs that there are; arms without a run are left out."""
    mosaics, table = bench.mosaics, bench.table
    arms = {}
    for name in records:
        plan, ready = bench.plans[name], bench.set_of(name)
        synthetic = len(ready.texts) - len(bench.real.texts)
        distinct = sum(len(np.unique(scenes)) for _, scenes in ready.pictures.parts)
        arms[name] = ArmFacts(
            what=plan.what, dose=plan.dose, shares=plan.shares, ratio=plan.ratio,
            scenes=len(ready.pool), synthetic=synthetic, distinct=distinct,
        )  # fmt: skip
    doses = {
        name: DoseFacts(
            kind=dose.kind, family=dose.family, strength=dose.strength, keep=dose.keep,
            file=dose.file, check=dose.check, validity=validity.get(name),
        )
        for name, dose in table.doses.items()
    }  # fmt: skip
    kinds = mosaics.test.labels[bench.test.tiles]
    facts = Facts(
        name=bench.material.facts.name,
        content_sha256=bench.material.facts.content_sha256,
        protocol=bench.material.protocol,
        training=table.training.model_dump(mode="json"),
        classes=mosaics.classes,
        train_tiles=tuple(mosaics.counts.tolist()),
        layouts=tuple("".join(np.base_repr(k, 36) for k in row) for row in kinds),
        floor=bench.floor,
        arms=arms,
        doses=doses,
        limits=tuple(bench.material.limits),
    )
    runs = {arm: np.stack([run.array() for run in own]) for arm, own in records.items()}
    cost = sum(run.cpu_seconds or 0 for own in records.values() for run in own)
    return Study(facts, runs, cost)


def read(folder: Path) -> Study:
    """The study in a folder. Raises ArasError naming what is missing or not whole."""
    try:
        facts = Facts.model_validate(read_json(folder / STUDY))
        lines = (folder / RUNS).read_text(encoding="utf-8").splitlines()
        rows = sorted(map(json.loads, lines), key=lambda row: row["seed"])
    except (OSError, ValueError, KeyError) as error:
        raise ArasError(
            f"{folder}: not the records of a dose–response experiment: {error}"
        ) from error
    runs: dict[str, list[Ints]] = {arm: [] for arm in facts.arms}
    for row in rows:
        ways = [[DIGITS.index(digit) for digit in row[way]] for way in ("t2i", "i2t")]
        if {len(way) for way in ways} != {len(facts.layouts)}:
            raise ArasError(f"{folder / RUNS}: {row['arm']}, seed {row['seed']}: ranks are missing")
        runs[row["arm"]].append(np.array(ways).T)
    cost = sum(row["cpu_seconds"] or 0 for row in rows)
    return Study(facts, {arm: np.stack(own) for arm, own in runs.items() if own}, cost)
