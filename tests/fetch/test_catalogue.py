"""Which files a bounding box or a Zenodo record comes to."""

import hashlib
import json
from collections.abc import Iterator

import pytest

from builder.core.errors import ArasError
from builder.core.web import new_session
from builder.fetch.catalogue import PRESETS, cell_name, cells, official, worldcover
from builder.official.names import OFFICIAL_MD5
from tests.loopback.files import Fault, FileServer, file_server


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


def put_record(server: FileServer, number: int, files: list[dict], path: str = "") -> None:
    body = json.dumps({"id": number, "files": files}).encode()
    server.put(path or f"/api/records/{number}", body, content_type="application/json")


def entry(name: str, body: bytes = b"", **changes: object) -> dict:
    checksum = "md5:" + hashlib.md5(body).hexdigest()
    return {"key": name, "size": len(body), "checksum": checksum, **changes}


def test_turkiye_needs_28_maps_and_160_composites() -> None:
    assert len(cells(PRESETS["turkiye"], 3)) == 28
    assert len(cells(PRESETS["turkiye"], 1)) == 160


def test_map_cells_are_named_on_multiples_of_three_degrees() -> None:
    assert cells((28.2, 36.4, 30.5, 37), 3) == [(36, 27), (36, 30)]
    assert cells((-1, -1, 1, 1), 3) == [(-3, -3), (-3, 0), (0, -3), (0, 0)]


def test_a_cell_that_the_box_only_touches_is_not_needed() -> None:
    assert cells((28, 36, 30, 37), 1) == [(36, 28), (36, 29)]
    assert cells((27, 36, 30, 39), 3) == [(36, 27)]


def test_the_far_corners_of_the_earth_have_no_cell_beyond_them() -> None:
    assert cells((179, 89, 180, 90), 1) == [(89, 179)]
    assert cells((-180, -90, -179, -89), 3) == [(-90, -180)]


@pytest.mark.parametrize(
    ("corner", "name"),
    [
        ((36, 28), "N36E028"),
        ((0, -78), "N00W078"),
        ((-1, -79), "S01W079"),
        ((-33, 151), "S33E151"),
    ],
)
def test_a_cell_is_named_by_its_lower_left_corner(corner: tuple[int, int], name: str) -> None:
    assert cell_name(*corner) == name


def test_keys_follow_the_layout_of_the_two_buckets() -> None:
    urls = {remote.name: remote.url for remote in worldcover((28.5, 36.5, 28.6, 36.6))}
    assert urls == {
        "maps/ESA_WorldCover_10m_2021_v200_N36E027_Map.tif": (
            "https://esa-worldcover.s3.eu-central-1.amazonaws.com/"
            "v200/2021/map/ESA_WorldCover_10m_2021_v200_N36E027_Map.tif"
        ),
        "composites/ESA_WorldCover_10m_2021_v200_N36E028_S2RGBNIR.tif": (
            "https://esa-worldcover-s2.s3.eu-central-1.amazonaws.com/"
            "rgbnir/2021/N36/ESA_WorldCover_10m_2021_v200_N36E028_S2RGBNIR.tif"
        ),
    }


def test_2020_is_version_100_and_a_mirror_has_the_same_paths() -> None:
    (remote,) = worldcover(
        (-78, -1, -77, 0), year=2020, maps=False, base_url="https://mirror.example/wc/"
    )
    assert remote.url == (
        "https://mirror.example/wc/rgbnir/2020/S01/"
        "ESA_WorldCover_10m_2020_v100_S01W078_S2RGBNIR.tif"
    )
    assert remote.raster is not None
    assert remote.raster.bounds == (-78, -1, -77, 0)


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((30, 36, 28, 37), "reversed"),
        ((28, 37, 30, 36), "reversed"),
        ((28, 36, 28, 37), "empty"),
        ((170, -10, 190, 10), "leaves the Earth"),
        ((28, 36, 30, 97), "leaves the Earth"),
        ((float("nan"), 36, 30, 37), "not a number"),
    ],
)
def test_a_wrong_box_is_refused_with_its_values(box: tuple, words: str) -> None:
    with pytest.raises(ArasError, match=words) as caught:
        cells(box, 1)
    assert f"{box[3]:g}" in str(caught.value)


def test_a_year_without_a_map_is_refused() -> None:
    with pytest.raises(ArasError, match="2019"):
        worldcover((28, 36, 29, 37), year=2019)


def test_a_record_gives_names_sizes_and_sums(server: FileServer) -> None:
    put_record(server, 42, [entry("test.zip", b"abc"), entry("read me.txt", b"hello")])
    files = official(new_session(), "42", base_url=server.url)
    assert [(remote.name, remote.size) for remote in files] == [("test.zip", 3), ("read me.txt", 5)]
    assert files[0].md5 == hashlib.md5(b"abc").hexdigest()
    assert files[1].url == f"{server.url}/api/records/42/files/read%20me.txt/content"


def test_a_doi_names_a_record_and_only_picks_files(server: FileServer) -> None:
    put_record(server, 42, [entry("a.zip"), entry("b.zip"), entry("c.zip")])
    files = official(
        new_session(), "10.5281/zenodo.42", only=["c.zip", "a.zip", "c.zip"], base_url=server.url
    )
    assert [remote.name for remote in files] == ["c.zip", "a.zip"]


def test_a_concept_leads_to_its_latest_version(server: FileServer) -> None:
    put_record(server, 42, [entry("a.zip")])
    server.fault("/api/records/41", Fault(redirect="/api/records/42"))
    (remote,) = official(new_session(), "41", base_url=server.url)
    assert remote.url.endswith("/api/records/42/files/a.zip/content")


def test_an_unknown_record_is_named(server: FileServer) -> None:
    with pytest.raises(ArasError, match=r"no record at .*/api/records/7"):
        official(new_session(), "7", base_url=server.url)


def test_an_unknown_file_is_named_with_those_that_exist(server: FileServer) -> None:
    put_record(server, 42, [entry("b.zip"), entry("a.zip")])
    with pytest.raises(ArasError, match=r"no file x\.zip; it has a\.zip, b\.zip"):
        official(new_session(), "42", only=["x.zip"], base_url=server.url)


def test_the_official_record_must_have_the_published_sums(server: FileServer) -> None:
    good = [
        {"key": name, "size": 9, "checksum": f"md5:{md5}"} for name, md5 in OFFICIAL_MD5.items()
    ]
    put_record(server, 18890661, good)
    assert len(official(new_session(), base_url=server.url)) == 4
    put_record(server, 18890661, [*good[:3], entry("synth.zip", b"other")])
    with pytest.raises(ArasError, match=f"synth.zip.*{OFFICIAL_MD5['synth.zip']}"):
        official(new_session(), base_url=server.url)


def test_a_mirror_that_lacks_official_files_is_no_whole_release(server: FileServer) -> None:
    put_record(
        server,
        18890661,
        [{"key": "test.zip", "size": 9, "checksum": f"md5:{OFFICIAL_MD5['test.zip']}"}],
    )
    with pytest.raises(ArasError, match=r"lacks train\.zip, val\.zip, synth\.zip"):
        official(new_session(), base_url=server.url)
    (remote,) = official(new_session(), only=["test.zip"], base_url=server.url)
    assert remote.md5 == OFFICIAL_MD5["test.zip"]


@pytest.mark.parametrize("name", ["../evil", "a/b", "/etc/passwd", ".hidden", "a\\b", ""])
def test_a_name_that_leaves_the_folder_is_refused(server: FileServer, name: str) -> None:
    put_record(server, 42, [entry(name)])
    with pytest.raises(ArasError, match="refused"):
        official(new_session(), "42", base_url=server.url)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"checksum": "sha256:" + "0" * 64}, "expected an md5"),
        ({"checksum": "md5:XYZ"}, "expected an md5"),
        ({"size": "many"}, "without key, size and checksum"),
    ],
)
def test_a_listing_that_cannot_be_verified_is_refused(
    server: FileServer, change: dict, words: str
) -> None:
    put_record(server, 42, [entry("a.zip", **change)])
    with pytest.raises(ArasError, match=words):
        official(new_session(), "42", base_url=server.url)


def test_a_login_page_is_no_record(server: FileServer) -> None:
    server.put("/api/records/42", b"<html>please log in</html>", content_type="text/html")
    with pytest.raises(ArasError, match="not a Zenodo record"):
        official(new_session(), "42", base_url=server.url)


def test_a_record_without_public_files_says_so(server: FileServer) -> None:
    put_record(server, 42, [])
    with pytest.raises(ArasError, match="no public files"):
        official(new_session(), "42", base_url=server.url)


def test_a_busy_server_is_asked_again(server: FileServer) -> None:
    put_record(server, 42, [entry("a.zip")])
    server.fault("/api/records/42", Fault(status=503), Fault(status=429))
    errors: list[BaseException] = []
    official(
        new_session(),
        "42",
        base_url=server.url,
        backoff=0.01,
        on_retry=lambda error, wait: errors.append(error),
    )
    assert [asked.status for asked in server.log] == [503, 429, 200]
    assert len(errors) == 2
