"""Addresses that carry a token safely."""

import pytest

from builder.core.errors import ArasError
from builder.core.web import checked_address


@pytest.mark.parametrize(
    "endpoint",
    ["https://huggingface.co", "http://127.0.0.1:80/", "http://[::1]:9", "http://localhost"],
)
def test_https_anywhere_and_http_on_this_machine_are_fine(endpoint):
    assert checked_address(endpoint, "--endpoint") == endpoint.rstrip("/")


def test_a_password_in_the_address_is_refused_and_not_repeated():
    with pytest.raises(ArasError) as caught:
        checked_address("https://me:secret@hub.example.org", "--endpoint")
    assert "secret" not in str(caught.value)


def test_a_secret_in_the_query_is_refused_and_not_repeated():
    with pytest.raises(ArasError, match=r"--url hub\.example\.org: give") as caught:
        checked_address("https://hub.example.org/?token=secret", "--url")
    assert "secret" not in str(caught.value)
