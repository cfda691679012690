"""What the cards of a release say of where it is published: repo, DOI, copies.

All become known after packaging, so publishing writes the cards again; the data do not change.
"""

from pathlib import Path

from builder.core.errors import ArasError
from builder.core.files import write_json
from builder.core.manifest import UNLISTED
from builder.publish.targets import Render
from builder.release import benchmark, stac
from builder.release.card import TEMPLATES
from builder.release.published import publications, read_object

SANDBOX_PREFIX = "10.5072/"
"""DOIs of Zenodo's sandbox, and of every other place to try things: they lead nowhere."""


def is_card(path: str) -> bool:
    """True of what `Render` writes; everything else in a release is data."""
    written = {*TEMPLATES.values(), *UNLISTED, "croissant.json", stac.COLLECTION, *benchmark.TEXTS}
    return path in written or path.startswith("pictures/")


def rewrite(release: Path, render: Render, **values: str | dict[str, str]) -> None:
    """Write the cards again. A note beside the release lets the next run finish an interruption."""
    note = _note(release)
    write_json(note, values)
    render(release, **values)
    note.unlink()


def finish_rewriting(release: Path, render: Render) -> None:
    """Continue where a run was killed while it wrote the cards: they may contradict each other."""
    if (note := _note(release)).exists():
        rewrite(release, render, **read_object(note))


def check_doi(release: Path, doi: str | None) -> None:
    """Raise ArasError when the cards hold a DOI that does not resolve."""
    public = {place.doi for place in publications(release) if place.is_public}
    if not doi or (doi in public and not doi.startswith(SANDBOX_PREFIX)):
        return
    sandbox = doi.startswith(SANDBOX_PREFIX)
    what = "the sandbox's" if sandbox else "that of an unpublished draft"
    way = (
        f"replace it with `aras publish zenodo {release} --production`"
        if sandbox
        else f"publish the draft (`aras publish zenodo {release} --production --finish`)"
    )
    raise ArasError(
        f"{release / 'README.md'}: DOI {doi} does not resolve: it is {what}. Nothing was sent. "
        f"First {way}, or send the cards as they are with --unpublished-doi"
    )


def _note(release: Path) -> Path:
    return release.parent / ".publish" / f"{release.name}-cards.json"
