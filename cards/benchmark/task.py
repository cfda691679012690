"""Tasks of mteb on the test tiles of this release; README.md beside it says how to run them."""

import json
from pathlib import Path

import numpy as np
from datasets import load_dataset
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata
from relevance import composition_grades, expected_scores

ROOT = Path(__file__).resolve().parents[1]
ABOUT = json.loads((ROOT / "benchmark/benchmark.json").read_text(encoding="utf-8"))


class Tiles(AbsTaskRetrieval):
    def load_data(self, *args, **kwargs):
        files = [[f"{ROOT}/{name}" for name in ABOUT[part]] for part in ("pictures", "captions")]
        tiles, texts = (load_dataset("parquet", data_files=f, split="train") for f in files)
        self.dataset = {name: {"test": self.part(tiles, texts, name)} for name in self.hf_subsets}
        self.data_loaded = True

    def part(self, tiles, texts, stream):
        """Queries, corpus and relevance of a caption stream, or of all streams together."""
        t2i, every = self.way == "t2i", stream == "all"
        texts = texts.filter(lambda name: every or name == stream, input_columns="stream")
        own = texts.to_pandas()
        tiles = tiles.filter(set(own.tile).__contains__, input_columns="id")
        merged = own.merged_of_all if every else own.merged
        own["shown"] = merged if self.protocol == "D" else own.id
        if self.protocol == "C":
            sides = [own[["id", "tile"]].values, np.array([tiles["id"][:]] * 2).T]
            base = ABOUT["streams"][stream]["chance_overlap"]
            qrels = composition_grades(sides, tiles, base, ABOUT["graded_queries"], t2i)
        else:
            asks, shows = ("shown", "tile") if t2i else ("tile", "shown")
            answers = own.groupby(asks)[shows].agg(list)
            pairs = own[["id" if t2i else "tile", asks]].values
            qrels = {query: dict.fromkeys(answers[key], 1) for query, key in pairs}
        tiles = tiles.select_columns(["id", "image"])
        captions = texts if t2i else texts.filter(set(own.shown).__contains__, input_columns="id")
        captions = captions.select_columns(["id", "text"])
        queries, corpus = (captions, tiles) if t2i else (tiles, captions)
        return {"queries": queries, "corpus": corpus, "relevant_docs": qrels, "top_ranked": None}

    def task_specific_scores(self, scores, qrels, results, **kwargs):
        return expected_scores(qrels, results, 100 if self.protocol == "C" else 1)


def task(name, protocol, way, **words):
    metadata = TaskMetadata(name=name, category=way, **ABOUT["metadata"], **words)
    return type(name, (Tiles,), {"protocol": protocol, "way": way, "metadata": metadata})()


TASKS = [task(**names) for names in ABOUT["tasks"]]
