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
        "zenodo": "builder.cli.publish_zenodo:zenodo",
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
    from builder.publish import hub_guard
    from builder.publish.address import checked_address

    endpoint = checked_address(endpoint, "--endpoint")
    os.environ.update(hub_guard.environment(endpoint))  # read once, by the imports below

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
