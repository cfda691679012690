"""Runs mteb on the folder benchmark/ of a release, offline: RELEASE MODEL… → results in CACHE.

A model is package:function, as `aras bench retrieval` takes it, or the folder of a CLIP.
"""

import importlib
import sys
from pathlib import Path

import mteb
import numpy as np
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta, ScoringFunction

from builder.models.encoders import transformers_model


class Wrapped(AbsEncoder):
    """Two functions, images → vectors and texts → vectors, as an encoder of mteb."""

    def __init__(self, name: str, images, texts) -> None:
        self.images, self.texts = images, texts
        known = dict.fromkeys(ModelMeta.model_fields)
        known |= {"name": f"toy/{name}", "revision": "1", "framework": [], "languages": None}
        known |= {"modalities": ["text", "image"], "model_type": ["dense"], "loader_kwargs": {}}
        known |= {"similarity_fn_name": ScoringFunction.COSINE}
        self.mteb_model_meta = ModelMeta.model_construct(**known)

    def encode(self, inputs, **kwargs):
        parts = []
        for batch in inputs:
            if "image" in batch:
                arrays = [np.asarray(image.convert("RGB")) for image in batch["image"]]
                parts.append(self.images(arrays))
            else:
                parts.append(self.texts(list(batch["text"])))
        return np.concatenate(parts).astype(np.float32)


def main(release: str, cache: str, *models: str) -> None:
    sys.path.insert(0, str(Path(release) / "benchmark"))
    from task import TASKS

    for spec in models:
        if ":" in spec:
            package, _, name = spec.partition(":")
            images, texts = getattr(importlib.import_module(package), name)()
        else:
            encoder = transformers_model(spec, "cpu")
            name, images, texts = "clip", encoder.images, encoder.texts
        model = Wrapped(name, images, texts)
        mteb.evaluate(model, TASKS, cache=mteb.ResultCache(cache), show_progress_bar=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
