"""A toy publishing target, whole in one file: a folder that a web server serves."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from builder.core.errors import ArasError
from builder.publish.targets import Job, Target
from builder.release.published import Publication


@dataclass(frozen=True)
class Outcome:
    status: str
    url: str

    def as_json(self) -> dict[str, Any]:
        return {"status": self.status, "url": self.url}

    def as_text(self) -> str:
        return f"{self.status}: {self.url}"


def publish(job: Job, *, to: Path, url: str) -> Outcome:
    from builder.core.files import atomic
    from builder.publish.cards import finish_rewriting, rewrite
    from builder.publish.journal import alone
    from builder.publish.release import lines, read_release
    from builder.release.published import record_publication

    address = f"{url}/{job.release.name}"
    if job.dry_run:
        return Outcome("planned", address)
    with alone(job.release):
        finish_rewriting(job.release, job.render)
        if violations := job.check(job.release):
            raise ArasError(lines(f"{job.release} fails `aras check`:", violations))
        rewrite(job.release, job.render, copies={"folder": address})
        job.say(f"copying {job.release} to {to}")
        with atomic(to / job.release.name) as temporary:
            shutil.copytree(job.release, temporary)
        release = read_release(job.release)
        publication = Publication(
            kind="folder",
            destination=address,
            version=release.version,
            content_sha256=release.content_sha256,
        )
        record_publication(job.release, publication)
    return Outcome("published", address)


FOLDER = Target(
    help="Publish RELEASE as a folder of files.",
    options=(
        click.Option(["--to"], type=click.Path(path_type=Path), required=True, help="The folder."),
        click.Option(["--url"], required=True, help="Its address for readers."),
    ),
    publish=publish,
    line=lambda place: f"files at {place.destination}",
)
