"""``aras bench compare`` and ``leaderboard``: result files beside each other."""

import json
from pathlib import Path

import click

from builder.cli.common import json_option, say

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("ours", type=_FILE)
@click.argument("theirs", type=_FILE)
@json_option
@click.pass_obj
def compare(directory: Path | None, ours: Path, theirs: Path, as_json: bool) -> None:
    """Differences OURS − THEIRS of two result files, with intervals and tests.

    Both must have answered the same captions of the same release. Per stream: the six recalls
    and mR, paired bootstrap over images or spatial blocks (2,000 resamples), sign-flip p-value,
    and Holm's correction over the seven. The ranks beside each result file are read.

    \b
    Example:
      aras bench compare reports/retrieval-tfidf-on-full.json reports/retrieval-random.json
    """
    from builder.bench import report
    from builder.bench.compare import compare as compare_results

    root = directory or Path()
    found = compare_results(root / ours, root / theirs)
    click.echo(json.dumps(found, ensure_ascii=False) if as_json else report.comparison(found))


@click.command()
@click.argument("results", nargs=-1, required=True, type=_FILE)
@click.option(
    "--out",
    type=_FILE,
    default="LEADERBOARD.md",
    show_default=True,
    help="The leaderboard, Markdown.",
)
@click.option(
    "--check",
    "release",
    type=click.Path(path_type=Path),
    metavar="RELEASE",
    help="Write nothing; re-score the vectors beside each result on RELEASE.",
)
@click.pass_obj
def leaderboard(
    directory: Path | None, results: tuple[Path, ...], out: Path, release: Path | None
) -> None:
    """Write LEADERBOARD.md from result files of `aras bench retrieval`.

    One table per release, split and caption stream, best mean recall first. With --check each
    result's vectors (images.parquet and texts.parquet in its folder) are scored again; a figure
    that they do not give is named.

    \b
    Examples:
      aras bench leaderboard results/*.json
      aras bench leaderboard results/mine.json --check release/0.1.0

    Exit codes: 0 done; 1 a check found differences; 2 an input was refused.
    """
    from builder.bench import leaderboard as bench_leaderboard
    from builder.bench.retrieval import read
    from builder.errors import WorkFailed
    from builder.files import write_text

    root = directory or Path()
    paths = [root / one for one in results]
    if release is None:
        named = [(one.as_posix(), read(root / one)) for one in results]
        write_text(root / out, bench_leaderboard.board(named))
        say(f"wrote {root / out}")
        return
    problems = []
    for path in paths:
        found = bench_leaderboard.check(path, root / release)
        say(f"{path}: {'; '.join(found) if found else 'its vectors give its figures'}")
        problems += found
    if problems:
        raise WorkFailed(f"{len(problems)} differences; see above")
