"""Seeds from identity: a row's random numbers depend on what it is, never on where it runs."""

import hashlib

import numpy as np

SEED = 0
"""The run seed where none is given."""


def seed(*parts: str | int) -> int:
    """A 63-bit seed from (run seed, row id, stage, …): equal parts, equal seed, on any machine."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*parts: str | int) -> np.random.Generator:
    """A numpy generator seeded by `seed`."""
    return np.random.default_rng(seed(*parts))
