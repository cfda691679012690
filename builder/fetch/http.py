"""What every request of fetching shares: the session, which addresses are safe, error words."""

import ipaddress
import re
import urllib.parse

import requests
from requests.adapters import HTTPAdapter

from builder import __version__
from builder.errors import ArasError

TIMEOUT = (10.0, 60.0)
"""Seconds to connect, and to wait for the next bytes."""


def new_session(jobs: int = 1) -> requests.Session:
    """A session for ``jobs`` threads; proxies, netrc and CA bundles come from the environment."""
    session = requests.Session()
    # Range and Content-Length count bytes as stored, so the body must not be compressed.
    session.headers.update({"User-Agent": f"aras/{__version__}", "Accept-Encoding": "identity"})
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=jobs))
    return session


def secure(url: str) -> str:
    """``url`` without a trailing slash; ArasError unless it is https, or http on loopback."""
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or ""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and loopback)):
        raise ArasError(
            f"{url!r} is not a place to fetch from: give an https:// address "
            f"(plain http is for this machine only)"
        )
    return url.rstrip("/")


def unreachable(url: str, error: BaseException) -> ArasError:
    """What to say when no server answers at ``url``: the cause and the ways out."""
    return ArasError(
        f"cannot reach {url}: {reason(error)}; check the network, the proxy settings (HTTPS_PROXY) "
        "and --base-url"
    )


def reason(error: BaseException) -> str:
    """A network or file error in a few words: the status, or the innermost cause."""
    response = getattr(error, "response", None)
    if isinstance(response, requests.Response):
        return f"the server answers {response.status_code} {response.reason}".rstrip()
    for _ in range(10):
        inner = getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((arg for arg in error.args if isinstance(arg, BaseException)), None)
        if inner is None:
            break
        error = inner
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    # urllib3 puts its connection object in front of the words that matter.
    return re.sub(r"^<?[\w.]+\(.*?\)>?: ", "", str(text))
