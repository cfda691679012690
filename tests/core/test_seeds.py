"""A row's random numbers follow from what it is."""

import subprocess
import sys

import numpy as np

from builder.core.seeds import generator, seed
from tests.makers.toy import environment


def test_equal_parts_give_the_same_seed_in_any_process() -> None:
    program = (
        "from builder.core.seeds import seed; print(seed(3, 'synthetic/a/0000073', 'generate'))"
    )
    seeds = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=environment(PYTHONHASHSEED=hash_seed),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "1")
    }
    assert seeds == {f"{seed(3, 'synthetic/a/0000073', 'generate')}\n"}


def test_any_other_part_gives_another_seed() -> None:
    base = (3, "real/N36E028_005_025", "generate")
    others = [
        (4, *base[1:]),
        (3, "real/N36E028_005_026", base[2]),
        (*base[:2], "caption"),
        base[:2],
    ]
    assert (
        len({seed(*parts) for parts in (base, *others, ("3real/N36E028_005_025", "generate"))}) == 6
    )


def test_seeds_fit_a_signed_64_bit_column_and_use_all_of_its_range() -> None:
    seeds = np.array([seed(i, "row") for i in range(2000)], dtype=np.int64)
    assert seeds.min() >= 0
    assert len(set(seeds)) == 2000
    assert abs(seeds.mean() / 2**63 - 0.5) < 0.03  # standard error 0.0065


def test_generators_of_equal_parts_draw_the_same_numbers() -> None:
    draws = [generator(*parts).random(4).tolist() for parts in ((1, "a"), (1, "a"), (1, "b"))]
    assert draws[0] == draws[1] != draws[2]
