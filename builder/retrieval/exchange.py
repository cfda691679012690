"""Results from and to others: mteb's files become results, results become the Hub's .eval_results.

What mteb computed on the tasks in benchmark/ of a release has no vectors beside it, so nobody can
score it again: such a result is marked unchecked. With the vectors that gave it, it is computed
here in full, compared with mteb's figures, and checked like any other.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from builder.core import budgets
from builder.core.errors import ArasError
from builder.core.files import no_such_file, read_json, write_text
from builder.release import benchmark as folder
from builder.retrieval import benchmark, gallery
from builder.retrieval.intervals import power
from builder.retrieval.leaderboard import TOLERANCE
from builder.retrieval.result import (
    FORMAT,
    KIND,
    MTEB,
    WAYS,
    Clusters,
    Directions,
    Evaluation,
    ModelFacts,
    Result,
    Scores,
    libraries,
)

KS = (1, 5, 10)
RESULTS = ".eval_results"
"""Folder of a model's repo on the Hub."""

Columns = Mapping[str, Any]
"""The scores of mteb on a subset of a task, by column, 0 … 1."""


@dataclass(frozen=True)
class Foreign:
    """What mteb says of a model: task → subset → columns, and its version."""

    model: str
    revision: str | None
    version: str
    tasks: Mapping[str, Mapping[str, Columns]]


def read_mteb(paths: Sequence[Path], release: Path) -> list[Foreign]:
    """Results of the tasks of ``release``, by model, from mteb's files or the folders they are in.

    Raises ArasError for a file that is not a result of mteb, for tasks of other releases, and
    where there is none at all.
    """
    facts = _facts(release)
    known = {task["name"] for task in facts["tasks"]}
    own = facts["metadata"]["dataset"]["revision"]
    models: dict[Path, dict[str, Mapping[str, Columns]]] = {}
    versions: dict[Path, str] = {}
    for path in _files(paths):
        value = _json(path)
        if not isinstance(value, dict) or not {"task_name", "scores"} <= value.keys():
            raise ArasError(f"{path}: not a result of mteb: it has no task_name and scores")
        name = value["task_name"]
        if name not in known:
            raise ArasError(f"{path}: task {name} is not of {release}; its are {', '.join(known)}")
        if (theirs := value.get("dataset_revision")) != own:
            raise ArasError(f"{path}: is about revision {theirs}; {release} is {own}")
        try:
            subsets = {each["hf_subset"]: each for each in value["scores"][folder.SPLIT]}
        except (KeyError, TypeError) as error:
            raise ArasError(f"{path}: its scores have no split {folder.SPLIT}") from error
        models.setdefault(path.parent, {})[name] = subsets
        versions[path.parent] = str(value.get("mteb_version"))
    if not models:
        raise ArasError(f"{paths[0]}: holds no result of mteb (TASK.json)")
    results = []
    for place, tasks in models.items():
        meta = _json(place / "model_meta.json") if (place / "model_meta.json").is_file() else {}
        name = meta.get("name") if isinstance(meta, dict) else None
        revision = meta.get("revision") if isinstance(meta, dict) else None
        results.append(Foreign(str(name or place.parent.name), revision, versions[place], tasks))
    return results


def unchecked(foreign: Foreign, release: Path) -> Result:
    """A result that holds what mteb says and no more, marked as not checked.

    Raises ArasError where S is not there in both directions for any subset.
    """
    facts = _facts(release)
    rows = gallery.load(release, folder.SPLIT, near="leave-out", synthetic="leave-out")
    streams = {}
    for stream, about in facts["streams"].items():
        scores = {p: _scores(foreign, facts, p, stream) for p in folder.PROTOCOLS}
        if scores["S"] is None:
            continue
        tiles, captions = about["tiles"], about["captions"]
        streams[stream] = Evaluation(
            texts_sha256=about["texts_sha256"],
            images=tiles,
            texts=captions,
            dimension=0,
            clusters=Clusters(unit="image", number=tiles),
            list_queries=Directions(t2i=captions, i2t=tiles),
            seed=0,
            resamples=0,
            S=scores["S"],
            D=scores["D"],
            C=scores["C"],
            power=power(tiles),
        )
    if not streams:
        raise ArasError(
            f"{foreign.model}: has no subset with both tasks of S: run {_names(facts, 'S')}"
        )
    note = "from mteb, unchecked: without the vectors nobody can score it again"
    return Result(
        kind=KIND,
        format=FORMAT,
        model=ModelFacts(
            name=foreign.model,
            spec=f"{MTEB}:{foreign.model}",
            proxy=None,
            source=MTEB,
            revision=foreign.revision,
        ),
        release=rows.facts,
        settings={},
        libraries={"mteb": foreign.version, "aras": libraries()["aras"]},
        notes=(note,),
        streams=streams,
    )


def checked(foreign: Foreign, release: Path, images: Path, texts: Path) -> benchmark.Run:
    """The result of the vectors, after they gave what mteb says.

    Raises ArasError that lists what they do not give.
    """
    rows = gallery.load(release, folder.SPLIT, near="leave-out", synthetic="leave-out")
    run = benchmark.run(rows, benchmark.Model("files", images=images, texts=texts))
    claimed = unchecked(foreign, release).streams
    wrong = [line for name in claimed for line in _unlike(name, claimed[name], run.result)]
    if wrong:
        more = f" (and {len(wrong) - 5} more)" if len(wrong) > 5 else ""
        some = "; ".join(wrong[:5])
        raise ArasError(f"{images} and {texts}: do not give mteb's figures: {some}{more}")
    model = run.result.model.plus(name=foreign.model, revision=foreign.revision)
    note = f"mteb {foreign.version} gave the same recalls"
    result = run.result.plus(model=model, notes=(*run.result.notes, note))
    return benchmark.Run(result, run.ranks, run.images, run.texts, run.image_ids, run.asked)


def to_hub(
    result: Result,
    release: Path,
    dataset: str,
    revision: str | None = None,
    url: str | None = None,
    user: str | None = None,
) -> str:
    """YAML of the Hub's .eval_results: the main score of each task, per cent, whole and by stream.

    Raises ArasError for a result that is not about the rows of the tasks.
    """
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    facts = _facts(release)
    for key in ("content_sha256", "ids_sha256"):
        ours, theirs = facts["release"][key], getattr(result.release, key)
        if ours != theirs:
            raise ArasError(
                f"{result.model.name}: was scored on other rows than the tasks of {release} have "
                f"({key} {theirs}, {ours}); run `aras bench retrieval {release} --near leave-out`"
            )
    entries = []
    for task in facts["tasks"]:
        values = {
            stream: value
            for stream in facts["streams"]
            if stream in result.streams
            and (value := _main(result.streams[stream], task)) is not None
        }
        whole = {}
        if values.keys() == facts["streams"].keys():
            whole = {task["name"]: sum(values.values()) / len(values)}
        by_stream = {folder.task_id(task["name"], name): v for name, v in values.items()}
        for name, value in {**whole, **by_stream}.items():
            entries.append(
                EvalResultEntry(
                    dataset_id=dataset,
                    task_id=name,
                    value=round(value, 4),
                    dataset_revision=revision,
                    source_url=url,
                    source_user=user if url else None,
                    notes=f"{task['main_score']}, per cent; {_origin(result)}",
                )
            )
    return yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False)


def write_hub(text: str, result: Result, out: Path) -> Path:
    """The file below ``out`` that a pull request to the model's repo adds."""
    name = re.sub(r"[^a-z0-9._-]+", "-", f"{result.release.name}-{result.release.version}".lower())
    path = out / RESULTS / f"{name}.yaml"
    write_text(path, text)
    return path


def _origin(result: Result) -> str:
    if result.model.is_unchecked:
        return f"mteb {result.libraries.get('mteb')}, unchecked"
    return f"aras {result.libraries.get('aras')}"


def _main(evaluation: Evaluation, task: Mapping[str, str]) -> float | None:
    """The main score of a task, per cent; None where the result lacks it."""
    scores = evaluation.protocols.get(task["protocol"])
    if scores is None:
        return None
    if task["protocol"] == "C":
        return None if scores.graded is None else float(getattr(scores.graded, task["way"]))
    return float(getattr(scores, task["way"])["R@10"])


def _scores(foreign: Foreign, facts: Any, protocol: str, stream: str) -> Scores | None:
    """Scores of a protocol; None unless mteb has both directions."""
    ways: dict[str, dict[str, float]] = {}
    graded: dict[str, float] = {}
    for task in facts["tasks"]:
        columns = foreign.tasks.get(task["name"], {}).get(stream)
        if task["protocol"] != protocol or columns is None:
            continue
        where = f"{foreign.model}, {task['name']}, {stream}"
        ways[task["way"]] = {f"R@{k}": 100 * _number(columns, f"R_at_{k}", where) for k in KS}
        if protocol == "C":
            graded[task["way"]] = 100 * _number(columns, "expected_ndcg_at_10", where)
    if ways.keys() != set(WAYS):
        return None
    mean = sum(value for way in ways.values() for value in way.values()) / 6
    scores = Scores(t2i=ways["t2i"], i2t=ways["i2t"], mR=mean)
    return scores.plus(graded=Directions(**graded)) if graded else scores


def _number(columns: Columns, name: str, where: str) -> float:
    value = columns.get(name)
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ArasError(f"{where}: {name} is {value!r}, expected a number from 0 to 1")
    return float(value)


def _unlike(stream: str, claimed: Evaluation, ours: Result) -> Iterator[str]:
    """Recalls that differ by more than rounding."""
    for protocol, scores in claimed.protocols.items():
        mine = ours.streams[stream].protocols[protocol]
        for way in WAYS:
            for key, value in getattr(scores, way).items():
                own = getattr(mine, way)[key]
                if abs(own - value) > TOLERANCE:
                    yield f"{stream} {protocol} {way} {key} {value:.2f}, the vectors give {own:.2f}"


def _names(facts: Any, protocol: str) -> str:
    return " and ".join(task["name"] for task in facts["tasks"] if task["protocol"] == protocol)


def _facts(release: Path) -> Any:
    path = release / folder.FACTS
    if not path.is_file():
        raise ArasError(
            f"{release}: has no {folder.FACTS}: it has no captions of fair test tiles, or an older "
            "aras packaged it"
        )
    return _json(path)


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(path.rglob("*Retrieval.json"))
        else:
            yield path


def _json(path: Path) -> Any:
    try:
        return read_json(path, budgets.JSON_BYTES)
    except FileNotFoundError as error:
        raise no_such_file(path) from error
    except (OSError, ValueError) as error:
        raise ArasError(f"{path}: not readable JSON: {error}") from error
