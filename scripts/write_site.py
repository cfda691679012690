"""Write the pages of the documentation site into a folder, from which mkdocs builds it.

The pages are docs/, README.md, CONTRIBUTING.md and CHANGELOG.md as they are, and a reference of
every command, written from the command line itself.

    python scripts/write_site.py build/pages && mkdocs build --strict
"""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import click

from builder.cli import GROUPS, cli

ROOT = Path(__file__).parents[1]
OTHERS = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
}
"""Pages outside docs/ → their names on the site."""


def write(folder: Path) -> None:
    """Write all pages into ``folder``, which is removed first."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs", folder)
    for name, page in OTHERS.items():
        text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
        for other, to in OTHERS.items():
            text = text.replace(f"]({other})", f"]({to})")
        (folder / page).write_text(text, encoding="utf-8")
    for page in folder.rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        for other, to in OTHERS.items():
            place = os.path.relpath(folder / to, page.parent)
            text = re.sub(rf"\]\((?:\.\./)+{re.escape(other)}", f"]({place}", text)
        page.write_text(text, encoding="utf-8")
    (folder / "commands.md").write_text(commands(), encoding="utf-8")


def commands() -> str:
    """The reference of every command, with the headings of `aras --help`."""
    parts = ["# Commands", "", "Written from the command line itself.", ""]
    context = click.Context(cli, info_name="aras", color=False)
    for heading, names in GROUPS.items():
        parts += [f"## {heading}", ""]
        for name in names:
            command = cli.get_command(context, name)
            assert command is not None
            for path, help_text in helps(command, f"aras {name}", context):
                parts += [f"### {path}", "", "```text", help_text, "```", ""]
    return "\n".join(parts)


def helps(command: click.Command, path: str, parent: click.Context) -> Iterator[tuple[str, str]]:
    """(name, help) of a command and of those below it."""
    info = path.rpartition(" ")[2]
    context = click.Context(command, info_name=info, parent=parent, terminal_width=88)
    yield path, command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None:
                yield from helps(child, f"{path} {name}", context)


if __name__ == "__main__":
    import sys

    write(Path(sys.argv[1]))
