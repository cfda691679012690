"""A dual encoder as the benchmark sees it: two functions to vectors, and its identity."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from builder.land.pictures import Pixels

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Encoder:
    """Two functions to vectors (n, d), and what identifies this model.

    ``images`` takes (h, w, 3) uint8 arrays, ``texts`` strings. ``identity`` is None where the
    content cannot be known; such vectors are never cached.
    """

    name: str
    images: Callable[[Sequence[Pixels]], Array]
    texts: Callable[[Sequence[str]], Array]
    identity: str | None
    facts: dict[str, str | int | None]
    """Source, revision or digest, and sizes, as a result holds them."""


def transformers_model(name: str, device: str = "cpu") -> Encoder:
    """A CLIP or SigLIP by folder or by name on the Hugging Face Hub.

    Raises ArasError for a missing model and for one without image and text features.
    """
    import torch

    from builder.models import clip, openclip

    dual = clip.pretrained(name)
    dual.model.to(device).eval()

    @torch.inference_mode()
    def images(arrays: Sequence[Pixels]) -> Array:
        ready = dual.processor(images=list(arrays), return_tensors="pt")["pixel_values"]
        return np.asarray(dual.image_vectors(ready.to(device)).cpu().numpy())

    @torch.inference_mode()
    def texts(strings: Sequence[str]) -> Array:
        ids = {key: values.to(device) for key, values in dual.ids(strings).items()}
        return np.asarray(dual.text_vectors(ids).cpu().numpy())

    known = clip.identity(name, dual.model)
    pin: dict[str, str | int | None]
    if Path(name).is_dir():
        pin = {"source": "folder", "sha256": known}
    elif openclip.names(name):
        pin = {"source": "openclip", "sha256": known}
    else:
        pin = {"source": "hub", "revision": getattr(dual.model.config, "_commit_hash", None)}
    facts: dict[str, str | int | None] = {
        "architecture": type(dual.model).__name__,
        "max_tokens": dual.tokens,
        "image_size": dual.size,
        **pin,
    }
    return Encoder(name, images, texts, known, facts)
