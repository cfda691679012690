"""The Hugging Face Hub as a publishing target: its options, and where it says a release is."""

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from builder.publish.targets import Job, Outcome, Target

if TYPE_CHECKING:
    from builder.release.published import Publication

HELP = """Publish RELEASE as a dataset on a Hub, tagged with its version.

\b
plan    compare with what the repo holds, by checksum; --dry-run stops here
upload  send the shards that differ, one by one, then one atomic commit
verify  compare every checksum, then load every config as a user would and count its rows
tag     only then; a version that is tagged with other data is never touched

The cards are written for ORG/NAME first, where they name another repo or Hub: the snippets of a
published card load the repo that holds it. A version that is already published gets cards with a
DOI that became known later on main; its tag does not change. A DOI that does not resolve is
refused.

Needs a token with write access, from HF_TOKEN or `hf auth login`. RELEASE must pass `aras check`.
Files of the repo that the release does not hold are removed by the commit (its history keeps
them). A repo that holds another dataset, a later version, or files that are not a release
(README.md aside) is refused.

\b
Example:
  aras publish hub release/0.1.0 --repo my-lab/my-tiles --dry-run
  aras publish hub release/0.1.0 --repo my-lab/my-tiles
"""


def publish(
    job: Job,
    *,
    repo: str | None,
    endpoint: str,
    private: bool,
    unpublished_doi: bool,
    explore: str | None,
) -> Outcome:
    """Publish with the token of this machine's login, see hub_steps."""
    from builder.core.manifest import read_manifest
    from builder.core.web import checked_address
    from builder.publish.hub_client import environment

    endpoint = checked_address(endpoint, "--endpoint")
    os.environ.update(environment(endpoint))  # read once, by the imports below

    from huggingface_hub import get_token

    from builder.publish import hub_space, hub_steps

    space = hub_space.check_space(explore, endpoint, get_token()) if explore else None
    outcome = hub_steps.publish(
        job,
        repo,
        endpoint=endpoint,
        token=get_token(),
        private=private,
        unpublished_doi=unpublished_doi,
    )
    if space is None or job.write_site is None:
        return outcome
    if job.dry_run:
        job.say(f"the page of the release would be sent to the Space {explore}")
        return outcome
    manifest = read_manifest(job.release)
    url = hub_space.publish_space(
        space, job.release, manifest, outcome.repo, job.write_site, private
    )
    job.say(f"page: {url}")
    return replace(outcome, space=url)


def line(place: "Publication") -> str:
    return f"{place.repo}@{place.tag} at commit {place.commit[:8]}, {place.url}"


HUB = Target(
    help=HELP,
    options=(
        click.Option(
            ["--repo"],
            metavar="ORG/NAME",
            help="The dataset repo to publish to; default: [release] repo of the recipe.",
        ),
        click.Option(
            ["--endpoint"],
            metavar="URL",
            envvar="HF_ENDPOINT",
            default="https://huggingface.co",
            show_default=True,
            help="Address of another Hub, for instance a self-hosted Hub.",
        ),
        click.Option(
            ["--private"],
            is_flag=True,
            help="Create the repo private; an existing public repo is refused.",
        ),
        click.Option(
            ["--unpublished-doi"],
            is_flag=True,
            help="Accept cards whose DOI is a draft's or the sandbox's.",
        ),
        click.Option(
            ["--explore"],
            metavar="ORG/NAME",
            help="Put the page of `aras explore` into this static Space; it reads the dataset.",
        ),
    ),
    publish=publish,
    line=line,
)
