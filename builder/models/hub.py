"""Whether the Hugging Face Hub answers: without it, models are looked up in the local cache alone.

transformers asks the Hub about every file, five times with growing pauses, before it looks into
its cache; one question here saves a machine without network those minutes.
"""

import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

SECONDS = 5


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


def advice(name: str | Path) -> str:
    """What to do where a model by name is not to be had, for the end of a message."""
    if Path(name).is_dir() or answers():
        return ""
    return (
        "; the Hub cannot be reached, and the local cache lacks this model: fetch it with `hf "
        f"download {name}` on a machine with network, and copy its cache or the folder here"
    )
