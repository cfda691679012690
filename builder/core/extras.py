"""Which libraries a plain `pip install aras` leaves out, and what is said where they are needed."""

import sys

EXTRA = "make"
LIBRARIES = (
    *("torch", "transformers", "diffusers", "accelerate", "safetensors", "tokenizers"),
    *("sklearn", "threadpoolctl", "zenodo_client"),
)
"""Import names of what ``aras[make]`` brings: to make, judge and publish a dataset."""


def needs_extra(error: ImportError) -> str | None:
    """What a command says that stopped at a library of the extra; None for any other."""
    name = (error.name or "").partition(".")[0]
    if name not in LIBRARIES:
        return None
    return f"this needs aras[{EXTRA}], which brings {name}: pip install 'aras[{EXTRA}]'"


def has(library: str) -> bool:
    """Whether a library can be imported, without importing it."""
    from importlib.util import find_spec

    return sys.modules.get(library) is not None or (
        library not in sys.modules and find_spec(library) is not None
    )
