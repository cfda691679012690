"""Sentinel-2 L2A scenes of a box and a time, found through a STAC API: which bands to fetch, and
what their values mean.

It uses the Item Search of STAC API 1.0 with the Query extension, over plain requests, and reads the
fields of STAC's extensions eo, raster, grid and sentinel-2, as the two preset services write them.
"""

import datetime
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

import requests

from builder.core.errors import ArasError
from builder.core.files import parse_json, write_text
from builder.core.web import TIMEOUT, reason, retrying, secure, status_of, unreachable
from builder.fetch.catalogue import cells
from builder.fetch.download import Raster, Remote

FOLDER = "scenes"
PAGES = 200
"""Answers of a search that are read at most, of up to 100 items each."""
BANDS = {"B04": ("red", "B04"), "B03": ("green", "B03"), "B02": ("blue", "B02")}
"""Band → names of its asset: Earth Search has words, Planetary Computer numbers."""


@dataclass(frozen=True)
class Service:
    """A STAC API; ``tokens`` is where it signs addresses, empty where files are open to all."""

    api: str
    collection: str
    tokens: str = ""


SERVICES = {
    "earth-search": Service("https://earth-search.aws.element84.com/v1", "sentinel-2-c1-l2a"),
    "planetary-computer": Service(
        "https://planetarycomputer.microsoft.com/api/stac/v1",
        "sentinel-2-l2a",
        "https://planetarycomputer.microsoft.com/api/sas/v1/token",
    ),
}


@dataclass(frozen=True)
class Scene:
    """An item: its granule (MGRS tile), share of clouds in percent, and its bands' addresses.

    Reflectance is ``value * scale + offset``, or None where the item does not say it; ``why`` says
    by which of its fields.
    """

    id: str
    granule: str
    time: str
    cloud: float
    assets: dict[str, str]
    scale: float | None
    offset: float | None
    why: str

    def __str__(self) -> str:
        meaning = "no word on its offset: set offset in [tiles]"
        if self.scale is not None:
            meaning = f"reflectance = value × {self.scale:g} + {self.offset:g} by {self.why}"
        return f"{self.granule}: {self.id}, {self.time[:10]}, {self.cloud:.1f} % clouds; {meaning}"

    def sidecar(self) -> str:
        """GDAL's .aux.xml of a band: when it was taken, its scale, offset and no-data value."""
        taken = escape(self.time)
        band = ""
        if self.scale is not None:
            band = (
                '<PAMRasterBand band="1"><NoDataValue>0</NoDataValue>'
                f"<Offset>{self.offset:g}</Offset><Scale>{self.scale:g}</Scale></PAMRasterBand>"
            )
        return (
            f'<PAMDataset><Metadata><MDI key="ACQUISITION_DATETIME">{taken}</MDI></Metadata>'
            f"{band}</PAMDataset>\n"
        )

    def remotes(self, signature: str) -> list[Remote]:
        raster = Raster(None, 1, "uint16")
        return [
            Remote(f"{FOLDER}/{self.id}_{band}.tif", url, raster=raster, signature=signature)
            for band, url in self.assets.items()
        ]


@dataclass(frozen=True)
class Search:
    """What is looked for, and how the service is asked; ``api`` replaces that of the service."""

    service: Service
    box: tuple[float, float, float, float]
    first: datetime.date
    last: datetime.date
    max_cloud: float
    collection: str = ""
    api: str = ""
    backoff: float = 0.5
    on_retry: Callable[[BaseException, float], None] | None = None

    def scenes(self, session: requests.Session) -> list[Scene]:
        """The least cloudy scene of every granule, by granule; of equal ones the latest.

        Raises ArasError for a box or time that is none, a service that does not answer as one, and
        when nothing is there.
        """
        cells(self.box, 1)
        if self.first > self.last:
            raise ArasError(f"the time {self.first}/{self.last} is reversed: expected FIRST/LAST")
        best: dict[str, Scene] = {}
        seen = 0
        for item in self._items(session):
            seen += 1
            scene = read_item(item)
            if scene.cloud > self.max_cloud:
                continue
            other = best.get(scene.granule)
            if other is None or _rank(scene) < _rank(other):
                best[scene.granule] = scene
        if not best:
            raise ArasError(
                f"{self._api}: no scene of {self._collection} with at most {self.max_cloud:g} % "
                f"clouds among {seen} in the box from {self.first} to {self.last}; allow more "
                "clouds (--max-cloud), or a longer time (--time)"
            )
        return [best[granule] for granule in sorted(best)]

    def signature(self, session: requests.Session) -> str:
        """What has to be added to addresses of files; empty where files are open to all."""
        if not self.service.tokens:
            return ""
        tokens = f"{secure(self.api)}/token" if self.api else self.service.tokens
        answer = self._ask(session, "GET", f"{tokens}/{self._collection}", None)
        token = answer.get("token")
        if not isinstance(token, str) or not token:
            raise ArasError(f"{tokens} gives no token; try again later, or use earth-search")
        return token

    @property
    def _api(self) -> str:
        return secure(self.api or self.service.api)

    @property
    def _collection(self) -> str:
        return self.collection or self.service.collection

    def _items(self, session: requests.Session) -> Iterator[dict[str, Any]]:
        method, url = "POST", f"{self._api}/search"
        body: dict[str, Any] | None = {
            "collections": [self._collection],
            "bbox": list(self.box),
            "datetime": f"{self.first}T00:00:00Z/{self.last}T23:59:59Z",
            "query": {"eo:cloud_cover": {"lte": self.max_cloud}},
            "limit": 100,
        }
        for _ in range(PAGES):
            answer = self._ask(session, method, url, body)
            items = answer.get("features")
            if not isinstance(items, list):
                raise ArasError(f"{url} answers without features: it is not a STAC API")
            yield from items
            following = next(
                (link for link in answer.get("links") or () if link.get("rel") == "next"), None
            )
            if following is None or not items:
                return
            method, url = str(following.get("method", "GET")).upper(), secure(following["href"])
            if urlsplit(url).hostname != urlsplit(self._api).hostname:
                raise ArasError(f"{self._api} leads to another host for its next page: {url}")
            more = following.get("body")
            if method != "POST":
                body = None
            elif isinstance(more, dict):
                body = {**(body or {}), **more} if following.get("merge") else more
        raise ArasError(
            f"{self._api}: more than {PAGES} pages of scenes; ask for a smaller box or time"
        )

    def _ask(
        self, session: requests.Session, method: str, url: str, body: dict[str, Any] | None
    ) -> dict[str, Any]:
        def ask() -> requests.Response:
            answer = session.request(method, url, json=body, timeout=TIMEOUT)
            answer.raise_for_status()
            return answer

        try:
            answer = retrying(ask, base=self.backoff, on_retry=self.on_retry)
        except requests.RequestException as error:
            if status_of(error) is None:
                raise unreachable(url, error) from error
            raise ArasError(f"cannot search {url}: {reason(error)}; try again later") from error
        secure(answer.url)
        try:
            values = parse_json(answer.content)
        except ValueError as error:
            raise ArasError(f"{url} answers with something that is not JSON") from error
        if not isinstance(values, dict):
            raise ArasError(f"{url} answers with a JSON {type(values).__name__}, not an object")
        return values


def _rank(scene: Scene) -> tuple[float, tuple[int, ...], str]:
    return scene.cloud, tuple(-ord(letter) for letter in scene.time), scene.id


def read_item(item: Any) -> Scene:
    """An item of a STAC API. Raises ArasError naming the item and what it lacks."""
    try:
        name, values, assets = str(item["id"]), item["properties"], item["assets"]
        time, cloud = str(values["datetime"]), float(values.get("eo:cloud_cover", 100))
        bands = {band: assets[_first(keys, assets)] for band, keys in BANDS.items()}
        addresses = {band: str(asset["href"]) for band, asset in bands.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        shown = item.get("id") if isinstance(item, dict) else item
        raise ArasError(
            f"item {shown!r}: lacks {error}; name a collection of Sentinel-2 L2A as COGs "
            "(--collection)"
        ) from error
    if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        raise ArasError(f"item {name!r}: its id is not a plain name; it is refused")
    for url in addresses.values():
        if not urlsplit(url).path.lower().endswith((".tif", ".tiff")):
            raise ArasError(
                f"item {name}: {url} is not a GeoTIFF; name a collection of COGs (--collection)"
            )
        secure(url)
    code = str(values.get("grid:code") or values.get("s2:mgrs_tile") or name)
    granule = re.search(r"(?<![0-9])(\d{1,2}[A-Z]{3})(?![A-Z0-9])", code)
    scale, offset, why = _meaning(values, list(bands.values()))
    return Scene(
        *(name, granule[1] if granule else code, time, cloud, addresses),
        *(scale, offset, why),
    )


def _first(names: Sequence[str], there: Any) -> str:
    """The first of some names that is there; else the first, which then is not found."""
    return next((name for name in names if name in there), names[0])


def _meaning(values: Any, assets: Sequence[Any]) -> tuple[float | None, float | None, str]:
    """Scale and offset of an item's samples, and by which of its fields.

    Items of Earth Search name an offset of −0.1 also where it is applied already, and where the
    baseline has none: the flag and the baseline count before it.
    """
    baseline = str(values.get("s2:processing_baseline") or values.get("processing:version") or "")
    old = re.fullmatch(r"\d\d\.\d\d", baseline) is not None and baseline < "04.00"
    if old:
        return 1e-4, 0.0, f"processing baseline {baseline}"
    if values.get("earthsearch:boa_offset_applied") is True:
        return 1e-4, 0.0, "earthsearch:boa_offset_applied"
    said = {(_number(asset, "scale"), _number(asset, "offset")) for asset in assets}
    if len(said) == 1:
        ((scale, offset),) = said
        if scale is not None and offset is not None and scale > 0:
            return scale, offset, "raster:bands"
    if re.fullmatch(r"\d\d\.\d\d", baseline):
        return 1e-4, -0.1, f"processing baseline {baseline}"
    return None, None, "nothing"


def _number(asset: Any, name: str) -> float | None:
    """A value of the raster extension, of version 1 or 2."""
    bands = asset.get("raster:bands") or asset.get("bands") or [{}]
    for value in (bands[0].get(name), bands[0].get(f"raster:{name}"), asset.get(f"raster:{name}")):
        if isinstance(value, (int, float)):
            return float(value)
    return None


def write_sidecars(scenes: Sequence[Scene], to: Path) -> None:
    """Write beside each band that was fetched when it was taken, and what its values mean where the
    item says it."""
    for scene in scenes:
        for remote in scene.remotes(""):
            path = to / remote.name
            if path.exists():
                write_text(path.with_name(f"{path.name}.aux.xml"), scene.sidecar())
