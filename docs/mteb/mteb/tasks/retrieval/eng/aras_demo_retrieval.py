"""Retrieval between tiles and captions of OWNER/NAME."""

from math import comb

import numpy as np
from datasets import load_dataset
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata

ROOT = "hf://datasets/OWNER/NAME@REVISION"
ABOUT = {
    "pictures": [
        "real/test-00000-of-00001.parquet"
    ],
    "captions": [
        "benchmark/captions.parquet"
    ],
    "graded_queries": 5000,
    "metadata": {
        "dataset": {
            "path": "OWNER/NAME",
            "revision": "REVISION"
        },
        "reference": "https://huggingface.co/datasets/OWNER/NAME",
        "type": "Any2AnyRetrieval",
        "modalities": [
            "text",
            "image"
        ],
        "eval_splits": [
            "test"
        ],
        "eval_langs": {
            "dominant": [
                "eng-Latn"
            ],
            "composition": [
                "eng-Latn"
            ],
            "layout": [
                "eng-Latn"
            ],
            "full": [
                "eng-Latn"
            ],
            "absence": [
                "eng-Latn"
            ],
            "all": [
                "eng-Latn"
            ]
        },
        "date": [
            "2026-12-01",
            "2026-12-01"
        ],
        "domains": [
            "Scene"
        ],
        "task_subtypes": [
            "Image Text Retrieval",
            "Cross-Modal Retrieval"
        ],
        "license": "cc-by-4.0",
        "annotations_creators": "derived",
        "dialect": [],
        "sample_creation": "created",
        "bibtex_citation": ""
    },
    "tasks": [
        {
            "name": "ArasDemoT2IRetrieval",
            "protocol": "S",
            "way": "t2i",
            "description": "Retrieve satellite tiles by caption: only the tile that a caption was written for is right.",
            "main_score": "R_at_10"
        },
        {
            "name": "ArasDemoI2TRetrieval",
            "protocol": "S",
            "way": "i2t",
            "description": "Retrieve captions by satellite tile: only the tile that a caption was written for is right.",
            "main_score": "R_at_10"
        },
        {
            "name": "ArasDemoMergedT2IRetrieval",
            "protocol": "D",
            "way": "t2i",
            "description": "Retrieve satellite tiles by caption: equal captions are one caption, which belongs to all their tiles.",
            "main_score": "R_at_10"
        },
        {
            "name": "ArasDemoMergedI2TRetrieval",
            "protocol": "D",
            "way": "i2t",
            "description": "Retrieve captions by satellite tile: equal captions are one caption, which belongs to all their tiles.",
            "main_score": "R_at_10"
        },
        {
            "name": "ArasDemoGradedT2IRetrieval",
            "protocol": "C",
            "way": "t2i",
            "description": "Retrieve satellite tiles by caption: tiles are graded 0 to 100 by the land cover they share with the query's.",
            "main_score": "expected_ndcg_at_10"
        },
        {
            "name": "ArasDemoGradedI2TRetrieval",
            "protocol": "C",
            "way": "i2t",
            "description": "Retrieve captions by satellite tile: tiles are graded 0 to 100 by the land cover they share with the query's.",
            "main_score": "expected_ndcg_at_10"
        }
    ],
    "streams": {
        "dominant": {
            "chance_overlap": 0.3945754613631811
        },
        "composition": {
            "chance_overlap": 0.3945754613631811
        },
        "layout": {
            "chance_overlap": 0.3945754613631811
        },
        "full": {
            "chance_overlap": 0.3945754613631811
        },
        "absence": {
            "chance_overlap": 0.3945754613631811
        },
        "all": {
            "chance_overlap": 0.3945754613631811
        }
    }
}

KS = (1, 5, 10)
TOLERANCE = 1e-6
"""Scores this near to each other are a tie."""


def composition_grades(sides, tiles, base, most, t2i):
    """Query → item → grade 1 … 100, by the share of their classes that two tiles have in common.

    ``sides`` are (id, tile) of captions and of tiles. An overlap of 0.95 is the same scene and has
    100, ``base`` is what two random tiles share and has 0. Of more than ``most`` queries a sample
    is asked, the one that `aras bench retrieval` draws.
    """
    pixels = np.array([list(counts.values()) for counts in tiles["pixels"]])
    share = (pixels / np.maximum(pixels.sum(1, keepdims=True), 1)).astype(np.float32)
    place = {tile: row for row, tile in enumerate(tiles["id"])}
    draw = np.random.default_rng(0)
    asked = [
        np.sort(draw.choice(len(side), most, replace=False)) if len(side) > most else slice(None)
        for side in sides
    ]
    queries, shown = (sides[0][asked[0]], sides[1]) if t2i else (sides[1][asked[1]], sides[0])
    theirs = share[[place[tile] for _, tile in shown]]
    qrels = {}
    for query, tile in queries:
        overlap = sum(np.minimum(theirs.T, share[place[tile]][:, None])).astype(np.float64)
        grade = np.rint(100 * (overlap - base) / max(1 - base, 1e-9)).clip(0, 99)
        grade[overlap >= 0.95 - TOLERANCE] = 100
        rows = np.flatnonzero(grade)
        qrels[query] = {shown[row][0]: int(grade[row]) for row in rows}
    return qrels


def expected_scores(qrels, results, full):
    """R@K and nDCG@10 as the mean over random orders of tied items, 0 … 1, as aras has them.

    R@K is the share of queries with an item of grade ``full`` among the first K.
    """
    hits, gains = [], []
    weight = 1 / np.log2(np.arange(2, 12))
    for query, scored in results.items():
        grade = np.array([qrels[query].get(item, 0) for item in scored])
        score = np.array(list(scored.values()))
        order = np.argsort(-score)
        grade, score = grade[order], score[order]
        right = grade == full
        best = score[right].max(initial=-np.inf)
        above = int((score[~right] > best + TOLERANCE).sum())
        tied = right[np.abs(score - best) <= TOLERANCE]
        hits.append([credit(k - above, int((~tied).sum()), int(tied.sum())) for k in KS])
        group = np.cumsum(np.diff(score, prepend=score[:1]) < -TOLERANCE)
        mean = (np.bincount(group, grade) / np.bincount(group))[group][:10]
        ideal = np.sort(list(qrels[query].values()))[::-1][:10]
        gains.append((mean @ weight[: len(mean)]) / (ideal @ weight[: len(ideal)]))
    scores = {f"R_at_{k}": float(hit) for k, hit in zip(KS, np.mean(hits, axis=0), strict=True)}
    return {**scores, "expected_ndcg_at_10": float(np.mean(gains))}


def credit(places, wrong, right):
    """Chance that of ``right`` and ``wrong`` tied items a right item is among ``places`` first."""
    if places <= 0 or not right:
        return 0.0
    return 1 - comb(wrong, min(places, wrong + 1)) / comb(wrong + right, min(places, wrong + 1))


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
ArasDemoT2IRetrieval = type(TASKS[0])
ArasDemoI2TRetrieval = type(TASKS[1])
ArasDemoMergedT2IRetrieval = type(TASKS[2])
ArasDemoMergedI2TRetrieval = type(TASKS[3])
ArasDemoGradedT2IRetrieval = type(TASKS[4])
ArasDemoGradedI2TRetrieval = type(TASKS[5])
