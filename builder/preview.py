"""What a run would do, before it is done."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from builder.errors import ArasError
from builder.pipeline import Project, Step
from builder.plan import Part, plan
from builder.trainings import Training


def preview(project: Project, steps: Sequence[Step], part: Part = (1, 1)) -> list[dict[str, Any]]:
    """What a run would do, step by step; one that looks at what an earlier one is still to make
    waits for it."""
    told = []
    coming: dict[tuple[str, str], str] = {}  # (kind of row, column) or ("model", name) → its step
    for step in steps:
        line: dict[str, Any] = {"stage": step.name}
        waits = list(dict.fromkeys(coming[one] for one in _inputs(step) if one in coming))
        try:
            if waits:
                line["waits_for"] = waits
            elif isinstance(step, Training):
                line["todo"] = "train" if step.stale(project.store) else "nothing: it is trained"
            else:
                todo = plan(step, project.store, part)
                line |= {"shards": len(todo.tasks), "stale": len(todo.stale)}
        except ArasError as error:
            line["todo"] = f"cannot be planned yet: {error}"
        if not is_done(line):
            coming |= dict.fromkeys(_outputs(step), step.name)
        told.append(line)
    return told


def package_line(project: Project, told: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What `aras package` would do after the steps that ``told`` foretells."""
    from builder.release.layout import read_manifest
    from builder.release.package import content_key

    line: dict[str, Any] = {"stage": "package"}
    if waits := [one["stage"] for one in told if not is_done(one) and "waits_for" not in one]:
        return line | {"waits_for": waits}
    target = project.releases / project.recipe.dataset.version
    name = target.relative_to(project.directory)
    try:
        key = content_key(project)
        if not target.exists():
            todo = f"{name} is to be written"
        elif read_manifest(target).get("key") == key:
            todo = f"nothing: {name} has this content"
        else:
            todo = f"{name} has other content, and stays as it is: raise version in [dataset]"
    except ArasError as error:
        todo = f"cannot be planned yet: {error}"
    return line | {"todo": todo}


def is_done(line: dict[str, Any]) -> bool:
    """Whether a line of a `preview` tells of a step with nothing to do."""
    if "waits_for" in line:
        return False
    return not line.get("stale") and line.get("todo", "nothing").startswith("nothing")


def _inputs(step: Step) -> Iterator[tuple[str, str]]:
    """What a step looks at, as (kind of row, column), or as ("model", name)."""
    if isinstance(step, Training):
        yield from (("real", column) for column in ("image", "mask", "split"))
        if step.model == "generator":
            yield from (("model", one) for one in ("segmenter", "autoencoder"))
        return
    yield from ((kind, column) for kind in step.kinds for column in step.needs)
    yield from ((kind, column) for kind in step.surveyed for column in step.surveys)
    if isinstance(folder := getattr(step, "model", None), Path):
        yield "model", folder.name


def _outputs(step: Step) -> Iterator[tuple[str, str]]:
    if isinstance(step, Training):
        yield "model", step.model
    else:
        yield from ((kind, column) for kind in step.kinds for column in step.adds)
