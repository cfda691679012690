"""Finding and loading a transformers model: a folder, a GGUF file, or the Hub's local cache."""

import contextlib
import importlib.util
import io
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.captions.settings import Ask, Running
from builder.errors import ArasError
from builder.models import cached

_COMMIT = re.compile(r"[0-9a-f]{40}")
_IGNORED = {".md", ".py", ".png", ".jpg", ".gitattributes"}


def revision_of(ask: Ask, running: Running) -> str:
    """What pins the model: the commit of one of the Hub, the content digest of a local one.

    A full commit in the recipe is believed without looking, so that finished captions can be
    packaged where the model is not. Raises ArasError when the model is not there.
    """
    if running.path is not None:
        return f"sha256:{_digest(running.path, running.cache)}"
    if _COMMIT.fullmatch(ask.revision):
        return ask.revision
    return _snapshot(ask).name


def locate(ask: Ask, running: Running) -> Path:
    """The model's folder or GGUF file on this machine. Raises ArasError saying how to get it."""
    if running.path is None:
        return _snapshot(ask)
    path = running.path
    if path.suffix == ".gguf" and path.is_file():
        return path
    if (path / "config.json").is_file():
        return path
    if not path.exists():
        raise ArasError(f"{path}: there is no such model folder or GGUF file")
    if found := sorted(path.glob("*.gguf")):
        raise ArasError(f"{path}: name the GGUF file itself: model = {str(found[0])!r}")
    raise ArasError(f"{path}: is no model of transformers (it has no config.json)")


def _snapshot(ask: Ask) -> Path:
    return cached.snapshot(ask.model, ask.revision, "config.json", "a folder, a .gguf file")


def _digest(path: Path, cache: Path | None) -> str:
    """sha256 over names and contents of all that decides what a local model does."""
    if path.is_file():
        found = [path, *sorted(path.parent.glob("*.json")), *sorted(path.parent.glob("*.jinja"))]
    else:
        found = sorted(
            one
            for one in path.rglob("*")
            if one.is_file()
            and one.suffix not in _IGNORED
            and not any(part.startswith(".") for part in one.relative_to(path).parts)
        )
    if not found:
        raise ArasError(f"{path}: there is no such model folder or GGUF file")
    return cached.digest(found, path.parent if path.is_file() else path, cache)


@dataclass(frozen=True)
class Loaded:
    """A model in memory. ``processor`` is None for one that is shown text only."""

    network: Any
    tokenizer: Any
    processor: Any
    device: Any


def load(ask: Ask, running: Running) -> Loaded:
    """Load model and tokenizer (and image processor, where the stream sees images).

    bfloat16 on a GPU and float32 on the CPU unless ``dtype`` says otherwise; left padding.
    Raises ArasError: not there, no chat template, files that do not fit together.
    """
    import torch
    import transformers

    from builder.models.training import device

    where = locate(ask, running)
    here = device()
    name = ask.dtype if ask.dtype != "auto" else ("bfloat16", "float32")[here.type == "cpu"]
    how: dict[str, Any] = {"local_files_only": True}
    source = where
    if where.suffix == ".gguf":
        if importlib.util.find_spec("gguf") is None:
            raise ArasError("a GGUF model needs the package gguf: pip install 'aras[gguf]'")
        source, how["gguf_file"] = where.parent, where.name
    seeing = "image" in ask.sees
    with _loading(ask.model, where):
        architecture = _class(source, seeing, how)
        processor = _processor(source) if seeing else None
        tokenizer = (
            processor.tokenizer
            if processor
            else transformers.AutoTokenizer.from_pretrained(source, **how)
        )
        if not (getattr(processor, "chat_template", None) or tokenizer.chat_template):
            raise ArasError(
                f"{ask.model} has no chat template, so it cannot be asked: it is a base model; "
                "take its instruction-tuned sibling, or put its chat_template.jinja into the "
                "model's folder"
            )
        tokenizer.padding_side = "left"
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        network = architecture.from_pretrained(
            source, dtype=getattr(torch, name), attn_implementation=running.attention, **how
        )
    return Loaded(network.to(here).eval(), tokenizer, processor, here)


def _class(source: Path, seeing: bool, how: dict[str, Any]) -> Any:
    """AutoModelForCausalLM where text is enough and the architecture has it."""
    import transformers
    from transformers.models.auto import modeling_auto as auto

    kind = transformers.AutoConfig.from_pretrained(source, **how).model_type
    if seeing and kind not in auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        raise ArasError(
            f"{source}: a {kind} model sees no images; drop image from sees, or take a "
            "vision-language model"
        )
    if seeing or kind not in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return transformers.AutoModelForImageTextToText
    return transformers.AutoModelForCausalLM


def _processor(source: Path) -> Any:
    """AutoProcessor, or Qwen3-VL's without the video half, which alone wants torchvision."""
    import transformers
    from transformers.models.qwen3_vl import processing_qwen3_vl

    try:
        return transformers.AutoProcessor.from_pretrained(source, local_files_only=True)
    except (ImportError, OSError, AttributeError):
        kind = transformers.AutoConfig.from_pretrained(source).model_type
        if not kind.startswith("qwen3_vl"):
            raise
    images_only = _image_only(processing_qwen3_vl.Qwen3VLProcessor)
    return images_only.from_pretrained(source, local_files_only=True)


def _image_only(cls: Any) -> Any:
    """``cls`` without its video processor; transformers reads the signature, so it is explicit."""

    class Images(cls):  # type: ignore[misc]
        def __init__(
            self, image_processor: Any = None, tokenizer: Any = None, chat_template: Any = None
        ) -> None:
            super().__init__(image_processor, tokenizer, chat_template=chat_template)

    Images.__name__ = Images.__qualname__ = cls.__name__
    return Images


@contextlib.contextmanager
def _loading(model: str, where: Path) -> Iterator[None]:
    """What transformers raises over bad files, as one clear line; its bars and asides unseen."""
    from transformers.utils import logging

    from builder.captions.decoding import out_of_memory

    verbosity, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    # Unpacking a GGUF file draws a bar that no setting turns off.
    hidden = io.StringIO() if where.suffix == ".gguf" else sys.stderr
    try:
        with contextlib.redirect_stderr(hidden):
            yield
    except ArasError:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise ArasError(
                f"{model} does not fit into memory: take a smaller model, a quantised one, or "
                'dtype = "bfloat16"; with several workers each loads it (--workers 1)'
            ) from error
        words = str(error).strip().splitlines() or [""]
        raise ArasError(
            f"{where}: {model} cannot be loaded ({type(error).__name__}: {words[0][:300]})"
        ) from error
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()
