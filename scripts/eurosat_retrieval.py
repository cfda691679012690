"""Makes a retrieval set of EuroSAT for `aras bench retrieval --data`: TAR OUT [PER_CLASS].

OUT gets the pictures, ``captions.json`` as Karpathy's files are written (two captions a tile that
name its class, the first half of each class in split train, every 20th test tile without a caption,
a distractor) and ``eurosat_colours.py``, a model that knows the mean colours of the train tiles.
"""

import io
import json
import sys
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = {
    "AnnualCrop": "annual crops",
    "Forest": "forest",
    "HerbaceousVegetation": "herbaceous vegetation",
    "Highway": "a highway",
    "Industrial": "industrial buildings",
    "Pasture": "pasture",
    "PermanentCrop": "permanent crops",
    "Residential": "houses",
    "River": "a river",
    "SeaLake": "open water",
}
CAPTIONS = ("A satellite picture of {}.", "Seen from above: {}.")
MODEL = '''"""Mean and spread of colours: of a tile, and of the train tiles of a named class."""

import numpy as np

CLASSES = {classes}
MEAN, SPREAD = np.array({mean}), np.array({spread})


def features(images):
    rows = [np.concatenate([i.mean((0, 1)), i.std((0, 1))]) for i in images]
    return ((np.array(rows) - MEAN) / SPREAD).astype(np.float32)


def texts(captions):
    return np.array([next(v for n, v in CLASSES.items() if n in c) for c in captions], np.float32)


def model():
    return features, texts
'''


def main(source: Path, out: Path, per_class: int) -> None:
    pictures: dict[str, list[tuple[str, bytes]]] = {name: [] for name in NAMES}
    with tarfile.open(source) as archive:
        for member in sorted(archive, key=lambda member: member.name):
            kind = Path(member.name).parent.name
            if member.isfile() and kind in NAMES and len(pictures[kind]) < per_class:
                data = archive.extractfile(member)
                assert data is not None
                pictures[kind].append((Path(member.name).name, data.read()))
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    images, known = [], {}
    for kind, members in pictures.items():
        for n, (name, data) in enumerate(members):
            (out / "pictures" / name).write_bytes(data)
            is_train = n < len(members) // 2
            texts = (
                [] if not is_train and n % 20 == 0 else [c.format(NAMES[kind]) for c in CAPTIONS]
            )
            split = "train" if is_train else "test"
            images.append(
                {"filename": name, "split": split, "sentences": [{"raw": text} for text in texts]}
            )
            if is_train:
                pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), float)
                known.setdefault(kind, []).append(
                    np.concatenate([pixels.mean((0, 1)), pixels.std((0, 1))])
                )
    (out / "captions.json").write_text(json.dumps({"images": images}))
    every = np.concatenate([np.array(rows) for rows in known.values()])
    mean, spread = every.mean(0), every.std(0) + 1e-3
    classes = {
        NAMES[kind]: ((np.mean(rows, axis=0) - mean) / spread).round(4).tolist()
        for kind, rows in known.items()
    }
    filled = {
        "classes": classes,
        "mean": mean.round(4).tolist(),
        "spread": spread.round(4).tolist(),
    }
    code = MODEL
    for key, value in filled.items():
        code = code.replace(f"{{{key}}}", repr(value))
    (out / "eurosat_colours.py").write_text(code)
    print(f"{len(images):,} tiles, {sum(bool(i['sentences']) for i in images):,} with captions")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) == 4 else 10**9)
