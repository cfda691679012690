"""Baselines without a vision model against figures worked by hand."""

import math

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from builder.core.errors import ArasError
from builder.retrieval.blind import bm25, composition_vectors, random_vectors, sentences, tf_idf
from builder.retrieval.protocol import About, evaluate

DOCUMENTS = ["forest and water", "forest forest road", "bare ground"]


def test_random_vectors_belong_to_names_not_to_places():
    a, b = random_vectors(["x", "y"]), random_vectors(["y", "x"])
    np.testing.assert_array_equal(a, b[::-1])
    np.testing.assert_allclose(np.linalg.norm(a, axis=1), 1, rtol=1e-6)
    assert not np.allclose(a, random_vectors(["x", "y"], seed=1))


def test_composition_vectors_give_the_bhattacharyya_coefficient():
    x = composition_vectors([[1, 0, 0, 0, 0, 0, 0], [0.5, 0.5, 0, 0, 0, 0, 0]])
    np.testing.assert_allclose(x @ x.T, [[1, math.sqrt(0.5)], [math.sqrt(0.5), 1]], atol=1e-6)


def test_bm25_follows_its_formula():
    documents, queries = bm25(DOCUMENTS, ["forest road", "forest"])
    score = (queries @ documents.T).toarray()

    def term(tf, having, length):
        idf = math.log(1 + (3 - having + 0.5) / (having + 0.5))
        return idf * tf * 2.5 / (tf + 1.5 * (0.25 + 0.75 * length / (8 / 3)))

    first = np.array([term(1, 2, 3), term(2, 2, 3) + term(1, 1, 3)])
    np.testing.assert_allclose(score[0, 0] / score[0, 1], first[0] / first[1], rtol=1e-5)
    assert score[0, 2] == 0
    np.testing.assert_allclose(score[1, 0] / score[1, 1], term(1, 2, 3) / term(2, 2, 3), rtol=1e-5)
    assert np.linalg.norm(documents.toarray(), axis=1).max() == pytest.approx(1, rel=1e-6)


def test_tf_idf_finds_the_document_itself():
    documents, queries = tf_idf(DOCUMENTS, [*DOCUMENTS[::-1], "unheard"])
    score = (queries @ documents.T).toarray()
    assert score[:3].argmax(1).tolist() == [2, 1, 0]
    np.testing.assert_allclose(score[[0, 1, 2], [2, 1, 0]], 1, atol=1e-6)
    assert not score[3].any()


def test_sparse_vectors_have_the_figures_of_dense_ones():
    rng = np.random.default_rng(0)
    words = np.array(["forest", "water", "road", "field", "rock", "town", "sand", "grass"])
    documents = [" ".join(words[rng.integers(0, 8, 6)]) for _ in range(60)]
    owner = np.repeat(np.arange(60), 2)
    captions = [" ".join(rng.permutation(documents[i].split())[:4]) for i in owner]
    captions[-1] = "unheard"
    about = About(captions=captions, compositions=rng.dirichlet(np.ones(7), 60))
    for method in (bm25, tf_idf):
        images, texts = method(documents, captions)
        sparse, dense = (
            evaluate(x, y, owner, about, resamples=20).as_json()
            for x, y in ((images, texts), (images.toarray(), texts.toarray()))
        )
        assert 0 < dense["S"]["t2i"]["R@1"] < 100
        for name in ("S", "D"):
            for way in ("t2i", "i2t"):
                assert sparse[name][way] == pytest.approx(dense[name][way])
        assert sparse["C"]["nDCG@10"] == pytest.approx(dense["C"]["nDCG@10"])


def test_proxies_without_words_are_refused():
    with pytest.raises(ArasError, match="no words to search"):
        bm25(["", " "], ["forest"])


def test_sentence_vectors_are_the_mean_over_tokens_at_any_batch_size(tmp_path):
    words = ["<pad>", "<unk>", "forest", "and", "water", "road", "bare", "ground"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>"
    ).save_pretrained(tmp_path)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    model = BertModel(config).eval()
    model.save_pretrained(tmp_path)
    vectors, _ = sentences(str(tmp_path), DOCUMENTS)
    alone, _ = sentences(str(tmp_path), DOCUMENTS, batch=1)
    np.testing.assert_allclose(vectors, alone, atol=1e-5)
    with torch.no_grad():
        hidden = model(input_ids=torch.tensor([[6, 7]])).last_hidden_state[0].mean(0).numpy()
    np.testing.assert_allclose(vectors[2], hidden / np.linalg.norm(hidden), atol=1e-5)
    with pytest.raises(ArasError, match="no such model folder"):
        sentences(str(tmp_path / "nothing"), DOCUMENTS)
