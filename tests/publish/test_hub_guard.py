"""Texts and logs that carry no secret."""

import io
import logging

import pytest

from builder.publish import hub_client


@pytest.mark.parametrize(
    "text",
    [
        "Invalid token hf_abcdefGHIJK0123",
        "Authorization: Bearer abcdefGHIJK0123",
        "PUT https://s3/x?X-Amz-Credential=abcdefGHIJK0123&part=1",
        "PUT https://s3/x?X-Amz-Signature=abcdefGHIJK0123",
        "GET https://hub/x?token=abcdefGHIJK0123&y=1",
        "the token is s3lf-hosted abcdefGHIJK0123",
    ],
)
def test_secrets_are_cut_out_of_any_text(text):
    clean = hub_client.redact(text, token="s3lf-hosted abcdefGHIJK0123")
    assert "abcdefGHIJK0123" not in clean
    assert "[redacted]" in clean


def test_what_is_no_secret_stays():
    text = "HTTP 404: https://hub/datasets/org/hf_a/resolve/main/x.parquet?download=true"
    assert hub_client.redact(text, "hf_token0123") == text


def test_the_clients_log_is_cut_while_publishing():
    shown = io.StringIO()
    handler = logging.StreamHandler(shown)
    root = logging.getLogger("huggingface_hub")
    root.addHandler(handler)
    log = logging.getLogger("huggingface_hub.utils._http")
    try:
        with hub_client.redacted_logs("self-hosted-secret"):
            log.warning("HTTP Error %s for %s", 503, "https://s3/x?X-Amz-Signature=abcdef0123")
            log.warning("token self-hosted-secret")
        assert handler.filters == []
    finally:
        root.removeHandler(handler)
    assert "HTTP Error 503 for https://s3/x?X-Amz-Signature=[redacted]" in shown.getvalue()
    assert "secret" not in shown.getvalue()
