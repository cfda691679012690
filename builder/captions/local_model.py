"""A transformers model on this machine's CPU or GPU: batches of left-padded chats, answered."""

import contextlib
import importlib.util
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from builder.captions.ask import Ask, weights_of
from builder.captions.base import Answer, Running, answer_of
from builder.core.errors import ArasError, WorkFailed
from builder.core.seeds import generator
from builder.land import prompts
from builder.land.prompts import Request
from builder.models.training import device, single_thread
from builder.models.weights import out_of_memory, refusal


@dataclass(frozen=True)
class Decoding:
    """``temperature`` 0 is greedy; ``top_k`` 0 and ``top_p`` 1 keep every word."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0


def decoding_of(ask: Ask, own: Any) -> Decoding:
    """The decoding that a stream asks for; ``own`` is the model's own generation config."""
    if ask.decoding == "sample":
        return Decoding(ask.temperature, ask.top_p, ask.top_k)
    if ask.decoding == "model" and getattr(own, "do_sample", False):
        given = (own.temperature, own.top_p, own.top_k)
        # transformers fills in these where a generation config that samples leaves them out
        temperature, top_p, top_k = (
            default if value is None else value
            for value, default in zip(given, (1.0, 1.0, 50), strict=True)
        )
        return Decoding(float(temperature), float(top_p), int(top_k))
    return Decoding()


class RowSampler:
    """A logits processor that draws each row's next token from that row's own random numbers.

    One uniform number per row and step picks from the filtered distribution, candidates in
    falling order of probability. Only the chosen token is left with a finite score, so
    greedy search takes it; a row's text then depends on its seed and its logits alone, never on
    its neighbours in the batch.
    """

    def __init__(self, decoding: Decoding, seeds: Sequence[int], steps: int, prompt: int) -> None:
        self.decoding, self.prompt = decoding, prompt
        self.uniform = torch.from_numpy(
            np.stack([generator(seed, "tokens").random(steps, dtype=np.float32) for seed in seeds])
        )

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """``scores`` (rows, vocabulary) → the same shape, −∞ but for the token drawn."""
        step = input_ids.shape[1] - self.prompt
        order, mass = candidates(scores, self.decoding)
        total = mass.cumsum(-1)
        draw = self.uniform[:, step : step + 1].to(scores.device) * total[:, -1:]
        pick = torch.searchsorted(total, draw, right=True)
        # Rounding may push the draw onto the end: take the last candidate with any mass.
        last = (mass > 0).sum(-1, keepdim=True) - 1
        token = order.gather(1, torch.minimum(pick, last))
        return torch.full_like(scores, -torch.inf).scatter_(1, token, 0.0)


class FewLeft:
    """A stopping criterion that ends a batch when at most ``allowed`` rows are still writing.

    Those rows are better written again in a batch of their own than waited for by all others.
    """

    def __init__(self, ends: frozenset[int], prompt: int, allowed: int) -> None:
        self.ends, self.prompt, self.allowed = torch.tensor(sorted(ends)), prompt, allowed

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        """(rows,) bool: true for all rows once few are left, false for all before."""
        ended = torch.isin(input_ids[:, self.prompt :], self.ends.to(input_ids.device)).any(1)
        stop = bool((~ended).sum() <= self.allowed)
        return torch.full((len(input_ids),), stop, device=input_ids.device)


def candidates(scores: Tensor, decoding: Decoding) -> tuple[Tensor, Tensor]:
    """(ids, probabilities), both (rows, k), falling; filtered by temperature, top-k, top-p.

    Nucleus sampling as in Holtzman et al. 2020 (arXiv 1904.09751): the smallest set of tokens
    whose probability reaches top_p. Probabilities outside it are 0; they are not rescaled.
    """
    wide = torch.softmax(scores.float() / decoding.temperature, dim=-1)
    if decoding.top_k:
        mass, order = wide.topk(min(decoding.top_k, wide.shape[-1]), dim=-1)
        mass = mass / mass.sum(-1, keepdim=True)
    else:
        mass, order = wide.sort(dim=-1, descending=True, stable=True)
    if decoding.top_p < 1:
        before = mass.cumsum(-1) - mass
        mass = mass.masked_fill(before >= decoding.top_p, 0.0)
    return order, mass


def end_tokens(network: Any, tokenizer: Any) -> frozenset[int]:
    """Ids of the tokens that end an answer, by the generation config and the tokenizer.

    Raises ArasError for a model without any: whole and cut captions would look the same.
    """
    given = network.generation_config.eos_token_id
    ids = {*(given if isinstance(given, list) else [given]), tokenizer.eos_token_id} - {None}
    if not ids:
        raise ArasError(
            "the model has no end token (eos_token_id), so whole and cut captions look the "
            "same; set it in the model's generation_config.json"
        )
    return frozenset(ids)


def answer_tokens(new: Sequence[int], ends: frozenset[int]) -> list[int] | None:
    """The tokens before the first end token; None when there is none: the answer was cut."""
    end = next((i for i, token in enumerate(new) if token in ends), None)
    return None if end is None else list(new[:end])


LEAST = 8
"""Shared tokens below which reading them once saves nothing."""


def shared(tokens: Tensor, mask: Tensor) -> int:
    """How many tokens all rows begin with, padding aside; each row keeps a token of its own.

    ``tokens`` and ``mask`` (rows, width), padded on the left.
    """
    if len(tokens) < 2:
        return 0
    own = [row[seen.bool()] for row, seen in zip(tokens, mask, strict=True)]
    n = min(map(len, own)) - 1
    alike = torch.stack([row[:n] for row in own]).eq(own[0][:n]).all(0)
    return int(alike.cumprod(0).sum())


def read_once(network: Any, batch: dict[str, Tensor]) -> dict[str, Any]:
    """``batch`` with the keys and values of what its rows share: ``generate`` goes on from there.

    The padding then lies between the shared and the own tokens of a row, which changes no
    position and no width. Returned as it is: where little is shared, and for models whose layers
    see a window of tokens (padding would push the shared tokens out) or more than text.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    tokens, mask = batch["input_ids"], batch["attention_mask"]
    if network.config.get_text_config() is not network.config:
        return batch
    n = shared(tokens, mask)
    cache = DynamicCache(config=network.config)
    if n < LEAST or any(type(layer) is not DynamicLayer for layer in cache.layers):
        return batch
    first = mask[0].argmax()
    prefix = tokens[0, first : first + n]
    network(input_ids=prefix[None], cache=cache, use_cache=True, logits_to_keep=1)
    cache.batch_repeat_interleave(len(tokens))
    padding = (1 - mask).sum(1, keepdim=True)
    place = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    gap = (place >= n) & (place < n + padding)
    moved = tokens.masked_fill(gap, int(prefix[0]))  # any token: nothing attends to a gap
    moved[:, :n] = prefix
    return {
        **batch,
        "input_ids": moved,
        "attention_mask": (~gap).to(mask.dtype),
        "cache": cache,
    }


def load(ask: Ask, running: Running) -> tuple[Any, Any, Any]:
    """Model, tokenizer, and image processor (None for a stream that sees no images), in memory.

    bfloat16 on a GPU and float32 on the CPU unless ``dtype`` says otherwise; left padding.
    Raises ArasError: not there, no chat template, files that do not fit together.
    """
    import transformers

    where = weights_of(ask, running).locate()
    here = device()
    name = ask.dtype if ask.dtype != "auto" else ("bfloat16", "float32")[here.type == "cpu"]
    how: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    source = where
    if where.suffix == ".gguf":
        if importlib.util.find_spec("gguf") is None:
            raise ArasError("a GGUF model needs the package gguf: pip install 'aras[gguf]'")
        source, how["gguf_file"] = where.parent, where.name
    seeing = "image" in ask.sees
    with _loading(ask.model, where):
        architecture = _class(source, seeing, how)
        processor = _processor(source) if seeing else None
        tokenizer = (
            processor.tokenizer
            if processor
            else transformers.AutoTokenizer.from_pretrained(source, **how)
        )
        if not (getattr(processor, "chat_template", None) or tokenizer.chat_template):
            raise ArasError(
                f"{ask.model} has no chat template, so it cannot be asked: it is a base model; "
                "use its instruction-tuned version, or put its chat_template.jinja into the "
                "model's folder"
            )
        tokenizer.padding_side = "left"
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        network = architecture.from_pretrained(
            source, dtype=getattr(torch, name), attn_implementation=running.attention, **how
        )
    return network.to(here).eval(), tokenizer, processor


def _class(source: Path, seeing: bool, how: dict[str, Any]) -> Any:
    """AutoModelForCausalLM where text is enough and the architecture has it."""
    import transformers
    from transformers.models.auto import modeling_auto as auto

    kind = transformers.AutoConfig.from_pretrained(source, **how).model_type
    if seeing and kind not in auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        raise ArasError(
            f"{source}: a {kind} model cannot see images; drop image from sees, or use a "
            "vision-language model"
        )
    if seeing or kind not in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return transformers.AutoModelForImageTextToText
    return transformers.AutoModelForCausalLM


def _processor(source: Path) -> Any:
    """AutoProcessor, or Qwen3-VL's without the video half, which alone wants torchvision."""
    import transformers
    from transformers.models.qwen3_vl import processing_qwen3_vl

    how: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        return transformers.AutoProcessor.from_pretrained(source, **how)
    except (ImportError, OSError, AttributeError):
        kind = transformers.AutoConfig.from_pretrained(source, **how).model_type
        if not kind.startswith("qwen3_vl"):
            raise
    images_only = _image_only(processing_qwen3_vl.Qwen3VLProcessor)
    return images_only.from_pretrained(source, local_files_only=True)


def _image_only(cls: Any) -> Any:
    """``cls`` without its video processor; transformers reads the signature, so it is explicit."""

    class Images(cls):  # type: ignore[misc]
        def __init__(
            self, image_processor: Any = None, tokenizer: Any = None, chat_template: Any = None
        ) -> None:
            super().__init__(image_processor, tokenizer, chat_template=chat_template)

    Images.__name__ = Images.__qualname__ = cls.__name__
    return Images


@contextlib.contextmanager
def _loading(model: str, where: Path) -> Iterator[None]:
    """What transformers raises over bad files, as one clear line; its bars and asides unseen."""
    from transformers.utils import logging

    verbosity, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    # Unpacking a GGUF file draws a bar that no setting turns off.
    hidden = io.StringIO() if where.suffix == ".gguf" else sys.stderr
    try:
        with contextlib.redirect_stderr(hidden):
            yield
    except ArasError:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise ArasError(
                f"{model} does not fit into memory: use a smaller or a quantised model, or "
                'dtype = "bfloat16"; with several workers each loads it (--workers 1)'
            ) from error
        raise refusal(where, "transformers", error) from error
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()


Chat = list[dict[str, Any]]

STRAGGLERS = 8
"""A batch ends when an eighth of its rows still write; they are written again together. A batch
of fewer rows is written to its end."""


class Local:
    """A model loaded from disk; ``caption`` answers requests of any number, in their order.

    On the CPU in float32 a row's text does not depend on the other rows, on their number or on
    the batch size, up to the rounding of batched products: two next tokens would have to be
    likely to within a few millionths of each other. In bfloat16 on a GPU they need less.
    """

    def __init__(self, ask: Ask, running: Running) -> None:
        self.ask, self.running = ask, running
        self.model = ask.model
        self.revision = weights_of(ask, running).digest()
        self.network, self.tokenizer, self.processor = load(ask, running)
        self.ends = end_tokens(self.network, self.tokenizer)
        self.decoding = decoding_of(ask, self.network.generation_config)
        self.network.generation_config = _plain(self.network.generation_config)

    @property
    def prompt(self) -> str:
        return self.ask.instructions

    def caption(self, requests: Sequence[Request]) -> list[Answer]:
        """One answer per request. A row whose prompt or image fails is answered by its error.

        Raises WorkFailed when memory runs out, saying which settings to lower. Uses one CPU
        thread, as every stage does: parallelism is the engine's.
        """
        with single_thread():
            return self._caption(requests)

    def _caption(self, requests: Sequence[Request]) -> list[Answer]:
        answers: list[Answer | None] = [None] * len(requests)
        chats: dict[int, Chat] = {}
        for i, request in enumerate(requests):
            try:
                chats[i] = self._chat(request)
            except (ArasError, OSError, SyntaxError) as error:
                answers[i] = Answer(None, f"{error}")
        # Rows of like length share a batch, so that little of it is padding; the longest come
        # first, so that memory runs out at once or not at all.
        texts = {i: len(self.tokenizer(_words(chat))["input_ids"]) for i, chat in chats.items()}
        order = sorted(chats, key=lambda i: (-texts[i], i))
        while order:
            left = []
            for start in range(0, len(order), self.running.batch):
                part = order[start : start + self.running.batch]
                written = self._batch([chats[i] for i in part], [requests[i].seed for i in part])
                for i, answer in zip(part, written, strict=True):
                    answers[i] = answer
                left += [i for i in part if answers[i] is None]
            order = left
        return [answer for answer in answers if answer is not None]

    def _chat(self, request: Request) -> Chat:
        text = prompts.render(self.ask.prompt, self.ask.sees, request)
        content: Any = text
        if self.processor is not None:
            if request.image is None:
                raise ArasError(f"{request.id}: has no image, which this stream sees")
            with Image.open(io.BytesIO(request.image)) as picture:
                image = picture.convert("RGB")
            content = [{"type": "image", "image": image}, {"type": "text", "text": text}]
        chat: Chat = [{"role": "user", "content": content}]
        if self.ask.system:
            system: Any = self.ask.system
            if self.processor is not None:
                system = [{"type": "text", "text": system}]
            chat.insert(0, {"role": "system", "content": system})
        return chat

    def _batch(self, chats: list[Chat], seeds: list[int]) -> list[Answer | None]:
        """Answers of a batch; None for the last few rows, which another batch will write."""
        try:
            new, lengths = self._generate(chats, seeds)
        except Exception as error:
            if not out_of_memory(error):
                raise
            raise WorkFailed(
                f"out of memory with batch = {self.running.batch}: lower batch or max_new_tokens "
                '(dtype = "bfloat16" halves what float32 takes); several workers on one device '
                "share its memory (--workers 1)"
            ) from error
        return [
            self._answer(row, used)
            for row, used in zip(new.tolist(), lengths.tolist(), strict=True)
        ]

    @torch.inference_mode()
    def _generate(self, chats: list[Chat], seeds: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """(new tokens (rows, steps), prompt tokens (rows,) without the padding)."""
        how: dict[str, Any] = {"padding": True, "padding_side": "left"}
        batch = (self.processor or self.tokenizer).apply_chat_template(
            chats,
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
            **({"processor_kwargs": how} if self.processor else how),
        )
        batch = {
            name: value.to(self.network.device, self.network.dtype)
            if value.is_floating_point()
            else value.to(self.network.device)
            for name, value in batch.items()
        }
        prompt, lengths = batch["input_ids"].shape[1], batch["attention_mask"].sum(1).cpu()
        batch = read_once(self.network, batch)
        steps = self.ask.max_new_tokens
        sampler = []
        if self.decoding != Decoding():
            sampler = [RowSampler(self.decoding, seeds, steps, prompt)]
        out = self.network.generate(
            **batch,
            max_new_tokens=steps,
            do_sample=False,
            use_cache=True,
            eos_token_id=sorted(self.ends),
            pad_token_id=self.tokenizer.pad_token_id,
            logits_processor=sampler,
            stopping_criteria=[FewLeft(self.ends, prompt, len(chats) // STRAGGLERS)],
        )
        return out[:, prompt:].cpu(), lengths

    def _answer(self, new: list[int], prompt: int) -> Answer | None:
        tokens = answer_tokens(new, self.ends)
        if tokens is None and len(new) < self.ask.max_new_tokens:
            return None
        kept = len(new) if tokens is None else len(tokens) + 1
        counts = {"prompt_tokens": prompt, "new_tokens": kept}
        if tokens is None:
            why = f"cut at max_new_tokens = {self.ask.max_new_tokens}, before an end token"
            return Answer(None, why, flawed=True, counts=counts)
        # Special tokens stay: some mark the end of a model's thinking.
        text = self.tokenizer.decode(tokens, skip_special_tokens=False)
        return answer_of(text, counts, self.tokenizer.all_special_tokens)


def _plain(own: Any) -> Any:
    """A generation config without the model's own sampling: decoding is ours."""
    from transformers import GenerationConfig

    return GenerationConfig(
        bos_token_id=own.bos_token_id, eos_token_id=own.eos_token_id, pad_token_id=own.pad_token_id
    )


def _words(chat: Chat) -> str:
    content = chat[-1]["content"]
    return content if isinstance(content, str) else str(content[-1]["text"])
