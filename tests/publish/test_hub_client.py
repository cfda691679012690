"""How errors of the client become ours, and how long a throttled call waits."""

import io
import logging

import pytest
import requests
from huggingface_hub.errors import OfflineModeIsEnabled

from builder.core.errors import ArasError, WorkFailed
from builder.core.web import retry_after
from builder.publish import hub_client
from builder.publish.hub_client import HubRepo, status_within


def answered(status, **headers):
    response = requests.Response()
    response.status_code = status
    response.headers.update(headers)
    return requests.HTTPError("no", response=response)


def wrapped(error):
    try:
        try:
            raise error
        except requests.HTTPError as below:
            raise RuntimeError("Error while uploading 'x' to the Hub.") from below
    except RuntimeError as above:
        return above


def hub():
    return HubRepo("https://hub.example.org", "org/name", "hf_secret0123", base=0.001)


def test_the_status_is_found_under_the_clients_wrapping():
    assert status_within(wrapped(answered(403))) == 403
    assert status_within(ValueError("x")) is None


@pytest.mark.parametrize(("status", "kind"), [(401, 2), (403, 2), (402, 2), (400, 1), (500, 1)])
def test_a_refusal_is_bad_input_and_the_rest_is_failed_work(status, kind):
    error = hub().failure("committing", wrapped(answered(status)))
    assert isinstance(error, ArasError)
    assert error.exit_code == kind
    assert isinstance(error, WorkFailed) == (kind == 1)
    assert f"committing (org/name on https://hub.example.org): HTTP {status}" in str(error)


def test_any_error_leaves_as_ours_without_the_secret_or_its_cause():
    def fail():
        raise KeyError("hf_secret0123")

    with pytest.raises(WorkFailed) as caught:
        hub().call("looking", fail)
    assert "KeyError" in str(caught.value)
    assert "hf_secret0123" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_only_what_may_pass_is_tried_again():
    calls = []

    def fail(error):
        calls.append(error)
        raise error

    with pytest.raises(WorkFailed):
        hub().call("x", lambda: fail(answered(503, **{"Retry-After": "0"})))
    assert len(calls) == 6
    with pytest.raises(ArasError):
        hub().call("x", lambda: fail(answered(403)))
    assert len(calls) == 7


def test_offline_mode_is_told_before_anything_is_tried(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert issubclass(OfflineModeIsEnabled, ConnectionError)  # it would be retried otherwise
    with pytest.raises(ArasError, match="HF_HUB_OFFLINE"):
        hub()


def test_the_hubs_rate_limit_tells_how_long_to_wait():
    spent = {"RateLimit": '"api";r=0;t=55', "RateLimit-Policy": '"fixed window";"api";q=500;w=300'}
    assert retry_after(answered(429, **spent)) == 55
    assert retry_after(answered(429, RateLimit='"api";r=12;t=55')) is None
    assert retry_after(answered(429, **spent, **{"Retry-After": "7"})) == 7
    assert retry_after(answered(200, **spent)) is None


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
