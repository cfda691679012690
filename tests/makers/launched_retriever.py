"""What `accelerate launch` starts in tests: a retriever trained on made pairs into a folder."""

import sys
from pathlib import Path

import numpy as np
from safetensors.torch import save_file

from builder.models import clip, retriever
from builder.models.retriever import Pairs
from builder.models.settings import RetrieverSettings
from builder.models.team import Team

SETTINGS = RetrieverSettings(stream="words", steps=5, batch=8, size=16, patch=8, width=32, layers=1,
                    text_layers=1, projection=8, tokens=12, vocabulary=280)  # fmt: skip


def trained(folder: Path, team: Team) -> list[float]:
    """Losses; the weights lie in ``folder``. Captions and tiles repeat, as they do in batches."""
    rng = np.random.default_rng(0)
    texts = [f"scene {i % 9}" for i in range(20)]
    pixels = rng.integers(0, 256, (20, 16, 16, 3), np.uint8)
    pairs = Pairs([str(i) for i in range(20)], pixels, texts)
    dual = clip.start(SETTINGS, texts)
    losses, _ = retriever.train_pairs(folder, "key", pairs, SETTINGS, dual, team=team)
    if team.leads:
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.contiguous() for name, tensor in dual.model.state_dict().items()}
        save_file(weights, folder / "weights.safetensors")
        np.save(folder / "losses.npy", losses)
    team.wait()
    return losses


if __name__ == "__main__":
    trained(Path(sys.argv[1]), Team.join())
