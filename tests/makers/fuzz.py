"""How many inputs a property test tries: the same few in each run, or ARAS_FUZZ times new ones."""

import os

from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("ARAS_FUZZ", "1"))


def tries(examples: int) -> settings:
    """A decorator of a test that may write to its temporary folder again for each input."""
    return settings(
        max_examples=examples * TIMES,
        deadline=None,
        derandomize=TIMES == 1,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
