"""A page of a release on loopback in headless Chromium, and a walk through it."""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from builder.explore.server import serving
from builder.explore.writer import open_page_source, write_site
from tests.makers.browser import browser

SECONDS = 30
"""How long a page may take for a step, at most."""
QUIET = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--window-size=1280,800"),
)


@dataclass
class Page:
    """A tab, and what the server of the page was asked: (path, range, bytes)."""

    driver: Any
    address: str
    asked: list[tuple[str, str | None, int]] = field(default_factory=list)

    def open(self, state: str = "", wide: int = 1280, high: int = 800) -> "Page":
        """Load the page anew in a state, and wait until it has drawn it."""
        size = {"width": wide, "height": high, "deviceScaleFactor": 1, "mobile": wide < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get("about:blank")
        self.driver.get_log("browser")  # of pages before
        self.driver.get(self.address + state)
        self.until(
            "return document.body.dataset.ready || !document.getElementById('trouble').hidden"
        )
        return self

    def js(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def until(self, script: str, *arguments: Any) -> Any:
        """What a script gives as soon as it is true."""
        from selenium.webdriver.support.ui import WebDriverWait

        wait = WebDriverWait(self.driver, SECONDS, poll_frequency=0.02)
        try:
            return wait.until(lambda driver: driver.execute_script(script, *arguments))
        except Exception as error:
            shown = self.js("return document.body.innerText")
            raise AssertionError(f"never true: {script}\n{shown[:2000]}") from error

    def click(self, selector: str, text: str = "") -> None:
        """Click the first element of a selector that shows ``text``."""
        element = self.until(
            "return [...document.querySelectorAll(arguments[0])]"
            ".find((e) => e.offsetParent && e.textContent.includes(arguments[1])) || null",
            selector, text,
        )  # fmt: skip
        element.click()

    def type(self, keys: str) -> None:
        """Press keys where the focus is."""
        self.driver.switch_to.active_element.send_keys(keys)

    def choose(self, change: str) -> None:
        """Set part of the state, as the page's controls do, and wait for the drawing."""
        self.driver.execute_async_script(
            f"const done = arguments[0]; window.aras.set({change}).then(done, done)"
        )

    @property
    def text(self) -> str:
        return str(self.js("return document.body.innerText"))

    @property
    def trouble(self) -> str:
        script = "const t = document.getElementById('trouble'); return t.hidden ? '' : t.innerText"
        return str(self.js(script))

    @property
    def errors(self) -> list[str]:
        """Errors of scripts and refusals of the policy since the last look."""
        entries = self.driver.get_log("browser")
        return [e["message"] for e in entries if "favicon" not in e["message"]]


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium with a profile of its own; tests that need it are skipped where there is none."""
    if browser() is None or shutil.which("chromedriver") is None:
        pytest.skip("no Chromium here (apt-get install chromium chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = browser()
    for option in (*QUIET, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    os.environ.setdefault("SE_OFFLINE", "true")
    tab = webdriver.Chrome(options=options, service=Service())
    tab.set_script_timeout(SECONDS)
    yield tab
    tab.quit()


@contextmanager
def page_at(driver: Any, folders: dict[str, Path]) -> Iterator[Page]:
    """The page in these folders, served until the context ends."""
    page = Page(driver, "")

    def seen(path: str, asked: str | None, sent: int) -> None:
        page.asked.append((path, asked, sent))

    with serving(folders, seen=seen) as (address, server):
        page.address = address
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield page
        server.shutdown()
        thread.join()


def walk(driver: Any, release: Path, folder: Path) -> None:
    """Write the page of a release into ``folder``; look at its grid, a tile and the map on a screen
    and on a phone: everything is drawn, nothing is cut, and no script or policy complains."""
    write_site(open_page_source(str(release)), folder, base="release/")
    with page_at(driver, {"/": folder, "/release/": release}) as page:
        for wide, high in ((1280, 800), (360, 740)):
            page.open("", wide, high)
            page.until("return document.querySelectorAll('.frame img.image.there').length >= 4")
            page.click(".tile")
            page.until(
                "return [...document.querySelectorAll('.stack img')].length == 2 &&"
                "[...document.querySelectorAll('.stack img')].every((i) => i.naturalWidth > 0)"
            )
            assert "Composition of the mask" in page.text
            page.open("#view=map", wide, high)
            page.until("return window.aras.views.map.at && true")
            assert "tiles with a place" in page.text
            assert page.js("return document.documentElement.scrollWidth") <= wide
            assert not page.errors
