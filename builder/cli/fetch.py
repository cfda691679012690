"""``aras fetch``: bring in the official zips, or the WorldCover inputs of a bounding box."""

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from builder.cli.common import echo
from builder.core.errors import ArasError, WorkFailed

if TYPE_CHECKING:
    from builder.fetch.download import Remote
    from builder.fetch.folder import Plan
    from builder.fetch.stac import Search

_SHARED = (
    click.option(
        "--base-url",
        metavar="URL",
        help="Fetch from this mirror, which has the same paths (https; http only on loopback).",
    ),
    click.option("--dry-run", is_flag=True, help="List files and sizes; write nothing."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout."),
)


def _shared(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_SHARED):
        command = option(command)
    return command


def _jobs(default: int) -> Callable[..., Any]:
    return click.option(
        "--jobs",
        type=click.IntRange(1, 16),
        default=default,
        show_default=True,
        help="Files fetched at the same time.",
    )


@click.group()
def fetch() -> None:
    """Fetch the official release or the inputs of a new release.

    Files are fetched in parallel, verified, and only then put under their names: a file under its
    name is whole. Whatever breaks (the network, the server, Ctrl-C, a kill), run the same command
    again to continue: it requests only the missing bytes. Verified files are not fetched again.

    Proxies are taken from the environment (HTTPS_PROXY, NO_PROXY), as are CA bundles
    (REQUESTS_CA_BUNDLE).

    \b
    Examples:
      aras fetch inputs --bbox 28 36 29 37 --dry-run
      aras fetch official --dry-run

    \b
    Exit codes: 0 done; 1 some files failed (named on stderr); 2 bad arguments, an unknown
    record, an unreachable server or a folder that cannot be written; 130 interrupted.
    """


@fetch.command()
@click.option(
    "--record",
    default="18890661",
    show_default=True,
    metavar="N",
    help="Zenodo record number or DOI; 18890661 is ARAS400k.",
)
@click.option(
    "--only", multiple=True, metavar="NAME", help="Fetch this file of the record; repeatable."
)
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    default="official",
    show_default=True,
    metavar="DIR",
    help="Where the files go.",
)
@_jobs(2)
@_shared
@click.pass_obj
def official(
    directory: Path | None,
    record: str,
    only: tuple[str, ...],
    to: Path,
    jobs: int,
    base_url: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Fetch the files of a Zenodo record, by default the official ARAS400k zips.

    Each file is checked against the md5 that the record gives; for ARAS400k the record's own
    sums are first compared with the published sums.

    \b
    Examples:
      aras fetch official --dry-run
      aras fetch official --only test.zip --only val.zip
      aras fetch official --to /data/aras400k
    """
    from builder.core.progress import say
    from builder.core.web import in_words, new_session, reason
    from builder.fetch.catalogue import ZENODO
    from builder.fetch.catalogue import official as files_of

    def report(error: BaseException, wait: float) -> None:
        say(f"record {record}: {reason(error)}; again {in_words(wait)}")

    remotes = files_of(
        new_session(), record, only=only, base_url=base_url or ZENODO, on_retry=report
    )
    _run(remotes, (directory or Path()) / to, jobs, dry_run, as_json)


@fetch.command()
@click.option(
    "--bbox",
    nargs=4,
    type=float,
    metavar="W S E N",
    help="Bounding box in degrees: west south east north.",
)
@click.option(
    "--preset",
    type=click.Choice(["turkiye"]),
    help="A named bounding box; turkiye is that of ARAS400k (28 map cells, 160 composite cells).",
)
@click.option("--maps", is_flag=True, help="Only the land-cover maps (3° cells).")
@click.option("--composites", is_flag=True, help="Only the Sentinel-2 RGBNIR composites (1°).")
@click.option(
    "--scenes",
    type=click.Choice(["earth-search", "planetary-computer"]),
    help="Fetch Sentinel-2 L2A scenes through this STAC API in place of composites.",
)
@click.option("--time", metavar="FIRST/LAST", help="Days of the scenes: 2023-06-01/2023-08-31.")
@click.option(
    "--max-cloud",
    type=click.FloatRange(0, 100),
    default=20,
    show_default=True,
    help="Percent of a scene that clouds may cover.",
)
@click.option("--collection", default="", metavar="NAME", help="Another collection of the API.")
@click.option(
    "--year",
    type=click.Choice(["2020", "2021"]),
    default="2021",
    show_default=True,
    help="2021 is WorldCover v200, 2020 is v100.",
)
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    default="inputs",
    show_default=True,
    metavar="DIR",
    help="Where maps/, composites/ and scenes/ go.",
)
@_jobs(4)
@_shared
@click.pass_obj
def inputs(
    directory: Path | None,
    bbox: tuple[float, float, float, float] | None,
    preset: str | None,
    maps: bool,
    composites: bool,
    scenes: str | None,
    time: str | None,
    max_cloud: float,
    collection: str,
    year: str,
    to: Path,
    jobs: int,
    base_url: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Fetch the WorldCover maps and Sentinel-2 composites of a bounding box, or L2A scenes.

    Both come from the public ESA WorldCover buckets, without an account. A tile is checked by
    its size and by reading every block of the GeoTIFF. A cell without a file (open sea) is
    counted as absent and is not a failure.

    With --scenes and --time it brings Sentinel-2 L2A: of every granule (MGRS tile) in the box the
    least cloudy scene, its bands B04, B03 and B02 as COGs, and beside each an .aux.xml with the
    scale and offset that its item gives. --base-url is then the address of the API.

    \b
    Examples:
      aras fetch inputs --bbox 28 36 30 37 --dry-run
      aras fetch inputs --bbox -79 -1 -77 1 --maps
      aras fetch inputs --preset turkiye --jobs 8 --to /data/worldcover
      aras fetch inputs --bbox 28 36 29 37 --scenes earth-search --time 2023-06-01/2023-08-31
    """
    from builder.fetch.catalogue import PRESETS, worldcover

    if (bbox is None) == (preset is None):
        raise click.UsageError("give either --bbox W S E N or --preset turkiye")
    box = PRESETS[preset] if preset else bbox
    assert box is not None
    if scenes or time:
        if not (scenes and time) or maps or composites:
            raise click.UsageError(
                "--scenes goes with --time FIRST/LAST, and without --maps and --composites; run "
                "the command once more for the maps"
            )
        search = _search(scenes, box, time, max_cloud, collection, base_url or "")
        _fetch_scenes(search, directory or Path(), to, jobs, dry_run, as_json)
        return
    both = maps == composites
    remotes = worldcover(
        box,
        year=int(year),
        maps=maps or both,
        composites=composites or both,
        base_url=base_url,
    )
    _run(remotes, (directory or Path()) / to, jobs, dry_run, as_json)


def _search(
    name: str,
    box: tuple[float, float, float, float],
    time: str,
    max_cloud: float,
    collection: str,
    api: str,
) -> "Search":
    from builder.core.progress import console
    from builder.core.web import in_words, reason
    from builder.fetch.stac import SERVICES, Search

    def report(error: BaseException, wait: float) -> None:
        console.print(f"{name}: {reason(error)}; again {in_words(wait)}", markup=False)

    try:
        first, last = (datetime.date.fromisoformat(day) for day in time.split("/"))
    except ValueError as error:
        raise click.UsageError(
            f"--time {time}: expected two days, for example 2023-06-01/2023-08-31"
        ) from error
    return Search(SERVICES[name], box, first, last, max_cloud, collection, api=api, on_retry=report)


def _fetch_scenes(
    search: "Search", directory: Path, to: Path, jobs: int, dry_run: bool, as_json: bool
) -> None:
    from builder.core.progress import console
    from builder.core.web import new_session
    from builder.fetch.stac import FOLDER, write_sidecars

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    session = new_session(jobs)
    scenes = search.scenes(session)
    signature = search.signature(session)
    for scene in scenes:
        say(str(scene))
    remotes = [remote for scene in scenes for remote in scene.remotes(signature)]
    try:
        _run(remotes, directory / to, jobs, dry_run, as_json)
    finally:
        if not dry_run:
            write_sidecars(scenes, directory / to)
    pattern = f"{to}/{FOLDER}/*_B0[234].tif"
    say(f'in [tiles] of dataset.toml: composites = ["{pattern}"], resample = "nearest"')


def _run(remotes: "list[Remote]", to: Path, jobs: int, dry_run: bool, as_json: bool) -> None:
    from builder.core.progress import bar, say
    from builder.core.web import new_session
    from builder.fetch import folder

    session = new_session(jobs)
    if dry_run:
        try:
            plan = folder.survey(remotes, to, session, jobs=jobs, say=say)
        except ArasError as error:
            say(f"sizes are not known: {error}")
            plan = folder.survey(remotes, to, session, jobs=jobs, say=say, sizes=False)
        _list(plan, to, as_json)
        return
    try:
        with folder.locked(to):
            plan = folder.survey(remotes, to, session, jobs=jobs, say=say)
            total = None if plan.unknown else plan.bytes
            with bar("fetch", total, unit="bytes") as advance:
                outcome = folder.fetch(plan, to, session, jobs=jobs, advance=advance, say=say)
    except KeyboardInterrupt:
        echo(
            f"interrupted: {to} keeps what has arrived; run the same command to continue",
            err=True,
        )
        click.get_current_context().exit(130)
    absent = sorted(remote.name for remote in [*plan.absent, *outcome.absent])
    failed = {remote.name: why for remote, why in outcome.failed.items()}
    if as_json:
        summary = {
            "to": str(to),
            "fetched": {remote.name: size for remote, size in outcome.fetched.items()},
            "bytes": sum(outcome.fetched.values()),
            "kept": sorted(remote.name for remote in plan.kept),
            "absent": absent,
            "failed": failed,
        }
        echo(json.dumps(summary, indent=2))
    else:
        echo(
            f"{to}: {len(outcome.fetched)} fetched "
            f"({folder.megabytes(sum(outcome.fetched.values()))}), {len(plan.kept)} already there, "
            f"{len(absent)} absent on the server, {len(failed)} failed"
        )
    if failed:
        lines = "".join(f"\n  {name}: {why}" for name, why in sorted(failed.items()))
        raise WorkFailed(
            f"{len(failed)} of {len(remotes)} files could not be fetched; run the same "
            f"command to try them again:{lines}"
        )


def _list(plan: "Plan", to: Path, as_json: bool) -> None:
    from builder.fetch.folder import megabytes

    rows = [(remote, "fetch", size) for remote, size in plan.todo.items()]
    rows += [(remote, "there", remote.size) for remote in plan.kept]
    rows += [(remote, "absent", None) for remote in plan.absent]
    rows.sort(key=lambda row: row[0].name)
    if as_json:
        files = [
            {"name": remote.name, "url": remote.url, "state": state, "bytes": size}
            for remote, state, size in rows
        ]
        summary = {"to": str(to), "files": files, "bytes": plan.bytes, "unknown": plan.unknown}
        echo(json.dumps(summary, indent=2))
        return
    for remote, state, size in rows:
        echo(f"{state:<7}{'' if size is None else megabytes(size):>12}  {remote.name}")
    sizes = [megabytes(plan.bytes)] if plan.unknown < len(plan.todo) or not plan.todo else []
    sizes += [f"{plan.unknown} of unknown size"] if plan.unknown else []
    echo(
        f"{to}: {len(plan.todo)} to fetch ({', '.join(sizes)}), "
        f"{len(plan.kept)} already there, {len(plan.absent)} absent on the server"
    )
