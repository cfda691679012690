"""Writes the files of a pull request to mteb for a published release: RELEASE REPO REVISION OUT.

OUT gets the tasks (mteb/tasks/retrieval/eng/), their descriptive statistics
(mteb/descriptive_stats/) as mteb computes them, and the line for mteb's list of tasks. The
pictures are read from RELEASE; the tasks that are written load them from REPO at REVISION.
"""

import json
import re
import sys
from pathlib import Path

from builder.core.files import read_json, write_json, write_text

HUB = "hf://datasets/{}@{}"


def write(release: Path, repo: str, revision: str, out: Path) -> list[Path]:
    """The files written."""
    facts = read_json(release / "benchmark/benchmark.json")
    facts["metadata"]["dataset"] = {"path": repo, "revision": revision}
    facts["metadata"]["reference"] = f"https://huggingface.co/datasets/{repo}"
    word = re.sub(r"\W", "_", facts["release"]["name"]).lower()
    code = (release / "benchmark/task.py").read_text()
    scores = (release / "benchmark/relevance.py").read_text().split('"""', 2)[2]
    shown = ("pictures", "captions", "graded_queries", "metadata", "tasks")
    about = {key: facts[key] for key in shown}
    about["streams"] = {
        name: {"chance_overlap": stream["chance_overlap"]}
        for name, stream in facts["streams"].items()
    }
    code = code.replace("import json\nfrom pathlib import Path\n", "from math import comb\n")
    code = code.replace("from relevance import composition_grades, expected_scores\n", "")
    code = re.sub(r"ROOT = .*\nABOUT = .*\n", lambda _: _constants(repo, revision, about), code)
    body = scores.split("import numpy as np\n", 1)[1]
    code = code.replace("\n\nclass Tiles", f"{body}\n\nclass Tiles", 1)
    code = re.sub(r'^""".*"""', f'"""Retrieval between tiles and captions of {repo}."""', code)
    names = [task["name"] for task in facts["tasks"]]
    code += "".join(f"{name} = type(TASKS[{n}])\n" for n, name in enumerate(names))
    path = out / f"mteb/tasks/retrieval/eng/{word}_retrieval.py"
    write_text(path, code)
    init = out / "line-of-init.txt"
    write_text(init, f"from .{word}_retrieval import {', '.join(sorted(names))}\n")
    return [path, init, *_statistics(release, out)]


def _constants(repo: str, revision: str, about: object) -> str:
    values = json.dumps(about, indent=4).replace(": null", ": None")
    return f'ROOT = "{HUB.format(repo, revision)}"\nABOUT = {values}\n'


def _statistics(release: Path, out: Path) -> list[Path]:
    """What mteb counts of each task, in the files where it looks for them."""
    sys.path.insert(0, str(release / "benchmark"))
    from task import TASKS

    written = []
    for task in TASKS:
        task.load_data()
        by_subset = {
            name: task._calculate_descriptive_statistics_from_split("test", hf_subset=name)
            for name in task.hf_subsets
        }
        path = out / f"mteb/descriptive_stats/Image/Any2AnyRetrieval/{task.metadata.name}.json"
        write_json(path, {"test": {"hf_subset_descriptive_stats": by_subset}})
        written.append(path)
    return written


if __name__ == "__main__":
    if len(sys.argv) != 5:
        raise SystemExit(__doc__)
    for path in write(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4])):
        print(path)
