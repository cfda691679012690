"""Zenodo as a publishing target: its options, its drafts, and where it says a release is."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from builder.core.errors import ArasError
from builder.publish.targets import Draft, Job, Outcome, Target

if TYPE_CHECKING:
    from builder.release.published import Publication

HELP = """Publish RELEASE on Zenodo, in two steps with your review between them.

The first step makes a draft, reserves its DOI and writes it into the cards, stores the metadata and
uploads the files, each compared by size and md5. Then it stops: look at the draft in the browser.
The second, with --finish, publishes the draft. A published record cannot be taken back.

Without --production everything happens on sandbox.zenodo.org, where nothing is permanent. To
continue a step that was interrupted, run the same command again; files that have arrived are not
sent again. A new version sends only what changed. A release that is over the limits of one record
becomes two that link to each other, one with the synthetic shards; it stays two, and --max-files
and --max-bytes are remembered, until either is given again.

Tokens (scopes deposit:write and deposit:actions) come from ZENODO_SANDBOX_API_TOKEN, or from
ZENODO_API_TOKEN with --production, or from zenodo-client's zenodo.ini. They are never printed.

\b
Examples: try it, look at the draft, publish it in the sandbox:
  aras publish zenodo release/0.1.0 --dry-run
  aras publish zenodo release/0.1.0
  aras publish zenodo release/0.1.0 --finish
Then permanently:
  aras publish zenodo release/0.1.0 --production
  aras publish zenodo release/0.1.0 --production --finish

Exit codes: 0 done; 1 Zenodo refused or lost something (run it again); 2 bad input or token.
"""


def publish(
    job: Job,
    *,
    url: str | None,
    production: bool,
    finish: bool,
    follows: str | None,
    max_files: int | None,
    max_bytes: int | None,
) -> Outcome:
    """Draft, finish or preview, see zenodo_steps."""
    from builder.publish import zenodo_steps
    from builder.publish.zenodo_client import PRODUCTION, SANDBOX, Client, TokenRefused, checked_url
    from builder.publish.zenodo_plan import Limits

    if finish and job.dry_run:
        raise ArasError("--finish publishes; it cannot be combined with --dry-run")
    server = checked_url(url or (PRODUCTION if production else SANDBOX), production=production)
    limits = None
    if max_files or max_bytes:
        limits = Limits(max_files or Limits.files, max_bytes or Limits.bytes)
    try:
        client = Client(server, production=production, say=job.say)
    except TokenRefused as error:
        if not job.dry_run:
            raise
        job.say(f"every file counts as new: {error}")
        return zenodo_steps.preview(None, job, limits=limits, follows=follows)
    if job.dry_run:
        return zenodo_steps.preview(client, job, limits=limits, follows=follows)
    if finish:
        return zenodo_steps.finish(client, job)
    return zenodo_steps.draft(client, job, limits=limits, follows=follows)


def line(place: "Publication") -> str:
    if not place.doi:
        return place.destination
    main = place.records.get("main")
    html = (main and main.html) or place.destination
    return f"DOI {place.doi} (all versions {place.concept_doi}), {html}"


def drafts(release: Path) -> list[Draft]:
    """Drafts of ``release`` on every server; their journals hold "destination" and "records"."""
    from builder.publish.journal import journals
    from builder.publish.zenodo_plan import MAIN, Record
    from builder.release.published import read_object

    unpublished = []
    for path in journals(release, "zenodo"):
        journal = read_object(path)
        if journal.get("records") and journal.get("state") != "published":
            main = Record.from_json(journal["records"][MAIN])
            text = f"not published: started on {journal['destination']}"
            if main.doi:
                text = f"not published: DOI {main.doi} reserved, {main.html}"
            unpublished.append(Draft(text, path))
    return unpublished


ZENODO = Target(
    help=HELP,
    options=(
        click.Option(
            ["--url"], metavar="URL", help="Another server (InvenioRDM with Zenodo's API)."
        ),
        click.Option(
            ["--production"], is_flag=True, help="Publish permanently, with ZENODO_API_TOKEN."
        ),
        click.Option(["--finish"], is_flag=True, help="Publish the draft that you have checked."),
        click.Option(
            ["--follows"],
            metavar="ID",
            help="Make this the next version of record ID. Needed once, for a dataset that was "
            "published by other means; later versions use the files beside the release.",
        ),
        click.Option(
            ["--max-files"], type=click.IntRange(min=1), help="Files a record may hold (100)."
        ),
        click.Option(
            ["--max-bytes"],
            type=click.IntRange(min=1),
            help="Bytes a record may hold (50 000 000 000).",
        ),
    ),
    publish=publish,
    line=line,
    drafts=drafts,
)
