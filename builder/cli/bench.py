"""``aras bench``: retrieval figures of any model, and the imbalance experiment."""

import json
import os
from dataclasses import replace
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING

import click

from builder.cli.bench_exchange import export_results, import_results
from builder.cli.common import RULE, echo, json_option, near_options, of_recipe, print_json, say
from builder.cli.experiments import augmentation, imbalance
from builder.core import progress
from builder.core.progress import counted

if TYPE_CHECKING:
    from builder.retrieval.result import Scores

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("ours", type=_FILE)
@click.argument("theirs", type=_FILE)
@json_option
@click.pass_obj
def compare(directory: Path | None, ours: Path, theirs: Path, as_json: bool) -> None:
    """Differences OURS − THEIRS of two result files, with intervals and tests.

    Both must have answered the same captions of the same release. Per stream: the six recalls
    and mR, with interval and p-value from one Student's t over images or spatial blocks (none
    under five), and Holm's correction over the seven. The ranks beside each result are read.

    \b
    Example:
      aras bench compare mine.json theirs.json
    """
    from builder.retrieval import benchmark, report

    root = directory or Path()
    comparison = benchmark.compare(root / ours, root / theirs)
    if as_json:
        print_json(comparison.as_json())
    else:
        echo(report.comparison(comparison))


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
@click.option(
    "--card",
    type=click.Path(path_type=Path),
    metavar="RELEASE",
    help="Put the figures into the card of RELEASE instead.",
)
@click.pass_obj
def leaderboard(
    directory: Path | None,
    results: tuple[Path, ...],
    out: Path,
    release: Path | None,
    card: Path | None,
) -> None:
    """Write LEADERBOARD.md from result files of `aras bench retrieval`.

    One table per release, split and caption stream, best mean recall first; oracles and baselines
    are marked. With --check each result's vectors (images.parquet and texts.parquet in its
    folder) are scored again; a figure that they do not give is named. With --card the strict
    figures go into README.md and manifest.json of a release, which publishing then sends too.

    \b
    Examples:
      aras bench leaderboard results/*.json
      aras bench leaderboard results/mine.json --check release/0.1.0
      aras bench leaderboard reports/retrieval-*.json --card release/0.1.0

    Exit codes: 0 done; 1 a check found differences; 2 an input was refused.
    """
    from builder.core.errors import WorkFailed
    from builder.core.files import write_text
    from builder.retrieval.leaderboard import board, check, figures
    from builder.retrieval.result import read

    if release and card:
        raise click.UsageError("--check and --card exclude each other")
    root = directory or Path()
    if release is None:
        if card:
            from builder.core.manifest import read_manifest
            from builder.release.card import write_cards

            listed = [(str(root / path), read(root / path)) for path in results]
            write_cards(root / card, retrieval=figures(listed, read_manifest(root / card)))
            say(f"wrote {root / card / 'README.md'}")
            return
        folder = (root / out).resolve().parent
        named = [
            (Path(os.path.relpath((root / path).resolve(), folder)).as_posix(), read(root / path))
            for path in results
        ]  # as a link in the leaderboard would say it
        write_text(root / out, board(named))
        say(f"wrote {root / out}")
        return
    count = 0
    for path in results:
        problems = check(root / path, root / release)
        say(f"{root / path}: {'; '.join(problems) or 'its vectors give every figure'}")
        count += len(problems)
    if count:
        raise WorkFailed(f"{counted(count, 'difference')}; see above")


@click.group()
def bench() -> None:
    """Benchmark retrieval between images and captions, and the value of synthetic tiles.

    \b
    Examples: figures of embeddings computed anywhere:
      aras bench embeddings --images X.npy --texts Y.npy --owner O.npy
    A model on a release:
      aras bench retrieval release/0.1.0 --model tfidf --proxy composition
    Results beside each other:
      aras bench compare A.json B.json
      aras bench leaderboard results/*.json
    Results of mteb on a release, and results for the Hub:
      aras bench import-results MTEB_RESULTS --release release/0.1.0
      aras bench export-results MINE.json --release release/0.1.0 --dataset OWNER/NAME
    The project's question, with all its controls:
      aras bench imbalance release/0.1.0 --stream full --small
    What synthetic tiles do for a segmenter:
      aras bench augmentation release/0.1.0
    """


bench.add_command(augmentation)
bench.add_command(imbalance)
bench.add_command(compare)
bench.add_command(leaderboard)
bench.add_command(import_results)
bench.add_command(export_results)


@bench.command()
@click.option("--images", required=True, multiple=True, metavar="FILE", help="Vectors of images.")
@click.option("--texts", required=True, multiple=True, metavar="FILE", help="Vectors of texts.")
@click.option("--owner", required=True, multiple=True, metavar="FILE", help="Image of each text.")
@click.option("--intervals", is_flag=True, help="Add 95 % bootstrap intervals over images.")
@click.option("--device", default="cpu", metavar="NAME", help="cpu (default), cuda, cuda:1.")
@json_option
@click.pass_obj
def embeddings(
    directory: Path | None,
    images: tuple[str, ...],
    texts: tuple[str, ...],
    owner: tuple[str, ...],
    intervals: bool,
    device: str,
    as_json: bool,
) -> None:
    """Recall@1/5/10, median rank and mean recall of embeddings from files.

    IMAGES and TEXTS are .npy matrices with one vector per row, float16, float32 or float64, and
    OWNER a .npy of integers: the row in IMAGES of each text. Or all three are Parquet: IMAGES
    and TEXTS with the columns id and vector, OWNER with id (of a text) and owner (id of its
    image); a file of a release's config embeddings is all three at once. Where Parquet is in
    several files, repeat the options. Vectors are compared by cosine; rows that are not of unit
    length are normalised, and stderr says so.

    The protocol is the strict protocol of the retrieval literature: a text has one right image,
    any text of an image is right. All figures are exact and in per cent, MedR is 1-based.
    Scores within 1e-6 are ties and earn the expected credit of a random order; where ties
    matter, "optimistic" and "pessimistic" bound the figures. Float32 .npy files of unit rows are
    read in place, so memory stays within the files' size and half a gigabyte.

    \b
    Example:
      aras bench embeddings --images img.npy --texts txt.npy --owner owner.npy --json
      {"t2i": {"R@1": …, "R@5": …, "R@10": …, "MedR": …}, "i2t": {…}, "mR": …}

    Exit codes: 0 done; 2 an input was refused, and the message names the row.
    """
    # Read when numpy loads: threads of its products and the threads of `plain` would wait for
    # each other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from builder.core.progress import bar
    from builder.retrieval.metrics import summary
    from builder.retrieval.plain import check_device, rank
    from builder.retrieval.ranks import Positives
    from builder.retrieval.vector_files import check_pair, load, load_owner

    check_device(device)
    root = directory or Path()
    pictures, captions = (
        load([root / name for name in names], part)
        for names, part in ((images, "images"), (texts, "texts"))
    )
    check_pair(pictures, captions)
    image_of = load_owner([root / name for name in owner], pictures, captions)
    for note in (pictures.note, captions.note):
        if note:
            echo(note, err=True)
    with bar("ranks", total=len(captions), unit="texts") as advance:
        ranks = rank(pictures.vectors, captions.vectors, Positives.owned(image_of), device, advance)
    scores = summary(*ranks)
    if intervals:
        from builder.retrieval.intervals import spans

        if (around := spans(ranks, image_of)) is None:
            echo("no intervals: fewer than 5 images show nothing of their spread", err=True)
        else:
            scores = scores.plus(intervals=around)
    echo(json.dumps(scores.as_json()) if as_json else _table(scores))


class _Retrieval(click.Command):
    """Its help lists the baselines, which are imported for it alone."""

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from builder.retrieval.baselines import listing

        lines = [f"  {spec:<16} {description}" for spec, description in listing()]
        written = self.help
        self.help = cleandoc(str(written)).replace("  BASELINES", "\n".join(lines))
        try:
            super().format_help(ctx, formatter)
        finally:
            self.help = written  # so that the next call lists them anew


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Baselines whose names begin so, for completion in a shell."""
    from builder.retrieval.baselines import BASELINES

    return [name for name in BASELINES if name.startswith(incomplete)]


@bench.command(cls=_Retrieval)
@click.argument("release", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Captions of others, instead of RELEASE.",
)
@click.option(
    "--model", "spec", required=True, metavar="MODEL", help="See above.", shell_complete=_complete
)
@click.option(
    "--stream", "streams", multiple=True, metavar="NAME", help="Repeatable; default: all."
)
@click.option("--split", default="test", show_default=True, help="Split to score.")
@click.option("--proxy", metavar="STREAM", help="Caption stream to search instead of the images.")
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    metavar="FILE|DIR",
    help="Vectors of the images, for --model files; with --data the folder of pictures.",
)
@click.option("--texts", type=_FILE, help="Vectors of the captions, for --model files.")
@click.option(
    "--text", multiple=True, metavar="COLUMN", help="Caption column of --data; repeatable."
)
@near_options
@click.option(
    "--synthetic",
    type=RULE,
    default="refuse",
    show_default=True,
    help="What to do with synthetic rows.",
)
@click.option("--name", default="", help="What the leaderboard calls the model; default: MODEL.")
@click.option("--author", default="", help="Who made the model.")
@click.option("--link", default="", metavar="URL", help="Where model, paper or code is.")
@click.option(
    "--training",
    default="",
    metavar="TEXT",
    help="zero-shot, or what the model was trained or fine-tuned on.",
)
@click.option(
    "--out",
    type=_FILE,
    help="Result; default reports/retrieval-RELEASE-VERSION-NAME-…-seedN-DATE.json.",
)
@click.option(
    "--vectors", type=click.Path(path_type=Path), help="Write the vectors to this folder."
)
@click.option(
    "--controls",
    is_flag=True,
    help="Score the control captions of RELEASE too: shuffled, without class words …",
)
@click.option("--cache", type=click.Path(path_type=Path), help="Default work/.cache/embeddings.")
@click.option(
    "--batch",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help="Pictures or texts embedded at once.",
)
@click.option(
    "--seed", default=0, show_default=True, help="Seed of the random baseline and the samples."
)
@click.option("--device", default="cpu", show_default=True, metavar="NAME", help="cpu, cuda, mps …")
@json_option
@click.pass_context
def retrieval(
    context: click.Context,
    release: Path | None,
    data: Path | None,
    spec: str,
    streams: tuple[str, ...],
    split: str,
    proxy: str | None,
    images: Path | None,
    texts: Path | None,
    text: tuple[str, ...],
    min_km: float,
    near: str,
    synthetic: str,
    name: str,
    author: str,
    link: str,
    training: str,
    out: Path | None,
    vectors: Path | None,
    controls: bool,
    cache: Path | None,
    batch: int,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Score a model on the test tiles of RELEASE, by caption stream, or on --data of others.

    MODEL is one of

    \b
      BASELINES
      embeddings       the vectors that RELEASE itself holds, in its config embeddings
      files            vectors in --images and --texts: Parquet of id and vector, a text's id
                       being ROW#STREAM; or .npy in the order of the release
      package:function a function that returns (images → vectors, texts → vectors)
      NAME             a transformers CLIP or SigLIP, by folder or Hub name;
                       remoteclip-vit-b-32 and georsclip-vit-b-32 too
      openclip:FILE    OpenCLIP weights (.pt) of a ViT; FILE:quick_gelu where they need it

    Only real rows at least --min-km from all train tiles are scored. A split that holds other
    rows is refused, unless --near or --synthetic say leave-out or keep; the result says which.

    --data FILE scores other people's data by the same rules: Karpathy's or COCO's JSON, a table, a
    `datasets` folder or WebDataset shards, any number of captions an image; images without one are
    distractors. --images DIR holds the pictures where FILE does not. Without pictures bm25, tfidf
    and sentence:NAME search the first caption of each image by the others.

    Writes a result file with everything needed to repeat it, and the ranks beside it for `aras
    bench compare`; prints a short table, the .html beside it has everything with a plot. A result
    is a record: no file is overwritten. --name, --author, --link and --training go into it and
    onto the leaderboard.
    --vectors writes images.parquet and texts.parquet: put them beside the result and `aras bench
    leaderboard --check` can re-score it. --controls gives the model other words in place of the
    captions of its config controls; a model that reads the words scores worse on them.

    \b
    Examples:
      aras bench retrieval release/0.1.0 --model bm25 --proxy composition
      aras bench retrieval release/0.1.0 --model openai/clip-vit-base-patch32 --device cuda
      aras bench retrieval --data dataset_rsicd.json --images RSICD_images --model path/to/my-clip

    Exit codes: 0 done; 2 an input was refused, and the message names it.
    """
    from builder.core.progress import bar
    from builder.retrieval import benchmark, entries, gallery, others, report
    from builder.retrieval.protocol import Settings
    from builder.retrieval.ranks import check_device

    check_device(device)
    root = context.obj or Path()
    if release is not None and data is not None:
        raise click.UsageError("give either RELEASE or --data FILE")
    if text and data is None:
        raise click.UsageError("--text names a column of --data; streams are named by --stream")
    names = ("images.parquet", "texts.parquet") if vectors else ()
    entries.refuse_existing([root / (vectors or "") / file for file in names])
    entries.refuse_existing([root / out] if out else [])
    if data is None:
        release = of_recipe(context, context.command.params[0], release)
    model = benchmark.Model(
        under(root, spec), proxy, root / images if images else None, root / texts if texts else None
    )
    rows: gallery.Gallery
    if data is not None:
        shown = model.images if model.images and model.images.is_dir() else None
        rows = others.load(root / data, shown, split, text=text, text_only=model.is_proxy)
        streams = (others.STREAM,)
        if model.is_proxy:
            model = replace(model, proxy=others.FIRST)
    elif release is not None:
        rows = gallery.load(root / release, split, min_km=min_km, near=near, synthetic=synthetic)
    settings = Settings(
        seed=seed,
        batch=batch,
        device=device,
        cache=root / (cache or "work/.cache/embeddings"),
    )
    with bar("embed", None, "items") as advance:
        run = benchmark.run(rows, model, streams, settings, advance, controls)
    if isinstance(rows, others.OthersGallery):
        result = run.result.plus(notes=(*run.result.notes, *others.notes(rows)))
        run = replace(run, result=result)
    result = run.result.plus(entry=entries.entry_of(run.result, name, author, link, training))
    run = replace(run, result=result)
    path = root / out if out else entries.free(root / entries.default_path(result, streams))
    result = benchmark.write(run, path, root / vectors if vectors else None)
    report.write(result, path)
    say(f"wrote {path}, and .html and .png beside it")
    if as_json:
        print_json(result.as_json())
    else:
        echo(report.terminal(result, path.with_suffix(".html")))
        progress.note(
            f"next: the same for another model, then `aras bench compare {path} OTHER.json` says "
            "which differences are more than chance, `aras bench leaderboard` puts them in a table"
        )


def under(root: Path, spec: str) -> str:
    """A model's spec; a path in it becomes the path of a folder under ``root``."""
    kind, colon, name = spec.rpartition(":")
    here = "/" in name and (root / name).exists()
    return f"{kind}{colon}{root / name}" if here else spec


def _table(scores: "Scores") -> str:
    """The figures as columns, with intervals, and with the bounds where ties matter."""
    columns = ("R@1", "R@5", "R@10", "MedR")
    lines = [" " * 12 + "".join(f"{name:>10}" for name in columns)]
    for ties, part in (
        ("expected", scores),
        ("optimistic", scores.optimistic),
        ("pessimistic", scores.pessimistic),
    ):
        if part is None:
            continue
        if ties != "expected":
            lines += ["", f"ties {ties}"]
        spans = part.intervals
        for name, recalls, intervals in (
            ("text→image", part.t2i, spans and spans.t2i),
            ("image→text", part.i2t, spans and spans.i2t),
        ):
            lines.append(f"{name:<12}" + "".join(f"{recalls[key]:10.2f}" for key in columns))
            lines += [_interval(key, span) for key, span in (intervals or {}).items()]
        lines.append(f"{'mR':<12}{part.mR:10.2f}")
        if spans:
            lines.append(_interval("mR", spans.mR))
    return "\n".join(lines)


def _interval(name: str, span: list[float]) -> str:
    return f"  {name:<8}95 %: {span[0]:.2f} … {span[1]:.2f}"
