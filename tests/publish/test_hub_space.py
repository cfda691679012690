"""The page of a release in a static Space."""

import gzip
import json

import pytest
import yaml

from builder.cli.release import _write_site
from builder.core.errors import ArasError
from builder.core.manifest import read_manifest
from builder.publish.hub_space import check_space, publish_space
from tests.loopback.hub import TOKEN, Hub


def test_a_space_holds_the_page_and_reads_the_dataset_at_its_tag(project, tmp_path) -> None:
    release = project.releases / "0.1.0"
    with Hub(tmp_path / "hub") as hub:
        for _ in range(2):  # the second replaces the first
            space = check_space("org/page", hub.url, TOKEN)
            manifest = read_manifest(release)
            url = publish_space(space, release, manifest, "org/name", _write_site, False)
        assert url == f"{hub.url}/spaces/org/page"
        held = {p: hub.content(f) for p, f in hub.repo("org/page", "space").files().items()}
        assert len(hub.repo("org/page", "space").history()) <= 3
    head = json.loads(held["data/explore.json"])
    assert head["base"] == f"{hub.url}/datasets/org/name/resolve/0.1.0/"
    assert head["address"] == "hf://datasets/org/name@0.1.0"
    page = held["index.html"].decode()
    policy = page.split('Content-Security-Policy" content="')[1].split('"')[0]
    assert f"connect-src &#x27;self&#x27; {hub.url}" in policy
    assert "unsafe" not in policy
    card = yaml.safe_load(held["README.md"].decode().split("---")[1])
    assert (card["sdk"], card["datasets"]) == ("static", ["org/name"])
    ids = json.loads(gzip.decompress(held["data/ids-0000.bin"]))
    assert len(ids) == head["rows"] > 50


def test_a_space_that_holds_something_else_is_not_replaced(tmp_path) -> None:
    with Hub(tmp_path / "hub") as hub:
        repo = hub.create("org/page", "space")
        files = {**repo.files(), "app.py": hub.regular(b"print()")}
        repo.add("refs/heads/main", "an app", files)
        with pytest.raises(ArasError, match=r"holds other files \(app\.py\)"):
            check_space("org/page", hub.url, TOKEN)
