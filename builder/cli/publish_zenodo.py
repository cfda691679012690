"""``aras publish zenodo``: the command line of builder.publish.zenodo."""

import json
from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("release", type=click.Path(path_type=Path))
@click.option("--url", metavar="URL", help="Another server (InvenioRDM with Zenodo's API).")
@click.option("--production", is_flag=True, help="Publish for good, with ZENODO_API_TOKEN.")
@click.option("--finish", is_flag=True, help="Publish the draft that you have looked at.")
@click.option(
    "--follows",
    metavar="ID",
    help="Make this the next version of record ID. Needed once, for a data set that was published "
    "by other means; later versions find theirs by the files beside the release.",
)
@click.option("--max-files", type=click.IntRange(min=1), help="Files a record may hold (100).")
@click.option(
    "--max-bytes", type=click.IntRange(min=1), help="Bytes a record may hold (50 000 000 000)."
)
@click.option("--dry-run", is_flag=True, help="Print what would be sent; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
@click.pass_obj
def zenodo(
    directory: Path | None,
    release: Path,
    url: str | None,
    production: bool,
    finish: bool,
    follows: str | None,
    max_files: int | None,
    max_bytes: int | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Publish RELEASE on Zenodo, in two steps with your review between them.

    The first step makes a draft, reserves its DOI and writes it into the cards, stores the
    metadata and uploads the files, each compared by size and md5. Then it stops: look at the
    draft in the browser. The second, with --finish, publishes the draft. A published record
    cannot be taken back.

    Without --production everything happens on sandbox.zenodo.org, where nothing is for good. A
    step that was interrupted goes on when the same command is given again; files that are there
    already are not sent again. A new version sends only what changed. A release that is over the
    limits of one record becomes two that point at each other, one with the synthetic shards; it
    stays two, and --max-files and --max-bytes are remembered, until one of them is given again.

    Tokens (scopes deposit:write and deposit:actions) come from ZENODO_SANDBOX_API_TOKEN, or from
    ZENODO_API_TOKEN with --production, or from zenodo-client's zenodo.ini. They are never printed.

    \b
    Try it, look at the draft, publish it in the sandbox:
      aras publish zenodo release/0.1.0 --dry-run
      aras publish zenodo release/0.1.0
      aras publish zenodo release/0.1.0 --finish
    Then the same for good:
      aras publish zenodo release/0.1.0 --production
      aras publish zenodo release/0.1.0 --production --finish

    Exit codes: 0 done; 1 Zenodo refused or lost something (run it again); 2 bad input or token.
    """
    from builder.publish import zenodo as steps
    from builder.publish import zenodo_api as api
    from builder.publish.zenodo_http import TokenRefused, checked_url
    from builder.publish.zenodo_plan import Limits

    if finish and dry_run:
        raise click.UsageError("--finish publishes; it does not go with --dry-run")

    def say(text: str) -> None:
        click.echo(text, err=True)

    path = (directory or Path()) / release
    if path.name in ("", ".."):  # the version names the journal beside it
        path = path.resolve()
    server = checked_url(
        url or (api.PRODUCTION if production else api.SANDBOX), production=production
    )
    limits = None
    if max_files or max_bytes:
        limits = Limits(max_files or Limits.files, max_bytes or Limits.bytes)
    render, violations = _edges()
    try:
        client = api.Client(server, production=production, say=say)
    except TokenRefused as error:
        if not dry_run:
            raise
        say(f"every file counts as new: {error}")
        client = None
    if client is None or dry_run:
        told = steps.preview(
            path, client=client, violations=violations, limits=limits, follows=follows
        )
    elif finish:
        told = steps.finish(client, path, render=render, say=say)
    else:
        told = steps.draft(
            client,
            path,
            render=render,
            violations=violations,
            limits=limits,
            follows=follows,
            say=say,
        )
    if as_json:
        click.echo(json.dumps({"release": str(release), **told}, ensure_ascii=False))
        return
    click.echo(_plan_text(told) if dry_run else _text(told))
    if client and told["state"] == "ready":
        click.echo("NOT published yet. Look at the draft: title, authors, licence, files. Then:")
        click.echo(f"  {client.command(path, '--finish')}")


def _edges() -> tuple[Any, Any]:
    """What writes the cards and what checks a release."""
    from builder.release.card import write_cards
    from builder.release.check import violations

    return write_cards, violations


def _text(told: dict[str, Any]) -> str:
    lines = []
    for role, record in told["records"].items():
        lines.append(
            f"{role} record {record['id']}: {record['files']} files, {_size(record['bytes'])}"
        )
        if "sent" in record:
            lines.append(
                f"  sent {record['sent']} ({_size(record['sent_bytes'])}), kept {record['kept']}, "
                f"removed {record['removed']}; all names, sizes and md5 agree"
            )
        lines.append(f"  DOI {record['doi']}, of all versions {record['concept_doi']}")
        lines.append(f"  {record['html']}")
    if told["state"] == "published":
        lines.append(f"version {told['version']} is published")
    return "\n".join(lines)


def _plan_text(told: dict[str, Any]) -> str:
    if told["published_as"]:
        return f"version {told['version']} is published already, as {told['published_as']}"
    lines = []
    for role, record in told["records"].items():
        lines.append(
            f"{role} record: {record['files']} files, {_size(record['bytes'])}; "
            f"to send {_size(record['send_bytes'])}"
        )
        for verb in ("add", "replace", "remove"):
            lines += [f"  {verb:<8}{name}" for name in record[verb]]
        lines.append(f"  keep    {record['keep']} files")
    if len(told["records"]) > 1:
        lines.append("two records; each points at the other")
    lines += [f"delete draft {one}: one record holds the release now" for one in told["delete"]]
    lines.append("nothing was changed; the cards change once more, when the DOI is known")
    return "\n".join(lines)


def _size(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
