"""Compute the report of the dose–response experiment again from its committed records.

    python scripts/doses_report.py docs/results/doses

FOLDER holds a folder with study.json and runs.jsonl for each study; the order of the names in
FOLDER/studies.txt is that of the report. Writes report.md, report.html, report.json and plots.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

from builder.core.files import write_json
from builder.experiments import dose_report, dose_study


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, help="where to write instead of FOLDER")
    parser.add_argument("--rule", type=Path, help="where to write the rule of the first study")
    given = parser.parse_args()
    names = (given.folder / "studies.txt").read_text(encoding="utf-8").split()
    studies = {name: dose_study.read(given.folder / name) for name in names}
    out = given.out or given.folder
    out.mkdir(parents=True, exist_ok=True)
    analyses = dose_report.write(out, studies)
    first, *others = (analyses[name] for name in names)
    if given.rule:
        write_json(given.rule, asdict(dose_report.rule(first, others)))
    for line in dose_report.answer(first, others):
        print(line)


if __name__ == "__main__":
    main()
