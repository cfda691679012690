"""Finding and pinning a model: a folder, a file of weights, or a name in the Hub's local cache."""

import re
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from safetensors import SafetensorError

from builder.core.errors import ArasError
from builder.core.files import content_hashes, digest_of, sha256_file


def out_of_memory(error: BaseException) -> bool:
    """True for what torch and Python raise when memory, on a GPU or the CPU, is used up."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    words = str(error)
    return isinstance(error, RuntimeError) and (
        "out of memory" in words or "not enough memory" in words or "can't allocate memory" in words
    )


def snapshot(model: str, revision: str, mark: str, what: str) -> Path:
    """The folder of a model of the Hub's local cache, which has the file ``mark``.

    ``what`` says what else ``model`` could have been. Raises ArasError saying how to fetch it.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    revision = revision or "main"
    try:
        found = try_to_load_from_cache(model, mark, revision=revision)
    except HFValidationError as error:
        raise ArasError(f"model {model!r} is neither {what} nor ORG/NAME on the Hub") from error
    if not isinstance(found, str):
        at = f" --revision {revision}" if revision != "main" else ""
        raise ArasError(
            f"model {model} ({revision}) is not on this machine; fetch it first: "
            f"hf download {model}{at} (a gated model wants `hf auth login` before), or give "
            "the path of a folder that holds it (none by this name lies beside dataset.toml)"
        )
    return Path(found).parent


def digest(files: Iterable[Path], base: Path, cache: Path | None) -> str:
    """sha256 over the names (relative to ``base``) and contents of files.

    ``cache`` remembers the digests of files whose size and time have not changed.
    """
    found = sorted(files)
    hashes = (
        content_hashes(found, cache) if cache else {str(one): sha256_file(one) for one in found}
    )
    return digest_of([[one.relative_to(base).as_posix(), hashes[str(one)]] for one in found])


_COMMIT = re.compile(r"[0-9a-f]{40}")
_IGNORED = {".md", ".py", ".png", ".jpg", ".gitattributes"}


SCRIPTED = (".pt", ".torchscript")
"""Suffixes of a TorchScript module that takes (n, 3, h, w) uint8 and returns (n, d) features."""


@dataclass(frozen=True)
class Weights:
    """A pretrained model: ORG/NAME and commit on the Hub, or ``path`` on this machine."""

    model: str
    revision: str = ""
    path: Path | None = None
    """Folder, GGUF file or TorchScript module; None for a model of the Hub's cache."""
    cache: Path | None = None
    """Where the digests of a local model's files are remembered."""

    @property
    def name(self) -> str:
        """What to call the model, without saying where it lies."""
        return self.path.name if self.path else self.model

    @property
    def scripted(self) -> bool:
        return self.path is not None and self.path.suffix in SCRIPTED

    def digest(self) -> str:
        """What pins the model: the commit of one of the Hub, the content digest of a local one.

        A full commit in the recipe is believed without looking, so that finished captions can be
        packaged where the model is not. Raises ArasError saying how to get a model that is not
        on this machine.
        """
        if self.path is not None:
            return f"sha256:{_digest(self.path, self.cache)}"
        if _COMMIT.fullmatch(self.revision):
            return self.revision
        return self._snapshot().name

    def locate(self) -> Path:
        """The model's folder, GGUF file or TorchScript module on this machine.

        Raises ArasError saying how to get one that is not there, and for what is not a model.
        """
        if self.path is None:
            return self._snapshot()
        path = self.path
        if path.suffix in (".gguf", *SCRIPTED) and path.is_file():
            return path
        if (path / "config.json").is_file():
            return path
        if not path.exists():
            raise ArasError(f"{path}: {_missing(path)}")
        if files := sorted(path.glob("*.gguf")):
            raise ArasError(f"{path}: name the GGUF file itself: model = {str(files[0])!r}")
        raise ArasError(f"{path}: is no model of transformers (it has no config.json)")

    def _snapshot(self) -> Path:
        return snapshot(self.model, self.revision, "config.json", "a folder, a .gguf file")


def _missing(path: Path) -> str:
    if path.suffix in SCRIPTED:
        return "there is no such file of weights"
    return "there is no such model folder or GGUF file"


def _digest(path: Path, cache: Path | None) -> str:
    """sha256 over names and contents of all that decides what a local model does."""
    if path.suffix in SCRIPTED and path.is_file():
        known = content_hashes([path], cache) if cache else {}
        return known.get(str(path)) or sha256_file(path)
    if path.is_file():
        files = [path, *sorted(path.parent.glob("*.json")), *sorted(path.parent.glob("*.jinja"))]
    else:
        files = sorted(
            file
            for file in path.rglob("*")
            if file.is_file()
            and file.suffix not in _IGNORED
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
        )
    if not files:
        raise ArasError(f"{path}: {_missing(path)}")
    return digest(files, path.parent if path.is_file() else path, cache)


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
