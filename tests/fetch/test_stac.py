"""Scenes are found through a STAC API, the least cloudy of each granule, and say what they hold."""

import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from builder.cli import cli
from builder.core.errors import ArasError
from builder.core.web import new_session
from builder.fetch import stac
from builder.land import rasters
from tests.fetch.worldcover_tiles import tile
from tests.loopback.files import Fault, FileServer, file_server
from tests.loopback.stac import Item, StacServer, stac_server

BOX = (33.0, 36.0, 34.0, 37.0)
COLLECTIONS = {"earth-search": "sentinel-2-c1-l2a", "planetary-computer": "sentinel-2-l2a"}


@pytest.fixture
def api() -> Iterator[StacServer]:
    with stac_server() as server:
        yield server


@pytest.fixture
def files() -> Iterator[FileServer]:
    with file_server() as server:
        yield server


def item(name: str, cloud: float, day: str = "2023-06-01", **more: Any) -> Item:
    words = more.pop("words", True)
    root = more.pop("root", "https://cogs.example")
    bands = more.pop("bands", [{"scale": 1e-4, "offset": -0.1, "nodata": 0}])
    names = ("red", "green", "blue") if words else ("B04", "B03", "B02")
    assets = {key: {"href": f"{root}/{name}/{key}.tif", "raster:bands": bands} for key in names}
    properties = {
        "datetime": f"{day}T08:56:01Z",
        "eo:cloud_cover": cloud,
        "grid:code": "MGRS-36SVF",
        "s2:processing_baseline": "05.09",
        **more,
    }
    collection = COLLECTIONS["earth-search" if words else "planetary-computer"]
    return {"id": name, "collection": collection, "properties": properties, "assets": assets}


def search(api: StacServer, name: str = "earth-search", **more: Any) -> stac.Search:
    days = datetime.date(2023, 6, 1), datetime.date(2023, 8, 31)
    values = {"max_cloud": 20, "api": api.url, "backoff": 0.01, **more}
    return stac.Search(stac.SERVICES[name], BOX, *days, **values)


def test_the_least_cloudy_scene_of_each_granule_is_chosen_over_all_pages(api: StacServer) -> None:
    api.items = [
        item("a", 9.0),
        item("b", 1.5, "2023-06-11"),
        item("c", 1.5, "2023-06-21"),
        item("d", 30.0, "2023-06-26"),
        item("e", 12.0, **{"grid:code": "MGRS-36SWF"}),
        item("f", 0.0, "2023-09-01"),
    ]
    scenes = search(api).scenes(new_session())
    assert [(scene.granule, scene.id) for scene in scenes] == [("36SVF", "c"), ("36SWF", "e")]
    assert [body.get("token") for body in api.asked] == [None, "2"]
    assert api.asked[0]["bbox"] == list(BOX)
    assert api.asked[0]["datetime"] == "2023-06-01T00:00:00Z/2023-08-31T23:59:59Z"


@pytest.mark.parametrize(
    ("more", "offset", "why"),
    [
        ({}, -0.1, "raster:bands"),
        ({"earthsearch:boa_offset_applied": True}, 0.0, "earthsearch:boa_offset_applied"),
        ({"s2:processing_baseline": "03.01"}, 0.0, "processing baseline 03.01"),
        ({"bands": [], "words": False}, -0.1, "processing baseline 05.09"),
        ({"bands": [{"raster:scale": 1e-4, "raster:offset": 0}]}, 0.0, "raster:bands"),
        ({"bands": [], "s2:processing_baseline": None}, None, "nothing"),
    ],
)
def test_an_item_says_what_its_samples_mean(more: dict, offset: float | None, why: str) -> None:
    scene = stac.read_item(item("a", 1.0, **more))
    assert (scene.offset, scene.why) == (offset, why)
    assert set(scene.assets) == {"B04", "B03", "B02"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"assets": {}}, "item 'a': lacks 'red'"),
        ({"id": "../a"}, "its id is not a plain name"),
        ({"properties": {}}, "item 'a': lacks 'datetime'"),
    ],
)
def test_an_item_that_cannot_be_used_is_refused_by_name(change: dict, words: str) -> None:
    with pytest.raises(ArasError, match=words):
        stac.read_item({**item("a", 1.0), **change})


def test_jpeg_2000_and_unsafe_addresses_are_refused() -> None:
    broken = item("a", 1.0)
    broken["assets"]["red"]["href"] = "https://x.example/B04.jp2"
    with pytest.raises(ArasError, match=r"B04.jp2 is not a GeoTIFF; name a collection of COGs"):
        stac.read_item(broken)
    broken["assets"]["red"]["href"] = "s3://bucket/B04.tif"
    with pytest.raises(ArasError, match="not a safe address"):
        stac.read_item(broken)


def test_a_busy_service_is_asked_again_and_a_broken_one_is_named(api: StacServer) -> None:
    api.items, api.statuses = [item("a", 1.0)], [503, 429]
    assert len(search(api).scenes(new_session())) == 1
    api.statuses = [400]
    with pytest.raises(ArasError, match=r"cannot search .*/search: .*400"):
        search(api).scenes(new_session())
    api.answer = b"<html>"
    with pytest.raises(ArasError, match="something that is not JSON"):
        search(api).scenes(new_session())
    api.answer = b"{}"
    with pytest.raises(ArasError, match="answers without features: it is not a STAC API"):
        search(api).scenes(new_session())


def test_a_next_page_on_another_host_is_not_followed(api: StacServer) -> None:
    api.items, api.page = [item("a", 1.0), item("b", 2.0)], 1
    api.next_host = "https://elsewhere.example"
    with pytest.raises(ArasError, match="leads to another host"):
        search(api).scenes(new_session())


def test_no_scene_names_what_was_asked_and_the_way_out(api: StacServer) -> None:
    with pytest.raises(ArasError, match=r"at most 20 % clouds among 0 .*--max-cloud"):
        search(api).scenes(new_session())


@pytest.mark.parametrize("name", COLLECTIONS)
def test_the_command_fetches_bands_and_writes_beside_them_what_they_mean(
    tmp_path: Path, api: StacServer, files: FileServer, name: str
) -> None:
    words = name == "earth-search"
    api.items = [item("S2A_36SVF", 1.0, root=files.url, words=words)]
    query = "" if words else "?sig=sentinel-2-l2a"
    body = tile(36, 33, 1, 1, "uint16", "EPSG:32636")
    for asset in api.items[0]["assets"].values():
        path = asset["href"].removeprefix(files.url) + query
        files.put(path, body, etag='"1"')
        files.fault(path, Fault(drop_after=len(body) // 2))
    command = [
        *("-C", str(tmp_path), "fetch", "inputs", "--bbox", *map(str, BOX), "--scenes", name),
        *("--time", "2023-06-01/2023-08-31", "--base-url", api.url, "--json"),
    ]
    outcome = CliRunner().invoke(cli, command)
    assert outcome.exit_code == 0, outcome.output
    folder = tmp_path / "inputs/scenes"
    assert json.loads(outcome.stdout)["failed"] == {}
    for band in ("B02", "B03", "B04"):
        path = folder / f"S2A_36SVF_{band}.tif"
        assert path.read_bytes() == body
        (read,) = rasters.describe(path, ("red",), None).bands
        assert (read.scale, read.offset, read.nodata) == (1e-4, -0.1, 0)
    assert 'composites = ["inputs/scenes/*_B0[234].tif"]' in outcome.stderr
    assert any(asked.range for asked in files.log)  # the broken downloads went on


@pytest.mark.parametrize(
    "arguments", [["--scenes", "earth-search"], ["--time", "2023-06-01/2023-08-31"]]
)
def test_scenes_need_a_time(arguments: list[str]) -> None:
    command = ["fetch", "inputs", "--bbox", *map(str, BOX), *arguments]
    outcome = CliRunner().invoke(cli, command)
    assert outcome.exit_code == 2
    assert "--scenes goes with --time FIRST/LAST" in outcome.stderr
