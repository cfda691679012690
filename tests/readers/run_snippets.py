"""Run blocks of Python, given as JSON on stdin, and print a line of JSON for each that fails.

    PYTHONPATH=ENVIRONMENT python -S run_snippets.py < BLOCKS

Runs in environments with old libraries. Each group of blocks shares its names, as on one page.
"""

import json
import os
import sys
import traceback


def main():
    for group in json.load(sys.stdin):
        names = {"__name__": "__main__"}
        for block in group:
            try:
                exec(compile(block, "<snippet>", "exec"), names)
            except BaseException as error:  # noqa: BLE001 - whatever a reader would see
                traceback.print_exc()
                message = f"{type(error).__name__}: {error}"[:500]
                print(json.dumps({"error": message, "block": block}), flush=True)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # all is printed; old libraries abort a process whose threads still end
