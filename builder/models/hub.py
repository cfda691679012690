"""Whether the Hugging Face Hub answers: without it, models are looked up in the local cache alone.

transformers asks the Hub about every file, five times with growing pauses, before it looks into
its cache; one question here saves a machine without network those minutes.
"""

import urllib.error
import urllib.request
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from safetensors import SafetensorError

SECONDS = 5
UNREADABLE = (OSError, ValueError, KeyError, ImportError, RuntimeError, EOFError, SafetensorError,
              UnpicklingError)  # fmt: skip
"""What ``from_pretrained`` raises for a model that is not there, is damaged or of another kind."""


def where(name: str | Path) -> dict[str, Any]:
    """Options for ``from_pretrained``: folders, and names while the Hub is silent, are local."""
    return {"local_files_only": Path(name).is_dir() or not answers()}


def answers() -> bool:
    """Whether the Hub, or what ``HF_ENDPOINT`` names, answers at all within some seconds."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    asked = urllib.request.Request(constants.ENDPOINT, method="HEAD")
    try:
        with urllib.request.urlopen(asked, timeout=SECONDS):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False


def first_line(error: Exception) -> str:
    """What an error of `UNREADABLE` says first, for a message of one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def advice(name: str | Path) -> str:
    """What to do where a model by name is not to be had, for the end of a message."""
    if Path(name).is_dir() or answers():
        return ""
    return (
        "; there is no folder of this name, the Hub cannot be reached, and the local cache lacks "
        f"the model: fetch it with `hf download {name}` on a machine with network, and copy its "
        "cache or the folder here"
    )
