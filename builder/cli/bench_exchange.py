"""``aras bench import-results`` and ``export-results``: mteb's files in, the Hub's out."""

import re
from pathlib import Path

import click

from builder.cli.common import of_recipe, say

_PATH = click.Path(path_type=Path)
_FILE = click.Path(path_type=Path, dir_okay=False)
_release = click.option(
    "--release",
    type=click.Path(path_type=Path, file_okay=False),
    callback=of_recipe,
    help="The release whose benchmark/ was run; default: the recipe's.",
)


@click.command("import-results")
@click.argument("results", nargs=-1, required=True, type=_PATH)
@_release
@click.option("--images", type=_FILE, help="Vectors of the images, Parquet of id and vector.")
@click.option("--texts", type=_FILE, help="Vectors of the captions, likewise.")
@click.option("--out", type=_PATH, default="reports", show_default=True, help="Folder of results.")
@click.pass_obj
def import_results(
    directory: Path | None,
    results: tuple[Path, ...],
    release: Path,
    images: Path | None,
    texts: Path | None,
    out: Path,
) -> None:
    """Turn mteb's RESULTS on the tasks of a release into results of aras, one a model.

    RESULTS are mteb's files (TASK.json) or the folder they are in. What mteb says cannot be scored
    again: the result is marked unchecked, on the leaderboard too. With --images and --texts, the
    vectors that the model gave, it is computed in full and compared with mteb's figures; the
    vectors are copied beside it, and `aras bench leaderboard --check` passes.

    \b
    Example:
      aras bench import-results ~/.cache/mteb/results/my__model --release release/0.1.0

    Exit codes: 0 done; 2 an input was refused, or the vectors do not give mteb's figures.
    """
    from builder.retrieval import benchmark, exchange

    if (images is None) != (texts is None):
        raise click.UsageError("give both --images and --texts, or neither")
    root = directory or Path()
    models = exchange.read_mteb([root / path for path in results], root / release)
    if images and len(models) > 1:
        raise click.UsageError(f"the vectors are of one model, RESULTS of {len(models)}")
    for foreign in models:
        name = re.sub(r"[^a-z0-9._-]+", "-", foreign.model.lower()).strip("-.")
        path = root / out / f"retrieval-mteb-{name}.json"
        if images and texts:
            run = exchange.checked(foreign, root / release, root / images, root / texts)
            benchmark.write(run, path, path.parent)
            say(f"wrote {path}; its vectors give mteb's figures")
        else:
            exchange.unchecked(foreign, root / release).write(path)
            say(f"wrote {path}, marked unchecked: --images and --texts let it be checked")


@click.command("export-results")
@click.argument("result", type=_FILE)
@_release
@click.option(
    "--dataset", required=True, metavar="OWNER/NAME", help="The release's repo on the Hub."
)
@click.option("--revision", metavar="COMMIT", help="Commit of that repo.")
@click.option("--url", help="Where the result can be looked at: a repo, a page, a paper.")
@click.option("--user", help="Who ran it, by name on the Hub; needs --url.")
@click.option("--out", type=_PATH, default=".", show_default=True, help="Copy of the model's repo.")
@click.pass_obj
def export_results(
    directory: Path | None,
    result: Path,
    release: Path,
    dataset: str,
    revision: str | None,
    url: str | None,
    user: str | None,
    out: Path,
) -> None:
    """Write a RESULT into .eval_results/ as the Hub's leaderboards read it.

    The main score of each task of the release, per cent: R@10 under S and D, nDCG@10 of grades
    under C, by caption stream and over all of them. A pull request to the model's repo with that
    file brings it onto the leaderboard of --dataset.

    \b
    Example:
      aras bench export-results reports/retrieval-my-clip.json --release release/0.1.0 \\
        --dataset someone/land --out my-clip

    Exit codes: 0 done; 2 the result is about other rows than the tasks.
    """
    from builder.retrieval import exchange
    from builder.retrieval.result import read

    if user and not url:
        raise click.UsageError("--user needs --url: the Hub shows a name beside a link alone")
    root = directory or Path()
    value = read(root / result)
    text = exchange.to_hub(value, root / release, dataset, revision, url, user)
    say(f"wrote {exchange.write_hub(text, value, root / out)}")
