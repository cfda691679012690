"""The command line itself: light, and honest in its exit codes."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from builder import __version__
from builder.cli import COMMANDS, GROUPS, Failure, LazyGroup, cli
from builder.core.errors import ArasError, CorruptFile, WorkFailed
from tests.makers.toy import ROOT, environment

HEAVY = "torch pyarrow rasterio datasets pydantic transformers diffusers numpy scipy ray pandas"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "builder", *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def imported(*arguments: str) -> set[str]:
    """Top-level packages that a command line imports."""
    return loaded(
        "from builder.cli import cli\n"
        f"try: cli({list(arguments)!r}, prog_name='aras')\n"
        "except SystemExit as end: assert not end.code, end.code"
    )


def loaded(program: str) -> set[str]:
    """Top-level packages that a process holds after running a program."""
    tell = "import sys\nprint(sorted({name.split('.')[0] for name in sys.modules}))"
    result = subprocess.run(
        [sys.executable, "-c", f"{program}\n{tell}"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(ast.literal_eval(result.stdout.splitlines()[-1]))


def test_help_costs_no_heavy_import() -> None:
    assert imported("--help") & set(HEAVY.split()) == set()
    assert imported("--version") & set(HEAVY.split()) == set()


def test_planning_imports_only_what_it_needs() -> None:
    needed = {"pyarrow", "pydantic", "numpy"}
    assert loaded("import builder.pipeline.project") & set(HEAVY.split()) == needed


@pytest.mark.parametrize("command", ["build", "init"])
def test_the_help_of_a_command_costs_no_heavy_import(command: str) -> None:
    assert imported(command, "--help") & set(HEAVY.split()) == set()


def test_help_lists_every_command_under_a_heading_with_its_whole_sentence() -> None:
    text = " ".join(CliRunner().invoke(cli, ["--help"], env={"COLUMNS": "80"}).stdout.split())
    headings = [text.index(f" {heading}: ") for heading in GROUPS]
    assert headings == sorted(headings)
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        assert f" {name} {command.get_short_help_str(1000)}" in text
    assert "..." not in text[text.index(" Begin: ") :]


def test_every_help_fits_a_terminal_of_80_columns_and_shows_an_example() -> None:
    for name in ["", *(name for name, _ in commands(cli))]:
        asked = [*name.split(), "--help"]
        text = CliRunner().invoke(cli, asked, env={"COLUMNS": "80"}).stdout
        assert max(map(len, text.splitlines())) <= 80, name
        assert re.search(r"^  Examples?\b.*:$", text, re.MULTILINE), name
        assert re.search(r"^    aras ", text, re.MULTILINE), name


@pytest.mark.parametrize(
    ("wrong", "right"), [(["bild"], "'build'"), (["bench", "retreival"], "'retrieval'")]
)
def test_a_mistyped_command_is_answered_with_those_written_alike(
    wrong: list[str], right: str
) -> None:
    result = CliRunner().invoke(cli, wrong)
    assert result.exit_code == 2
    assert f"Did you mean {right}?" in result.stderr


def test_every_command_is_found_and_says_what_it_is_for() -> None:
    result = CliRunner().invoke(cli, ["--help"])
    assert result.exit_code == 0
    for name in COMMANDS:
        assert re.search(rf"^  {name}  +\S", result.output, re.MULTILINE), name
        assert CliRunner().invoke(cli, [name, "--help"]).exit_code == 0, name


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, click.Command]]:
    pairs = []
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, f"{' '.join(path)} {name} leads nowhere"
        pairs.append((" ".join([*path, name]), command))
        if isinstance(command, click.Group):
            pairs += commands(command, (*path, name))
    return pairs


def test_every_option_is_explained() -> None:
    for name, command in commands(cli):
        assert command.help, name
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help, f"aras {name} {option.opts[0]}"


def test_the_version_is_the_package_s() -> None:
    assert CliRunner().invoke(cli, ["--version"]).output == f"aras, version {__version__}\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [(ArasError("bad input"), 2), (CorruptFile("bad file"), 2), (WorkFailed("some failed"), 1)],
)
def test_an_error_is_one_message_and_its_exit_code(error: ArasError, code: int) -> None:
    @click.group(cls=LazyGroup)
    def group() -> None: ...

    @group.command()
    def fails() -> None:
        raise error

    result = CliRunner().invoke(group, ["fails"])
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", f"Error: {error}\n")
    assert Failure(error).error is error


def test_a_bug_keeps_its_traceback() -> None:
    @click.group(cls=LazyGroup)
    def group() -> None: ...

    @group.command()
    def fails() -> None:
        raise FileNotFoundError(2, "No such file", "some.file")

    assert isinstance(CliRunner().invoke(group, ["fails"]).exception, FileNotFoundError)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-command"], "No such command 'no-such-command'"),
        (["tiles", "--engine", "slurm"], "'slurm' is not one of 'serial', 'processes', 'ray'"),
        (["tiles", "--workers", "-1"], "-1 is not in the range x>=0"),
        (["tiles", "--no-such-option"], "No such option"),
    ],
)
def test_a_wrong_command_line_exits_2(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_a_directory_without_a_recipe_exits_2_with_one_line(tmp_path: Path) -> None:
    result = run("-C", str(tmp_path), "build")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        f"Error: {tmp_path}/dataset.toml: no such recipe; `aras init {tmp_path}` writes one, or "
        "name its directory with `aras -C DIR …`\n"
    )


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert CliRunner().invoke(cli, ["-C", str(tmp_path / "file"), "status"]).exit_code == 2


def test_a_check_of_what_is_no_release_exits_2(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["check", str(tmp_path)], catch_exceptions=False)
    assert result.exit_code == 2
    assert f"{tmp_path}: not a release directory" in result.stderr


def test_the_module_is_the_console_script() -> None:
    assert run("--version").stdout == f"aras, version {__version__}\n"
    assert 'aras = "builder.cli:main"' in (ROOT / "pyproject.toml").read_text()
