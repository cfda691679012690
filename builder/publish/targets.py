"""The targets that a release can be published to: each has its own file and one line here.

docs/how-to/add-a-publishing-target.md shows how to add a target.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

if TYPE_CHECKING:  # every help text imports this, and has no use for manifests
    from builder.release.published import Publication

TARGETS = {
    "hub": "builder.publish.hub:HUB",
    "zenodo": "builder.publish.zenodo:ZENODO",
}
"""Name in `aras publish NAME` → module and attribute of its `Target`."""

Say = Callable[[str], None]
WriteSite = Callable[[Path, Path, str, str], None]
"""``write_site(release, folder, base, address)`` writes the page of a release into a folder; it
reads pictures from ``base`` and names ``address`` for `aras get`."""
Render = Callable[..., None]
"""``render(release, doi=…, concept_doi=…, synthetic_doi=…, repo=…, endpoint=…, copies=…)`` writes
what is given into the cards and renews the manifest; what is not given stays."""


@dataclass(frozen=True)
class Job:
    """A release to publish, and what every target needs to do so.

    ``check`` lists what is wrong with a release; it reads every byte, so ask it last. ``render``
    writes the cards. ``say`` takes lines for the user, without secrets. A ``dry_run`` writes
    nothing, here or at the target.
    """

    release: Path
    dry_run: bool
    say: Say
    check: Callable[[Path], list[str]]
    render: Render
    write_site: WriteSite | None = None
    """Writes the page of a release; for a target that shows it."""


class Outcome(Protocol):
    """What publishing came to."""

    def as_json(self) -> dict[str, Any]:
        """For --json."""

    def as_text(self) -> str:
        """For people."""


@dataclass(frozen=True)
class Draft:
    """A release that a target holds and that is not public yet: a line about it, and the file of
    its journal, a JSON object."""

    line: str
    journal: Path


@dataclass(frozen=True)
class Target:
    """A kind of place to publish to.

    ``publish(job, **options)`` gets the values of ``options`` by name. ``line`` says in `aras
    status` where a reader finds a publication, ``drafts`` what of a release is not public yet.
    Its module is imported for every help text, so heavy imports belong into functions.
    """

    help: str
    options: tuple[click.Option, ...]
    publish: Callable[..., Outcome]
    line: Callable[["Publication"], str]
    drafts: Callable[[Path], list[Draft]] = lambda release: []


def load_target(name: str) -> Target:
    """The target of that name. Raises KeyError for a name that does not exist."""
    module, attribute = TARGETS[name].split(":")
    target: Target = getattr(importlib.import_module(module), attribute)
    return target


def drafts(release: Path) -> list[tuple[str, Draft]]:
    """(target, draft) of everything that is not public yet of ``release``."""
    return [(name, draft) for name in TARGETS for draft in load_target(name).drafts(release)]


def status_lines(release: Path) -> list[tuple[str, str]]:
    """(place, line) for every place that holds ``release``, then for every draft of it."""
    from builder.release.published import publications

    public = [
        (
            publication.kind,
            load_target(publication.target).line(publication)
            if publication.target in TARGETS
            else publication.destination,
        )
        for publication in publications(release)
    ]
    return public + [(f"{name} draft", draft.line) for name, draft in drafts(release)]
