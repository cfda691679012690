"""Addresses that may carry a token."""

import ipaddress
from urllib.parse import urlsplit

from builder.errors import ArasError


def checked_address(url: str, option: str) -> str:
    """``url`` without a trailing slash; ArasError unless https, or http to this machine.

    ``option`` names it in messages, which repeat nothing but the host where a secret may be in it.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if "@" in parts.netloc:
        raise ArasError(f"{option}: leave user and password out; the token says who you are")
    if parts.query or parts.fragment:
        raise ArasError(f"{option} {host}: give https://HOST without '?' or '#'")
    if parts.scheme not in ("http", "https") or not host:
        raise ArasError(f"{option} {url}: no web address, give https://HOST")
    if parts.scheme == "http" and not _is_loopback(host):
        raise ArasError(
            f"{option} {url}: plain http would send the token in the open; use https:// "
            "(http is for a server on this machine only)"
        )
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
