"""``aras publish``: bring a packaged release to where people find it."""

import json
import os
from pathlib import Path
from typing import Any

import click

from builder.cli import LazyGroup


@click.group(
    cls=LazyGroup,
    lazy={
        "hub": "builder.cli.publish:hub",
        "zenodo": "builder.cli.publish:zenodo",
    },
)
def publish() -> None:
    """Publish a packaged release: to a Hub for loading, to Zenodo for citing.

    A publication is all there or not there: it is verified before its tag or DOI is set.
    Interrupted anywhere, the same command finishes the job and sends nothing twice. The data of
    the release are only read. Its cards are written anew where they have to tell the repo or the
    DOI; where it was published is written down beside it, in release/VERSION.published.json.
    """


@click.command()
@click.argument("release", type=click.Path(path_type=Path))
@click.option(
    "--repo",
    metavar="ORG/NAME",
    help="The dataset repo to publish to; [release] repo of the recipe unless it is given.",
)
@click.option(
    "--endpoint",
    metavar="URL",
    envvar="HF_ENDPOINT",
    default="https://huggingface.co",
    show_default=True,
    help="Another Hub, for instance a self-hosted one.",
)
@click.option(
    "--private",
    is_flag=True,
    help="Create the repo private; one that is there and public is refused.",
)
@click.option(
    "--unpublished-doi", is_flag=True, help="Send cards whose DOI is a draft's, or the sandbox's."
)
@click.option("--dry-run", is_flag=True, help="Say what would be sent; send nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def hub(
    ctx: click.Context,
    release: Path,
    repo: str | None,
    endpoint: str,
    private: bool,
    unpublished_doi: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Publish RELEASE as a dataset on a Hub, tagged with its version.

    \b
    plan    compare with what the repo holds, by checksum; --dry-run stops here
    upload  send the shards that differ, one by one, then one atomic commit
    verify  compare every checksum, then load every config as a user would and count its rows
    tag     only then; a version that is tagged with other data is never touched

    The cards are written for ORG/NAME first, where they name another repo or Hub: the snippets of
    a published card load what it stands beside. A version that is published already gets cards that
    learned their DOI since on main; its tag stays. A DOI that leads nowhere yet is refused.

    Needs a token with write access, from HF_TOKEN or `hf auth login`. RELEASE must pass
    `aras check`. Files of the repo that the release does not hold are removed by the commit (its
    history keeps them). A repo that holds another dataset, a later version, or files but no
    release (README.md aside) is refused.

    \b
    Example:
      aras publish hub release/0.1.0 --repo my-lab/my-tiles --dry-run
      aras publish hub release/0.1.0 --repo my-lab/my-tiles
    """
    from builder.core.web import checked_address
    from builder.publish import hub_client

    endpoint = checked_address(endpoint, "--endpoint")
    os.environ.update(hub_client.environment(endpoint))  # read once, by the imports below

    from huggingface_hub import get_token

    from builder.publish.hub import publish as publish_release
    from builder.release.card import write_cards
    from builder.release.check import violations

    result = publish_release(
        ctx.obj / release if ctx.obj else release,
        repo,
        endpoint=endpoint,
        token=get_token(),
        check=violations,
        render=write_cards,
        unpublished_doi=unpublished_doi,
        private=private,
        dry_run=dry_run,
        say=lambda line: click.echo(line, err=True),
    )
    if as_json:
        click.echo(json.dumps(result))
    elif dry_run and result["status"] == "planned":
        click.echo(_plan(result["plan"]))
    else:
        click.echo(_summary(result))


def _plan(plan: dict[str, Any]) -> str:
    rows = [
        f"{kind:8} {one['bytes']:>15,}  {one['path']}"
        for kind in ("add", "replace", "remove", "keep")
        for one in plan[kind]
    ]
    return "\n".join([*rows, f"{_counts(plan)}; {plan['bytes']:,} bytes to send"])


def _counts(plan: dict[str, Any]) -> str:
    return ", ".join(
        f"{len(plan[kind])} to {kind}" for kind in ("add", "replace", "remove", "keep")
    )


def _summary(result: dict[str, Any]) -> str:
    place = f"{result['repo']} {result['tag']} at {result['commit'][:8]}: {result['url']}"
    if not result["plan"]:
        return f"already published: {place}"
    sent = len(result["plan"]["add"]) + len(result["plan"]["replace"])
    told = f"{sent} files, {result['plan']['bytes']:,} bytes"
    if result["cards"]:
        return (
            f"renewed the cards on main, {told}, at {result['cards'][:8]}; the tag stays: {place}"
        )
    return f"published {told}: {place}"


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
    from builder.publish import zenodo_client as api
    from builder.publish.zenodo_client import TokenRefused, checked_url
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
