"""The ``aras`` command: a lazy group, so that help costs no heavy import."""

import atexit
import difflib
import errno
import gc
import importlib
import os
import re
import textwrap
from pathlib import Path
from typing import Any

import click

from builder import __version__
from builder.core.errors import ArasError, ShortOfMemory, WorkFailed
from builder.core.escape import terminal
from builder.core.extras import needs_extra

# Milliseconds until Arrow's allocator, which reads this as it is loaded, gives memory back.
os.environ.setdefault("MIMALLOC_PURGE_DELAY", "1")

GROUPS = {
    "Begin": {
        "init": "builder.cli.project:init",
        "fetch": "builder.cli.fetch:fetch",
        "demo": "builder.cli.project:demo",
    },
    "Make": {
        "build": "builder.cli.make:build",
        "status": "builder.cli.project:status",
        "tiles": "builder.cli.make:tiles",
        "import": "builder.cli.exchange:import_",
        "split": "builder.cli.split:split",
        "train": "builder.cli.train:train",
        "generate": "builder.cli.make:generate",
        "caption": "builder.cli.make:caption",
        "slurm": "builder.cli.slurm:slurm",
    },
    "Judge": {
        "segment": "builder.cli.make:segment",
        "score": "builder.cli.score:score",
        "report": "builder.cli.release:report",
        "explore": "builder.cli.explore:explore",
        "review": "builder.cli.explore:review",
    },
    "Release and share": {
        "package": "builder.cli.release:package",
        "check": "builder.cli.release:check",
        "diff": "builder.cli.release:diff",
        "get": "builder.cli.get:get",
        "export": "builder.cli.exchange:export",
        "publish": "builder.cli.release:publish",
    },
    "Benchmark": {
        "bench": "builder.cli.bench:bench",
    },
}
"""Heading in help → command → where it lives."""
COMMANDS = {name: place for group in GROUPS.values() for name, place in group.items()}


class Failure(click.ClickException):
    """An ArasError on its way out: one clear message, a meaningful exit code."""

    def __init__(self, error: ArasError) -> None:
        super().__init__(terminal(str(error)))
        self.error = error

    exit_code = property(lambda self: self.error.exit_code)  # type: ignore[assignment]


_SYSTEM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS)
"""Troubles of the system that a traceback does not explain: no space, no permission."""


class Help(click.HelpFormatter):
    """Breaks what is wider than the terminal in paragraphs that click leaves as they are (\\b)."""

    def write(self, string: str) -> None:
        lines: list[str] = []
        for line in string.split("\n"):
            if lines and (hang := _hang(lines[-1])) and len(line) - len(line.lstrip()) == hang:
                lines[-1] += f" {line.lstrip()}"  # the second column goes on
            else:
                lines.append(line)
        super().write("\n".join(piece for line in lines for piece in _broken(line, self.width)))


def _hang(line: str) -> int:
    """Where the second column of a line begins; 0 for a line without columns."""
    columns = re.match(r" *\S+ {2,}(?=\S)", line)
    return columns.end() if columns else 0


def _broken(line: str, width: int) -> list[str]:
    """The line in pieces of at most ``width``, the others under its second column or indented."""
    if len(line) <= width:
        return [line]
    hang = _hang(line) or len(line) - len(line.lstrip()) + 4
    return textwrap.wrap(
        line,
        width,
        subsequent_indent=" " * hang,
        break_long_words=False,
        break_on_hyphens=False,
    )


click.Context.formatter_class = Help  # of every command, also those that click makes itself


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def __init__(
        self,
        *args: Any,
        lazy: dict[str, str] | None = None,
        headings: dict[str, dict[str, str]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy or {}
        self.headings = headings or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.lazy:
            return super().get_command(ctx, cmd_name)
        module, attribute = self.lazy[cmd_name].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Names commands that are written alike where there is none of the given name."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            alike = difflib.get_close_matches(args[0], self.list_commands(ctx))
            if alike and "Did you mean" not in error.message:
                text = f"{error.message} Did you mean {' or '.join(map(repr, alike))}?"
                raise click.UsageError(text, ctx) from error
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The first sentence of each command, whole, under the headings."""
        listed = {name for group in self.headings.values() for name in group}
        rest = [name for name in self.list_commands(ctx) if name not in listed]
        width = max(map(len, self.list_commands(ctx)), default=0)
        for heading, names in (*self.headings.items(), ("Commands", rest)):
            lines = [
                (name.ljust(width), command.get_short_help_str(1000))
                for name in names
                if (command := self.get_command(ctx, name)) is not None
            ]
            if lines:
                with formatter.section(heading):
                    formatter.write_dl(lines)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ArasError as error:
            raise Failure(error) from error
        except ImportError as error:
            if (text := needs_extra(error)) is None:
                raise
            raise Failure(ArasError(text)) from error
        except MemoryError as error:
            raise Failure(ShortOfMemory(str(error))) from error
        except OSError as error:
            if error.errno not in _SYSTEM:
                raise
            text = f"{error}; finished work is kept: correct this and run the same command again"
            raise Failure(WorkFailed(text)) from error
        except KeyboardInterrupt:
            kept = "finished shards and the last checkpoint of a training are kept"
            click.echo(f"interrupted: {kept}; run the same command to continue", err=True)
            ctx.exit(130)


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    headings=GROUPS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "-C",
    "directory",
    default=".",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Work in DIR instead of the current directory, as git and make do.",
)
@click.option("--quiet", is_flag=True, help="Print results and errors alone.")
@click.option("--verbose", is_flag=True, help="Also name each step that has nothing to do.")
@click.version_option(__version__, prog_name="aras")
@click.pass_context
def cli(ctx: click.Context, directory: Path, quiet: bool, verbose: bool) -> None:
    """Make, judge and publish land-cover vision-and-language datasets.

    A dataset is a directory with a dataset.toml. `aras init DIR` writes it; every other command
    works on the current directory, or on DIR given with -C. Each stage writes its shards under
    work/ and remakes only what is stale, so any command can be interrupted and run again.

    \b
    Examples: a first dataset on the CPU, offline:
      aras demo demo
    Your own:
      aras init my-dataset && cd my-dataset
      aras fetch inputs --bbox 28 36 29 37    # maps and composites of a box
      aras build --dry-run                    # what would be made
      aras build                              # make it all; run again to resume
      aras explore                            # look through it

    Exit codes: 0 done; 1 some of the work failed (named on stderr) or a check found violations;
    2 a bad command, recipe or input; 130 interrupted.

    Completion in the shell: eval "$(_ARAS_COMPLETE=bash_source aras)" (or zsh_source, fish_source).
    """
    from builder.core.progress import settings

    settings.quiet, settings.verbose = quiet, verbose
    ctx.obj = directory


def main() -> None:
    """Entry point of the console script."""
    # What ends is freed at once: torch's modules alone take a quarter of a second to look through.
    atexit.register(gc.freeze)
    cli(prog_name="aras")
