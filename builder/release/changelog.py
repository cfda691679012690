"""The changelog of a release: what changed since the one before, and that one's own entries."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builder.errors import ArasError
from builder.release import layout
from builder.release.changes import Changes
from builder.release.diff import compare
from builder.release.versions import parse_version


def describe(changes: Changes) -> list[str]:
    """The changes as lines of a changelog, the gravest first."""
    lines = [f"config removed: `{name}`" for name in changes.configs_removed]
    lines += [f"caption stream removed: `{name}`" for name in changes.streams_removed]
    lines += [f"column removed: `{name}`" for name in changes.columns_removed]
    lines += [
        f"column `{name}` is now {two}, it was {one}"
        for name, (one, two) in changes.columns_changed.items()
    ]
    lines += [f"`{name}` changed in {_count(n)}" for name, n in changes.changed.items()]
    for what in ("removed", "added", "moved"):
        parts: dict[str, int] = getattr(changes, what)
        if parts:
            listed = ", ".join(f"{part} {n:,}" for part, n in parts.items())
            lines.append(f"{_count(sum(parts.values()))} {what}: {listed}")
    lines += [
        f"`{part}` has other content: {rows['new']:,} rows, it had {rows['old']:,}"
        for part, rows in changes.beside.items()
    ]
    lines += [f"config added: `{name}`" for name in changes.configs_added]
    lines += [f"caption stream added: `{name}`" for name in changes.streams_added]
    lines += [f"column added: `{name}` ({kind})" for name, kind in changes.columns_added.items()]
    lines += [
        f"`{name}` was not compared: a release has no digests of it"
        for name in changes.not_compared
    ]
    return lines or ["the rows and columns are the same"]


def _count(rows: int) -> str:
    return f"{rows:,} {'row' if rows == 1 else 'rows'}"


def entry(changes: Changes, date: str) -> str:
    """A CHANGELOG entry of the newer release, Markdown."""
    lines = [_since(changes), *describe(changes)]
    return f"## {changes.new} ({date})\n\n" + "".join(f"- {line}\n" for line in lines)


def _since(changes: Changes) -> str:
    step = "no step" if changes.step == "none" else f"a {changes.step} step"
    early = changes.step == "major" and parse_version(changes.old)[0] == 0
    return f"since {changes.old}, {step}{' (MINOR before 1.0.0)' if early else ''}"


def previous(release: Path, manifest: Mapping[str, Any]) -> Path | None:
    """The newest release of the same dataset with a smaller version beside ``release``."""
    own = parse_version(str(manifest["version"]))
    found = []
    for path in release.parent.glob(f"[!.]*/{layout.MANIFEST}"):
        told = layout.read_manifest(path.parent)
        if told.get("name") == manifest["name"] and parse_version(str(told["version"])) < own:
            found.append((parse_version(str(told["version"])), path.parent))
    return max(found)[1] if found else None


def history(release: Path, manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The changelog of a release, newest entry first: {"version", "date", "asks"?, "lines"}.

    Its own entry tells what changed since the release before, where that lies beside it, whose
    entries follow, and the least version that these changes ask for.
    """
    lines = [
        f"`{config}`: "
        + ", ".join(f"{split} {one['rows']:,}" for split, one in splits.items())
        + " rows"
        for config, splits in manifest["configs"].items()
    ]
    lines.append(f"content digest `{manifest['content_sha256']}`")
    own: dict[str, Any] = {"version": manifest["version"], "date": manifest["date"]}
    earlier: list[dict[str, Any]] = []
    if before := previous(release, manifest):
        told = layout.read_manifest(before)
        earlier = told.get("history", [])
        try:
            changes = compare(before, release)
            lines = [_since(changes), *describe(changes), *lines]
            own["asks"] = changes.next_version
        except ArasError:
            lines.insert(0, f"not compared with {told['version']}, whose files cannot be read")
    return [{**own, "lines": lines}, *earlier]
