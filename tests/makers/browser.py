"""Opens a page in headless Chromium as a phone would show it, and tells what is wrong with it."""

import contextlib
import functools
import html
import http.server
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PHONE = (360, 780)
"""CSS pixels of a phone's screen."""

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# Chromium makes no window narrower than 500 pixels, so the page is put into a frame.
PROBE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">
<body style="margin:0"><pre id="found"></pre>
<iframe id="page" src="%s" width="%d" height="%d" style="border:0"></iframe>
<script>
document.getElementById("page").addEventListener("load", (event) => {
  const page = event.target.contentDocument, root = page.documentElement;
  const images = [...page.images];
  document.getElementById("found").textContent = JSON.stringify({
    width: root.clientWidth,
    scroll_width: root.scrollWidth,
    height: root.scrollHeight,
    images: images.length,
    broken: images.filter((one) => !one.complete || !one.naturalWidth).map((one) => one.alt),
    text: page.body.innerText,
  });
});
</script>"""


def browser() -> str | None:
    """The Chromium of this machine; None where there is none."""
    return next((program for name in NAMES if (program := shutil.which(name))), None)


def look(page: Path, folder: Path) -> dict[str, Any]:
    """What a phone sees of an HTML file: widths, images, text, and ``console``, its errors."""
    shutil.copy(page, folder / "page.html")
    (folder / "probe.html").write_text(PROBE % ("page.html", *PHONE), encoding="utf-8")
    with _served(folder) as address:
        command = [
            *(str(browser()), "--headless", "--no-sandbox", "--disable-gpu"),
            *("--disable-dev-shm-usage", "--enable-logging=stderr", "--virtual-time-budget=20000"),
            *(f"--user-data-dir={folder / 'profile'}", "--window-size=600,1000", "--dump-dom"),
            f"{address}/probe.html",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    answer = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert answer, done.stderr[-2000:]
    values: dict[str, Any] = json.loads(html.unescape(answer.group(1)))
    return values | {"console": re.findall(r'CONSOLE.*?\] "(.*?)", source', done.stderr, re.DOTALL)}


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
