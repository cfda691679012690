"""The page of a release as a folder: its plain files, its index, and where the pictures are."""

import html
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from builder import __version__
from builder.core.errors import ArasError
from builder.core.files import atomic, digest_of, remove
from builder.core.manifest import MANIFEST, parse_manifest
from builder.core.progress import counted
from builder.explore.head import FORMAT, Head
from builder.explore.index import HEAD, write_head, write_index
from builder.explore.versions import write_changes
from builder.parts.opened import OpenRelease
from builder.parts.sources import Folder, Web, open_source

DATA = "data"
BASE_MAP = "https://tile.openstreetmap.org"
"""Tiles of the base map that a reader may switch on."""
HUB = ("https://huggingface.co", "https://*.huggingface.co", "https://*.hf.co")
"""Where the Hub's answers lead."""


@dataclass(frozen=True)
class Site:
    """A page that was written: its folder, rows, files and bytes of the index."""

    folder: Path
    rows: int
    files: int
    bytes: int
    is_new: bool = True

    def lines(self) -> list[str]:
        word = "written" if self.is_new else "already there"
        size = f"{counted(self.files, 'file')}, {self.bytes / 1e6:,.1f} MB"
        return [f"explore: {self.folder} {word}: {counted(self.rows, 'row')}, {size}"]

    def as_json(self) -> dict[str, Any]:
        return {
            "kind": "explore",
            "out": str(self.folder),
            "rows": self.rows,
            "files": self.files,
            "bytes": self.bytes,
            "is_new": self.is_new,
        }


def open_page_source(place: str) -> OpenRelease:
    """The release at ``place``. Raises ArasError as `open_source`."""
    return OpenRelease(open_source(place))


def key_of(release: OpenRelease, base: str, old: OpenRelease | None, place: str) -> str:
    """What a page depends on: equal keys, equal pages."""
    before = old.manifest_sha256 if old else ""
    return digest_of([release.manifest_sha256, before, base, place, FORMAT, __version__])[:20]


def base_of(release: OpenRelease, out: Path, source: str | None) -> str:
    """The address that the page reads shards from, ending with a slash.

    ``source`` must hold the same release. Without it, a folder is reached from ``out`` by a
    relative path. Raises ArasError for a source that holds another release.
    """
    opened = release.source
    if source is not None:
        opened = open_source(source)
        held = parse_manifest(opened.whole(MANIFEST), f"{opened.address}/{MANIFEST}")
        if held.content_sha256 != release.manifest.content_sha256:
            raise ArasError(
                f"--source {source}: holds another release ({held.name} {held.version}) than "
                f"{release.source.address}; their content digests differ"
            )
    if isinstance(opened, Web):
        return opened.url("x")[:-1]
    if isinstance(opened, Folder):
        return quote(Path(os.path.relpath(opened.root.resolve(), out.resolve())).as_posix()) + "/"
    raise ArasError(f"{opened.address}: a page cannot read from there")


def write_site(
    release: OpenRelease,
    out: Path,
    *,
    base: str,
    old: OpenRelease | None = None,
    base_old: str = "",
    address: str = "",
) -> Site:
    """Write the page of ``release`` into ``out``, whole or not at all.

    ``base`` is where it reads pictures, see `base_of`; ``old`` is an earlier release to compare
    with, which lies in a folder; ``address`` what `aras get` is told instead of where the release
    was read. Raises ArasError where ``out`` holds something else.
    """
    if out.exists() and not (out / DATA / HEAD).is_file() and any(out.iterdir()):
        raise ArasError(f"{out}: exists and is not a page of aras explore; not changed")
    with atomic(out) as temporary:
        data = temporary / DATA
        data.mkdir(parents=True)
        manifest = release.manifest
        head = Head(
            title=manifest.title or manifest.name or "release",
            name=manifest.name,
            version=manifest.version,
            license=manifest.license,
            doi=manifest.doi,
            content_sha256=manifest.content_sha256,
            address=address or release.source.address,
            base=base,
            base_old=base_old,
        )
        head = write_index(release, data, head)
        if old is not None:
            head = replace(head, changes=write_changes(old, release, data))
        write_head(data, head)
        copy_page(temporary, (base, base_old))
        remove(out)
    every = [path for path in out.rglob("*") if path.is_file()]
    return Site(out, head.rows, len(every), sum(path.stat().st_size for path in every))


def copy_page(folder: Path, addresses: Iterable[str]) -> None:
    """Copy the files of the page; its policy allows only its own scripts, and what it reads."""
    page = files("builder.explore").joinpath("site")
    with_folder = Path(str(page))
    shutil.copytree(with_folder, folder, dirs_exist_ok=True)
    path = folder / "index.html"
    text = path.read_text(encoding="utf-8").replace("{policy}", html.escape(policy(addresses)))
    path.write_text(text, encoding="utf-8")


def policy(addresses: Iterable[str]) -> str:
    """Content-Security-Policy of the page."""
    origins = {
        f"{parts.scheme}://{parts.netloc}"
        for parts in map(urlsplit, addresses)
        if parts.scheme in ("http", "https")
    }
    if "https://huggingface.co" in origins:
        origins.update(HUB)
    reached = " ".join(["'self'", *sorted(origins)])
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            f"img-src 'self' blob: {BASE_MAP}",
            f"connect-src {reached}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
