"""The one way to find, pin and load a pretrained model.

A model is a folder or a file of this machine, or ORG/NAME on the Hub; `builder.core.fields`'
`local_path` decides which. Nothing here imports torch or transformers until it loads.
"""

import contextlib
import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from builder.core import budgets
from builder.core.errors import ArasError
from builder.core.fields import local_path
from builder.core.files import content_hashes, digest_of, read_json, sha256_file

CONFIG = "config.json"
SCRIPTED = (".pt", ".torchscript")
"""Suffixes of a TorchScript module that takes (n, 3, h, w) uint8 and returns (n, d) features."""
SECONDS = 5
"""How long the Hub may take to answer before it counts as out of reach."""
OPENCLIP = "openclip:"
"""Before the file of OpenCLIP weights, where they are named as a model."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_IGNORED = {".md", ".png", ".jpg", ".gitattributes"}
_CONTENT = ("*.json", "*.txt", "*.safetensors", "*.bin", "*.model")


@dataclass(frozen=True)
class Source:
    """A file of OpenCLIP weights on the Hub, and the activation that its authors load it with."""

    repository: str
    file: str
    activation: str


ALIASES = {
    "remoteclip-vit-b-32": Source("chendelong/RemoteCLIP", "RemoteCLIP-ViT-B-32.pt", "gelu"),
    "georsclip-vit-b-32": Source("Zilun/GeoRSCLIP", "ckpt/RS5M_ViT-B-32.pt", "quick_gelu"),
}
"""Model named as itself → its OpenCLIP weights."""


@dataclass(frozen=True)
class Weights:
    """A pretrained model: ORG/NAME and commit on the Hub, or ``path`` on this machine."""

    model: str
    revision: str = ""
    path: Path | None = None
    """Folder, GGUF file or TorchScript module; None for a model of the Hub's cache."""
    cache: Path | None = None
    """Where the digests of a local model's files are remembered."""

    @classmethod
    def of_recipe(
        cls, section: str, model: str, revision: str, directory: Path, cache: Path | None = None
    ) -> "Weights":
        """The model that a ``section`` of the recipe in ``directory`` names.

        Raises ArasError for the revision of a local model.
        """
        path = local_path(model, directory)
        if path and revision:
            raise ArasError(
                f"{section} revision: {model} is a local model, pinned by its content; only a "
                "model of the Hub (ORG/NAME) has revisions"
            )
        return cls(model, revision, path, cache)

    @property
    def name(self) -> str:
        """What to call the model, without saying where it lies."""
        return self.path.name if self.path else self.model

    @property
    def scripted(self) -> bool:
        return self.path is not None and self.path.suffix in SCRIPTED

    def digest(self) -> str:
        """What pins the model: its commit on the Hub, or the content digest of a local model.

        A full commit in the recipe is believed without looking, so that finished captions can be
        packaged where the model is not. Raises ArasError saying how to get a model that is not
        on this machine.
        """
        if self.path is not None:
            return f"sha256:{_digest_of_local(self.path, self.cache)}"
        if _COMMIT.fullmatch(self.revision):
            return self.revision
        return self.locate().name

    def locate(self, mark: str = CONFIG, kind: str = "model of transformers") -> Path:
        """The model's folder, GGUF file or TorchScript module on this machine.

        The folder of a ``kind`` of model holds the file ``mark``. Raises ArasError saying how to
        get a model that is not there, and for what is not a model.
        """
        if self.path is None:
            snapshot = _snapshot(self.model, self.revision, mark)
            refuse_code(snapshot)
            return snapshot
        path = self.path
        if path.suffix in (".gguf", *SCRIPTED) and path.is_file():
            return path
        if (path / mark).is_file():
            refuse_code(path)
            return path
        if not path.exists():
            raise absent(path)
        if files := sorted(path.glob("*.gguf")):
            raise ArasError(f"{path}: name the GGUF file itself: model = {str(files[0])!r}")
        if snapshots := sorted((path / "snapshots").glob(f"*/{mark}")):
            shown = str(snapshots[-1].parent)
            raise ArasError(f"{path}: a cache of the Hub; name a snapshot in it: model = {shown!r}")
        raise ArasError(f"{path}: not a {kind} (it has no {mark})")


@functools.cache
def unreadable() -> tuple[type[Exception], ...]:
    """What ``from_pretrained`` raises for a model that is not there, damaged or of another kind."""
    from safetensors import SafetensorError

    common = (OSError, ValueError, KeyError, ImportError, RuntimeError, EOFError, UnpicklingError)
    return (*common, SafetensorError)


def digest(files: Iterable[Path], base: Path, cache: Path | None) -> str:
    """sha256 over the names (relative to ``base``) and contents of files.

    ``cache`` remembers the digests of files whose size and time have not changed.
    """
    paths = sorted(files)
    hashes = (
        content_hashes(paths, cache) if cache else {str(path): sha256_file(path) for path in paths}
    )
    return digest_of([[path.relative_to(base).as_posix(), hashes[str(path)]] for path in paths])


def identity_of(name: str, commit: str | None = None) -> str | None:
    """What identifies a dual encoder: a folder, OpenCLIP weights or a name on the Hub.

    A digest of the folder's content, as records and releases hold it since the first version; the
    digest of a file of weights and its activation; or the name and its commit, which is ``commit``
    where the model is loaded already. None for a commit that cannot be known. Raises ArasError
    for a model that is not there.
    """
    if is_openclip(name):
        path, activation = openclip_file(name)
        return f"{sha256_file(path)} {activation}"
    folder = Path(name)
    if folder.is_dir():
        files = sorted(path for pattern in _CONTENT for path in folder.glob(pattern))
        return digest_of({path.name: sha256_file(path) for path in files})
    if local_path(name, Path()):
        raise absent(folder)
    commit = commit or file_of(name, CONFIG, "give the path of a folder that holds it").parent.name
    return f"{name}@{commit}" if _COMMIT.fullmatch(commit) else None


def public_name(name: str) -> str:
    """What to call a dual encoder, without saying where it lies."""
    path = Path(name)
    return path.resolve().name if path.is_dir() or name.startswith(OPENCLIP) else name


def is_openclip(name: str) -> bool:
    """Whether ``name`` is one of `ALIASES`, openclip:FILE or openclip:FILE:quick_gelu."""
    return name.lower() in ALIASES or name.startswith(OPENCLIP)


def openclip_file(name: str) -> tuple[Path, str]:
    """File of weights and activation. Raises ArasError that says how to get a file not there."""
    if source := ALIASES.get(name.lower()):
        otherwise = f"give the file itself, openclip:FILE:{source.activation}"
        return file_of(source.repository, source.file, otherwise), source.activation
    path, _, activation = name.removeprefix(OPENCLIP).rpartition(":")
    if activation not in ("gelu", "quick_gelu"):
        path, activation = name.removeprefix(OPENCLIP), "gelu"
    if not Path(path).is_file():
        raise absent(Path(path))
    return Path(path), activation


def load(name: str | Path, *kinds: Any, **options: Any) -> list[Any]:
    """What each of ``kinds`` (AutoModel, AutoTokenizer …) loads from a folder or from the Hub.

    A name is looked up on the Hub where it answers, else in the local cache. Code that comes with
    a model is never run. Raises ArasError for a model that is not there or cannot be loaded.
    """
    if (path := local_path(str(name), Path())) is not None and not path.exists():
        raise absent(path)
    library = kinds[0].__module__.partition(".")[0]
    if library == "transformers":
        options["trust_remote_code"] = False  # not given, it asks at the terminal
    if path is not None:
        refuse_code(path / str(options.get("subfolder") or ""))
    local = path is not None or not hub_answers()
    if local and path is None and (held := _held(str(name), str(options.get("subfolder") or ""))):
        refuse_code(held)
    try:
        return [kind.from_pretrained(name, local_files_only=local, **options) for kind in kinds]
    except unreadable() as error:
        if local and path is None:
            _snapshot(str(name), "", "/".join([*filter(None, [options.get("subfolder")]), CONFIG]))
        raise refusal(name, library, error) from error


def file_of(repository: str, file: str, otherwise: str) -> Path:
    """A file of the Hub, from the local cache where the Hub does not answer.

    Raises ArasError that says how to get it, or ``otherwise``.
    """
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, file, local_files_only=not hub_answers()))
    except (OSError, ValueError) as error:
        raise _unfetched(repository, "", file, otherwise) from error


def hub_answers() -> bool:
    """Whether the Hub, or what ``HF_ENDPOINT`` names, answers at all within some seconds."""
    import requests
    from huggingface_hub import constants

    from builder.core import hub_session
    from builder.core.web import new_session

    if constants.HF_HUB_OFFLINE:
        return False
    hub_session.bound()  # for the download that follows
    try:
        with new_session() as session:
            session.head(constants.ENDPOINT, timeout=SECONDS)
        return True
    except (requests.RequestException, ValueError):
        return False


def _held(name: str, subfolder: str) -> Path | None:
    """The folder of a model, or of a part of it, in the Hub's cache; None where it is not there."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        file = try_to_load_from_cache(name, "/".join([*filter(None, [subfolder]), CONFIG]))
    except HFValidationError:
        return None  # what loads it says what is wrong
    return Path(file).parent if isinstance(file, str) else None


def refuse_code(folder: Path) -> None:
    """Raises ArasError for a folder of a model, or of a part of it, that brings code of its own.

    That is a .py file, or a configuration that names one: libraries import it, or ask at the
    terminal whether they may.
    """
    parts = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    for path in sorted(path for part in [folder, *parts] for path in part.glob("*.*")):
        why = "is code" if path.suffix == ".py" else ""
        if path.suffix == ".json":
            with contextlib.suppress(ValueError, OSError):  # what loads it says what is wrong
                why = _names_code(read_json(path, budgets.JSON_BYTES))
        if why:
            raise ArasError(
                f"{folder}: needs code of its own, which aras never runs "
                f"({path.relative_to(folder)} {why}); use a model that transformers or diffusers "
                "have built in, or a copy without it if it is not needed"
            )


def _names_code(config: Any) -> str:
    """How a configuration of transformers or diffusers names code of the folder; empty if not."""
    if not isinstance(config, dict):
        return ""
    if config.get("auto_map") or config.get("custom_pipelines"):
        return "names it as auto_map or custom_pipelines"
    return "names it as its class" if isinstance(config.get("_class_name"), list) else ""


def absent(path: Path) -> ArasError:
    return ArasError(f"{path}: no such model folder or file of weights")


def refusal(name: str | Path, library: str, error: Exception) -> ArasError:
    """The error, in one line, for a model that ``library`` cannot load or run."""
    text = first_line(error)
    if "custom code" in text:
        return ArasError(
            f"{name}: needs code of its own, which aras never runs; use a model that {library} "
            "has built in"
        )
    return ArasError(f"{name}: {library} cannot load it ({type(error).__name__}: {text[:300]})")


def first_line(error: Exception) -> str:
    """The first line of an error's text, for a message of one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def out_of_memory(error: BaseException) -> bool:
    """True for what torch and Python raise when memory, on a GPU or the CPU, is used up."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "not enough memory" in text or "can't allocate memory" in text
    )


def _snapshot(model: str, revision: str, mark: str) -> Path:
    """The folder of the Hub's local cache that holds the file ``mark`` of a model."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        path = try_to_load_from_cache(model, mark, revision=revision or "main")
    except HFValidationError as error:
        raise ArasError(
            f"model {model!r} is neither a folder, a file of weights (.gguf) nor ORG/NAME on the "
            "Hub"
        ) from error
    if not isinstance(path, str):
        raise _unfetched(model, revision, "", "give the path of a folder that holds it")
    return Path(path).parent


def _unfetched(model: str, revision: str, file: str, otherwise: str) -> ArasError:
    words = ["hf download", model, *filter(None, [file])]
    if revision not in ("", "main"):
        words += ["--revision", revision]
    return ArasError(
        f"model {model} ({revision or 'main'}) is not on this machine; fetch it where there is a "
        f"network: {' '.join(words)} (a gated model needs `hf auth login` before), or {otherwise}"
    )


def _digest_of_local(path: Path, cache: Path | None) -> str:
    """sha256 over names and contents of all that decides what a local model does."""
    if path.suffix in SCRIPTED and path.is_file():
        return content_hashes([path], cache)[str(path)] if cache else sha256_file(path)
    if path.is_file():
        files = [path, *path.parent.glob("*.json"), *path.parent.glob("*.jinja")]
        return digest(files, path.parent, cache)
    files = [
        file
        for file in path.rglob("*")
        if file.is_file()
        and file.suffix not in _IGNORED
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    ]
    if not files:
        raise absent(path)
    return digest(files, path, cache)
