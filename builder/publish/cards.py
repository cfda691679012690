"""What the cards of a release tell about where it is published: the repo they name, and the DOI.

Both become known after packaging, so publishing writes the cards anew; the data stay as they are.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from builder.core.errors import ArasError
from builder.core.files import write_json
from builder.core.manifest import UNLISTED
from builder.release.card import TEMPLATES
from builder.release.published import publications, read

SANDBOX_PREFIX = "10.5072/"
"""DOIs of Zenodo's sandbox, and of every other place to try things: they lead nowhere."""

Render = Callable[..., None]
"""``render(release, doi=…, concept_doi=…, synthetic_doi=…, repo=…, endpoint=…)`` writes what is
given into the cards and renews the manifest; what is not given stays."""


def is_card(path: str) -> bool:
    """True of what `Render` writes; everything else in a release is data."""
    written = {*TEMPLATES.values(), *UNLISTED, "croissant.json"}
    return path in written or path.startswith("pictures/")


def named_repo(manifest: dict[str, Any]) -> str:
    """The repo that the cards' snippets load, or "" where they name none."""
    release = manifest["facts"].get("recipe", {}).get("release", {})
    return str(release.get("repo") or "")


def rewrite(release: Path, render: Render, **told: str) -> None:
    """Write the cards anew. A note beside the release lets the next run finish a cut one."""
    note = _note(release)
    write_json(note, told)
    render(release, **told)
    note.unlink()


def finish_rewriting(release: Path, render: Render) -> None:
    """Go on where a run was killed while it wrote the cards: they may disagree with each other."""
    if (note := _note(release)).exists():
        rewrite(release, render, **read(note))


def check_doi(release: Path, manifest: dict[str, Any]) -> None:
    """Raise ArasError when the cards tell a DOI that leads a reader nowhere."""
    doi = str(manifest.get("doi") or "")
    public = {one.get("doi") for one in publications(release) if one.get("kind") == "zenodo"}
    if not doi or (doi in public and not doi.startswith(SANDBOX_PREFIX)):
        return
    sandbox = doi.startswith(SANDBOX_PREFIX)
    what = "one of the sandbox" if sandbox else "one of a draft that is not published"
    way = (
        f"`aras publish zenodo {release} --production` replaces it"
        if sandbox
        else f"publish the draft (`aras publish zenodo {release} --production --finish`)"
    )
    raise ArasError(
        f"{release / 'README.md'}: DOI {doi} leads nowhere: it is {what}; nothing was sent. "
        f"First {way}, or send it all the same with --unpublished-doi"
    )


def _note(release: Path) -> Path:
    return release.parent / ".publish" / f"{release.name}-cards.json"
