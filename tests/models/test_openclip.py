"""OpenCLIP weights in transformers' CLIP: names and shapes turned back, features kept."""

import huggingface_hub
import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from builder.core.errors import ArasError
from builder.models import clip, openclip, weights
from builder.models.freshness import retriever_identity
from builder.models.settings import RetrieverSettings
from builder.retrieval.benchmark import Model
from tests.makers.tiny_clip import tiny_clip


@pytest.fixture
def model():
    tower = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
           "num_attention_heads": 1, "hidden_act": "gelu"}  # fmt: skip
    torch.manual_seed(0)
    text = {**tower, "vocab_size": 50, "max_position_embeddings": 12, "eos_token_id": 2,
            "bos_token_id": 1}  # fmt: skip
    vision = {**tower, "image_size": 16, "patch_size": 8}
    clip_model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24))
    for weight in clip_model.parameters():  # biases too, which start at 0
        torch.nn.init.normal_(weight, std=0.1)
    return clip_model.eval()


def openclip_names(model):
    """The state dict that OpenCLIP has for this model."""
    theirs = {}
    ours = model.state_dict()
    for side, mine in (("visual.", "vision_model"), ("", "text_model")):
        for n in range(2):
            a, b = f"{side}transformer.resblocks.{n}", f"{mine}.encoder.layers.{n}"
            for kind in ("weight", "bias"):
                qkv = [ours[f"{b}.self_attn.{letter}_proj.{kind}"] for letter in "qkv"]
                theirs[f"{a}.attn.in_proj_{kind}"] = torch.cat(qkv)
                for x, y in (("attn.out_proj", "self_attn.out_proj"), ("ln_1", "layer_norm1"),
                             ("ln_2", "layer_norm2"), ("mlp.c_fc", "mlp.fc1"),
                             ("mlp.c_proj", "mlp.fc2")):  # fmt: skip
                    theirs[f"{a}.{x}.{kind}"] = ours[f"{b}.{y}.{kind}"]
    for kind in ("weight", "bias"):
        theirs[f"visual.ln_pre.{kind}"] = ours[f"vision_model.pre_layrnorm.{kind}"]
        theirs[f"visual.ln_post.{kind}"] = ours[f"vision_model.post_layernorm.{kind}"]
        theirs[f"ln_final.{kind}"] = ours[f"text_model.final_layer_norm.{kind}"]
    vision, text = "vision_model.embeddings", "text_model.embeddings"
    return {
        **theirs,
        "visual.class_embedding": ours[f"{vision}.class_embedding"],
        "visual.conv1.weight": ours[f"{vision}.patch_embedding.weight"],
        "visual.positional_embedding": ours[f"{vision}.position_embedding.weight"],
        "visual.proj": ours["visual_projection.weight"].T,
        "token_embedding.weight": ours[f"{text}.token_embedding.weight"],
        "positional_embedding": ours[f"{text}.position_embedding.weight"],
        "text_projection": ours["text_projection.weight"].T,
        "logit_scale": ours["logit_scale"],
        "attn_mask": torch.zeros(12, 12),
    }


def features(model):
    rng = torch.Generator().manual_seed(0)
    pixels = torch.randn(3, 3, 16, 16, generator=rng)
    ids = torch.tensor([[1, 5, 9, 49, 0, 0], [1, 7, 49, 0, 0, 0]])
    with torch.no_grad():
        images = model.get_image_features(pixel_values=pixels).pooler_output
        texts = model.get_text_features(input_ids=ids).pooler_output
    return images, texts


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_file_of_openclip_gives_the_features_of_the_model(model, tmp_path, wrapped):
    weights = openclip_names(model)
    if wrapped:
        weights = {"state_dict": {f"module.{k}": v for k, v in weights.items()}, "epoch": 3}
    torch.save(weights, tmp_path / "a.pt")
    converted = openclip.converted(openclip.weights_of(tmp_path / "a.pt"), "gelu", "a.pt")
    for ours, theirs in zip(features(converted), features(model), strict=True):
        torch.testing.assert_close(ours, theirs)
    other = openclip.converted(openclip.weights_of(tmp_path / "a.pt"), "quick_gelu", "a.pt")
    assert not torch.allclose(features(other)[0], features(model)[0])


def test_other_weights_are_refused_by_name(model, tmp_path):
    weights = openclip_names(model)
    del weights["ln_final.bias"]
    with pytest.raises(ArasError, match=r"text_model\.final_layer_norm\.bias"):
        openclip.converted(weights, "gelu", "a.pt")
    torch.save({"fc.weight": torch.ones(2)}, tmp_path / "b.pt")
    with pytest.raises(ArasError, match=r"b\.pt: has no visual\.conv1\.weight"):
        openclip.converted(openclip.weights_of(tmp_path / "b.pt"), "gelu", "b.pt")
    (tmp_path / "c.pt").write_bytes(b"hello")
    with pytest.raises(ArasError, match="not a file of OpenCLIP weights"):
        openclip.weights_of(tmp_path / "c.pt")


def test_pictures_are_prepared_as_clip_was_trained(model, tmp_path, monkeypatch):
    torch.save(openclip_names(model), tmp_path / "a.pt")
    tokenizer = tiny_clip(tmp_path / "tokenizer", ["forest and water"])
    monkeypatch.setattr(openclip, "TOKENIZER", str(tokenizer))
    dual = clip.pretrained(f"openclip:{tmp_path / 'a.pt'}")
    assert (dual.size, dual.tokens) == (16, 12)
    tile = np.full((32, 32, 3), 128, np.uint8)
    ready = dual.processor(images=[tile], return_tensors="pt")["pixel_values"]
    assert ready.shape == (1, 3, 16, 16)
    expected = (128 / 255 - 0.48145466) / 0.26862954
    np.testing.assert_allclose(ready[0, 0].numpy(), expected, atol=1e-4)
    assert weights.identity_of(f"openclip:{tmp_path / 'a.pt'}").endswith(" gelu")
    settings = retriever_identity(
        RetrieverSettings(stream="full", weights=f"openclip:{tmp_path / 'a.pt'}")
    )
    assert settings["weights"]["name"] == "a.pt"


def test_weights_that_are_not_there_say_how_to_get_them(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ArasError, match="hf download chendelong/RemoteCLIP RemoteCLIP-ViT-B-32"):
        clip.pretrained("remoteclip-vit-b-32")
    with pytest.raises(ArasError, match="Zilun/GeoRSCLIP"):
        clip.pretrained("GeoRSCLIP-ViT-B-32")
    with pytest.raises(ArasError, match="no such model folder or file of weights"):
        clip.pretrained("openclip:/nowhere/a.pt")
    assert Model("openclip:/nowhere/a.pt").label == "a.pt"
