"""What `accelerate launch` starts in tests: `aras -C DIR train generator`, hanging on demand.

``accelerate launch … -m tests.makers.launched DIR [STEP]``: at STEP every process hangs after
it has told the bell of DIR its number.
"""

import os
import sys
import threading
from pathlib import Path
from typing import Any

from tests.makers.toy import BELL


def main() -> None:
    from builder.cli import cli
    from builder.models import generator

    directory = Path(sys.argv[1])
    draw = generator._batch
    hang_at = int(sys.argv[2]) if len(sys.argv) > 2 else -1

    def batch(settings: Any, tiles: Any, codec: Any, step: int) -> Any:
        if step == hang_at:
            with (directory / BELL).open("w") as bell:
                bell.write(f"{os.getpid()}\n")
            threading.Event().wait(120)
        return draw(settings, tiles, codec, step)

    generator._batch = batch
    cli(["-C", str(directory), "train", "generator", "--json"], prog_name="aras")


if __name__ == "__main__":
    main()
