"""Time the page of `aras explore` on a release of stand-in rows, in headless Chromium on loopback.

Example: python scripts/bench_explore.py --rows 400240

Packages a release of 5,120 invented rows with all columns (16-pixel pictures, 513 of them
different), repeats them in config metadata under new ids, with measures drawn at random, until
there are as many as asked for, writes its page, and opens it on a screen of 1280 × 800 and of
360 × 740:

    first view    bytes sent and seconds until every tile on the screen is drawn
    filter        milliseconds to choose anew over all rows: a brushed score, a class share and a
                  split; with the columns read before, and when they are read for it
    worst first   milliseconds to sort all rows by a score
    screen        range requests and bytes for the pictures of further screens, in the release's
                  order and sorted by a score, where no two neighbours lie together
    memory        resident memory of the tab's process after all that

`--release FOLDER` takes a release that is there, `--json` prints one object. Needs Chromium,
chromedriver and selenium.
"""

import argparse
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

MEASURES = ("realism", "mask_agreement", "sharpness", "contrast")
"""Columns that are filtered and sorted by."""
SCREENS = {"desktop": (1280, 800), "phone": (360, 740)}
QUIET = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--window-size=1280,800"),
)
DRAWN = (
    "const cells = [...document.querySelectorAll('.frame img.image')];"
    "return cells.length > 0 && cells.every((i) => i.classList.contains('there') && i.complete)"
    " && cells.length"
)
FILTERS = (
    "{n: {realism: [0.2, 0.9]}}",
    "{n: {realism: [0.2, 0.9], 'share/Tree': [10, 90]}, split: ['train']}",
)


def make_release(folder: Path, rows: int, packaged: int) -> Path:
    """A release of ``rows`` rows: the first ``packaged`` are packaged, the others repeat them in
    config metadata under new ids, each at the same picture."""
    from builder.core.files import read_json, write_json
    from builder.pipeline.stand_ins import make_project
    from builder.release.package import package

    base = min(rows, packaged)
    release = package(make_project(folder, base).inputs()).release
    manifest = read_json(release / "manifest.json")
    parts = manifest["configs"]["metadata"]
    left = rows - base
    for split, part in parts.items():
        (name,) = part["files"]
        table = _spread(pq.read_table(release / name))
        more = left if split == list(parts)[-1] else round((rows - base) * part["rows"] / base)
        left -= more
        with pq.ParquetWriter(release / name, table.schema) as writer:
            writer.write_table(table)
            for copy in range(1, 2 + more // table.num_rows):
                writer.write_table(_spread(_copied(table.slice(0, more), copy), copy))
                more -= min(more, table.num_rows)
        part["rows"] = pq.read_metadata(release / name).num_rows
        for file in manifest["files"]:
            if file["path"] == name:
                file["bytes"] = (release / name).stat().st_size
    write_json(release / "manifest.json", manifest)
    return release


def _copied(table: pa.Table, copy: int) -> pa.Table:
    """Rows under new ids, each cluster of duplicates with its own copy."""
    for name in ("id", "duplicate_cluster", "near_duplicate_cluster"):
        column = pc.binary_join_element_wise(table.column(name), f"c{copy}", "-")
        table = table.set_column(table.column_names.index(name), table.schema.field(name), column)
    return table


def _spread(table: pa.Table, seed: int = 0) -> pa.Table:
    """Rows with measures drawn at random: those of stand-ins are all equal."""
    rng = np.random.default_rng(seed)
    for name in MEASURES:
        values = pa.array(rng.beta(2, 3, table.num_rows), pa.float32())
        table = table.set_column(table.column_names.index(name), name, values)
    return table


class Tab:
    """A browser at the page, and the answers of its server: (path, range, bytes)."""

    def __init__(self, address: str, answers: list[tuple[str, str | None, int]]) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        self.address, self.answers = address, answers
        self.profile = tempfile.mkdtemp()
        options = webdriver.ChromeOptions()
        options.binary_location = str(shutil.which("chromium") or shutil.which("google-chrome"))
        for option in (*QUIET, f"--user-data-dir={self.profile}"):
            options.add_argument(option)
        self.service = Service(shutil.which("chromedriver"))
        self.driver = webdriver.Chrome(options=options, service=self.service)
        self.driver.set_script_timeout(120)

    def close(self) -> None:
        self.driver.quit()
        shutil.rmtree(self.profile, ignore_errors=True)

    def until(self, script: str) -> Any:
        start = time.monotonic()
        while time.monotonic() - start < 120:
            if value := self.driver.execute_script(script):
                return value
            time.sleep(0.005)
        raise TimeoutError(self.driver.execute_script("return document.body.innerText")[:1000])

    def timed(self, change: str) -> float:
        """Milliseconds within the page from a change of its state to the drawn result."""
        script = (
            f"const done = arguments[0], start = performance.now(); window.aras.set({change})"
            ".then(() => requestAnimationFrame(() => done(performance.now() - start)))"
        )
        return float(self.driver.execute_async_script(script))

    def memory(self) -> int:
        """Resident bytes of the largest renderer below the driver's process."""
        parents, sizes = {}, {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                status = (folder / "status").read_text()
                words = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
            pid = int(folder.name)
            parents[pid] = int(fields["PPid"])
            if b"--type=renderer" in words and "VmRSS" in fields:
                sizes[pid] = int(fields["VmRSS"].split()[0]) * 1024
        return max((n for pid, n in sizes.items() if self._below(pid, parents)), default=0)

    def _below(self, pid: int, parents: dict[int, int]) -> bool:
        while pid in parents:
            if pid == self.service.process.pid:
                return True
            pid = parents[pid]
        return False


def measure(tab: Tab, screen: tuple[int, int]) -> dict[str, Any]:
    """The figures of a screen."""
    wide, high = screen
    size = {"width": wide, "height": high, "deviceScaleFactor": 1, "mobile": wide < 500}
    tab.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    tab.driver.execute_cdp_cmd("Network.enable", {})
    tab.driver.execute_cdp_cmd("Network.setCacheDisabled", {"cacheDisabled": True})
    tab.driver.get("about:blank")
    tab.answers.clear()
    start = time.monotonic()
    tab.driver.get(f"{tab.address}#size=96")
    tiles = tab.until(DRAWN)
    result: dict[str, Any] = {
        "tiles": tiles,
        "first_view_seconds": time.monotonic() - start,
        "first_view_bytes": sum(sent for *_, sent in tab.answers),
    }
    cold = [tab.timed(change) for change in FILTERS]
    warm = []
    for _ in range(5):
        tab.timed("{n: {}, split: []}")
        warm += [tab.timed(change) for change in FILTERS]
    result |= {"filter_cold_ms": max(cold), "filter_ms": max(warm)}
    result["search_ms"] = tab.timed("{n: {}, split: [], q: 'tree water'}")
    tab.timed("{q: ''}")
    result["sort_ms"] = tab.timed("{sort: 'contrast'}")
    for name, sort in (("screen", ""), ("sorted_screen", "contrast")):
        tab.timed(f"{{sort: '{sort}', n: {{}}, split: []}}")
        tab.until(DRAWN)
        result |= {f"{name}_{key}": value for key, value in scrolled(tab).items()}
    result["memory_bytes"] = tab.memory()
    return result


def scrolled(tab: Tab, times: int = 5) -> dict[str, Any]:
    """The most that a further screen asked for."""
    most: dict[str, Any] = {"tiles": 0, "requests": 0, "bytes": 0, "seconds": 0.0}
    for _ in range(times):
        tab.answers.clear()
        start = time.monotonic()
        before = tab.driver.execute_script("return document.querySelectorAll('.cell').length")
        tab.driver.execute_script(
            "const s = document.querySelector('.scroller'); s.scrollTop += 10 * s.clientHeight"
        )
        tab.driver.execute_async_script(
            "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))"
        )
        tab.until(DRAWN)
        ranges = [sent for path, asked, sent in tab.answers if asked and "/release/" in path]
        most = {
            "tiles": max(most["tiles"], before),
            "requests": max(most["requests"], len(ranges)),
            "bytes": max(most["bytes"], sum(ranges)),
            "seconds": max(most["seconds"], time.monotonic() - start),
        }
    return most


def bench(release: Path, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    from builder.explore.server import serving
    from builder.explore.writer import open_page_source, write_site

    start, spent = time.monotonic(), time.process_time()
    site = write_site(open_page_source(str(release)), folder / "page", base="release/")
    report: dict[str, Any] = {
        "rows": site.rows,
        "page_files": site.files,
        "page_bytes": site.bytes,
        "write_seconds": time.monotonic() - start,
        "write_cpu_seconds": time.process_time() - spent,
        "release_bytes": sum(p.stat().st_size for p in release.rglob("*") if p.is_file()),
    }
    say(f"page of {site.rows:,} rows written in {report['write_seconds']:.0f} s")
    answers: list[tuple[str, str | None, int]] = []
    places = {"/": site.folder, "/release/": release}
    with serving(places, seen=lambda *answer: answers.append(answer)) as (address, server):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name, screen in SCREENS.items():
            tab = Tab(address, answers)
            try:
                report[name] = measure(tab, screen)
            finally:
                tab.close()
        server.shutdown()
    return report


def lines(report: dict[str, Any]) -> list[str]:
    out = [
        f"{report['rows']:,} rows, release {report['release_bytes'] / 1e6:,.0f} MB, page "
        f"{report['page_bytes'] / 1e6:,.1f} MB in {report['page_files']} files, written in "
        f"{report['write_seconds']:.0f} s ({report['write_cpu_seconds']:.0f} CPU s)",
        "screen   tiles  first view        filter (read for it)  sort    search   "
        "screen requests (sorted)  memory",
    ]
    for name in SCREENS:
        at = report[name]
        out.append(
            f"{name:<8} {at['tiles']:>5}  {at['first_view_bytes'] / 1e6:.2f} MB "
            f"{at['first_view_seconds']:.2f} s  {at['filter_ms']:>4.0f} ms "
            f"({at['filter_cold_ms']:.0f} ms)  {at['sort_ms']:>6.0f} ms  {at['search_ms']:.0f} ms  "
            f"{at['screen_requests']} ({at['sorted_screen_requests']} for "
            f"{at['sorted_screen_tiles']} tiles)  {at['memory_bytes'] / 1e6:.0f} MB"
        )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=400_240)
    parser.add_argument("--packaged", type=int, default=5_120, help="rows that others repeat")
    parser.add_argument("--release", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("SE_OFFLINE", "true")
    quiet = (lambda text: None) if options.json else print
    with tempfile.TemporaryDirectory() as folder:
        release = options.release or make_release(
            Path(folder) / "project", options.rows, options.packaged
        )
        report = bench(release, Path(folder), quiet)
    print(json.dumps(report) if options.json else "\n".join(lines(report)))


if __name__ == "__main__":
    main()
