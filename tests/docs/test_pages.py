"""The pages: every command exists with its options, every link leads somewhere."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from builder.cli import cli

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/how-to/*.md")])
BLOCK = re.compile(r"^```(?:sh|bash|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(aras [a-z-][^`]*)`")
LINK = re.compile(r"(?<!\!)\[[^\]]*\]\(([^)\s]+)\)")
UNSAID = ("…", "...", "COMMAND", "NAME`", " NAME", "|")
"""Marks of a line that leaves something out, and so is no command."""


def lines(text: str) -> Iterator[str]:
    """The `aras` commands of a shell block; a line that ends in \\ goes on in the next."""
    for line in text.replace("\\\n", " ").splitlines():
        for part in re.split(r"&&|\|\||;|\|", line.partition("#")[0]):
            if (command := part.strip().removeprefix("$ ")).startswith("aras "):
                yield command


def commands(group: click.Group, path: str = "aras") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")


def parsed(line: str) -> None:
    """Parse a command line as the shell hands it over. Raises click.UsageError for a command or
    an option that does not exist, and for a value that an option refuses."""
    words = shlex.split(line)[1:]
    group: click.Command = cli
    context = click.Context(cli, info_name="aras")
    while True:
        options, rest, _ = group.make_parser(context).parse_args(list(words))
        for parameter in group.params:
            kind, value = parameter.type, options.get(parameter.name or "")
            if isinstance(kind, click.Choice) and isinstance(value, str):
                kind.convert(value, parameter, context)
        if not isinstance(group, click.Group) or not rest:
            return
        _, command, words = group.resolve_command(context, rest)
        assert command is not None
        group, context = command, click.Context(command, info_name=rest[0], parent=context)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_page_exists_with_its_options(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    shown = [line for block in BLOCK.findall(text) for line in lines(block)]
    named = [" ".join(line.split()) for line in INLINE.findall(text)]
    named = [part for line in named for part in ([line] if "|" in line else lines(line))]
    for line in [*shown, *named]:
        if not any(mark in line for mark in UNSAID):
            try:
                parsed(line)
            except click.BadOptionUsage as error:  # a text may name an option without its value
                if line not in named:
                    pytest.fail(f"{page.name}: {line}: {error.format_message()}")
            except click.UsageError as error:
                pytest.fail(f"{page.name}: {line}: {error.format_message()}")


def test_the_pages_show_commands_to_check() -> None:
    blocks = [block for page in PAGES for block in BLOCK.findall(page.read_text(encoding="utf-8"))]
    assert len([line for block in blocks for line in lines(block)]) > 40


def test_every_example_in_help_exists_with_its_options() -> None:
    shown = 0
    for name, command in commands(cli):
        for line in lines(command.help or ""):
            if not any(mark in line for mark in UNSAID):
                try:
                    parsed(line)
                except click.UsageError as error:
                    pytest.fail(f"{name} --help: {line}: {error.format_message()}")
                shown += 1
    assert shown > 50


def test_a_command_that_does_not_exist_is_noticed() -> None:
    for wrong in ("aras bild", "aras build --dri-run", "aras init x --from mars"):
        with pytest.raises(click.UsageError):
            parsed(wrong)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", head.replace("`", "").lower()) for head in heads]
    return {head.strip().replace(" ", "-") for head in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{page.name}: {link}"


def test_the_site_has_every_page_and_command_and_no_link_that_leads_nowhere(
    tmp_path: Path,
) -> None:
    script = ROOT / "scripts" / "write_site.py"
    subprocess.run([sys.executable, script, tmp_path / "pages"], check=True, cwd=ROOT)
    pages = {path.relative_to(tmp_path / "pages").as_posix() for path in tmp_path.rglob("*.md")}
    assert {"index.md", "commands.md", "columns.md", "changes.md"} <= pages
    reference = (tmp_path / "pages" / "commands.md").read_text(encoding="utf-8")
    for name, _ in commands(cli):
        assert f"### {name}\n" in reference
    for page in tmp_path.rglob("*.md"):
        if "mteb" in page.parts or "results" in page.parent.parts:
            continue
        for link in LINK.findall(page.read_text(encoding="utf-8")):
            if "://" not in link and not link.startswith("#"):
                assert (page.parent / link.partition("#")[0]).exists(), f"{page.name}: {link}"
