"""Pages that are served: written once into the user's cache, and mapped to addresses."""

import os
from pathlib import Path

from builder.core.files import read_json
from builder.explore.index import HEAD
from builder.explore.writer import DATA, Site, base_of, key_of, write_site
from builder.parts.opened import OpenRelease
from builder.parts.sources import Folder


def cache_folder() -> Path:
    """Where pages are kept: ``$XDG_CACHE_HOME/aras/explore`` or ``~/.cache/aras/explore``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "aras" / "explore"


def cached(
    release: OpenRelease, source: str | None, old: OpenRelease | None, place: str
) -> tuple[Site, dict[str, Path]]:
    """The page of a release, written unless the cache has it, and what the server serves where.

    ``place`` is the release as the user named it.
    """
    folders: dict[str, Path] = {}
    base = base_of(release, Path(), source) if source else ""
    if not base and isinstance(release.source, Folder):
        base, folders["/release/"] = "release/", release.source.root
    base = base or base_of(release, Path(), None)
    base_old = ""
    if old is not None and isinstance(old.source, Folder):
        base_old, folders["/release-old/"] = "release-old/", old.source.root
    out = cache_folder() / key_of(release, base, old, place)
    if (out / DATA / HEAD).is_file():
        files = [path for path in out.rglob("*") if path.is_file()]
        rows = int(read_json(out / DATA / HEAD)["rows"])
        site = Site(out, rows, len(files), sum(path.stat().st_size for path in files), is_new=False)
    else:
        site = write_site(release, out, base=base, old=old, base_old=base_old, address=place)
    folders["/"] = site.folder
    return site, folders
