"""What keeps publishing to a Hub safe: settings, names, and no secret in any text."""

import contextlib
import logging
import re
from collections.abc import Iterator
from typing import Any

from builder.errors import ArasError

_SECRETS = re.compile(
    r"hf_[A-Za-z0-9]{6,}|(?i:(?<=bearer )\S+)"
    r"|(?i:(?<=signature=)|(?<=token=)|(?<=credential=))[^&\s\"']+"
)


def redact(text: str, token: str | None = None) -> str:
    """``text`` without ``token``, nor anything else that looks like a secret of the Hub."""
    return _SECRETS.sub("[redacted]", text.replace(token, "[redacted]") if token else text)


def environment(endpoint: str) -> dict[str, str]:
    """What huggingface_hub and datasets must find in the environment before they are imported.

    The endpoint is read at import. Xet writes its record of finished blocks often, so that an
    interrupted upload is resumed rather than sent again.
    """
    return {
        "HF_ENDPOINT": endpoint,
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",
        "HF_XET_DATA_SESSION_XORB_METADATA_FLUSH_INTERVAL": "200ms",
        "HF_XET_DATA_SESSION_XORB_METADATA_FLUSH_MAX_COUNT": "1",
    }


def check_repo_id(repo: str) -> str:
    """The repo id; ArasError unless it reads ORG/NAME with what the Hub allows in names."""
    import huggingface_hub.utils
    from huggingface_hub.errors import HFValidationError

    utils: Any = huggingface_hub.utils
    if repo.count("/") != 1:
        raise ArasError(f"--repo {repo}: write ORG/NAME, as in my-lab/my-tiles")
    try:
        utils.validate_repo_id(repo)
    except HFValidationError as error:
        raise ArasError(f"--repo {repo}: {error} Write ORG/NAME, as in my-lab/my-tiles") from None
    return repo


@contextlib.contextmanager
def redacted_logs(token: str | None) -> Iterator[None]:
    """Cut secrets out of what huggingface_hub logs (it names the addresses it asks again)."""

    def cut(record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage(), token), ()
        return True

    handlers = list(logging.getLogger("huggingface_hub").handlers)
    for handler in handlers:
        handler.addFilter(cut)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(cut)
