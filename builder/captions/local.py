"""The transformers backend: batches of left-padded chats, answered on this machine's CPU or GPU."""

import io
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from builder.captions import prefix, prompts
from builder.captions.base import Answer, Request, flaw, tidy
from builder.captions.decoding import (
    Decoding,
    FewLeft,
    RowSampler,
    answer_tokens,
    decoding_of,
    end_tokens,
    out_of_memory,
)
from builder.captions.settings import Ask, Running
from builder.captions.weights import load, revision_of
from builder.errors import ArasError, WorkFailed

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
        self.revision = revision_of(ask, running)
        loaded = load(ask, running)
        self.network, self.tokenizer = loaded.network, loaded.tokenizer
        self.processor, self.device = loaded.processor, loaded.device
        self.ends = end_tokens(self.network, self.tokenizer)
        self.decoding = decoding_of(ask, self.network.generation_config)
        self.network.generation_config = _plain(self.network.generation_config)

    @property
    def prompt(self) -> str:
        return self.ask.told

    def caption(self, requests: Sequence[Request]) -> list[Answer]:
        """One answer per request. A row whose prompt or image fails is answered by its error.

        Raises WorkFailed when memory runs out, saying which settings to lower.
        """
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
                found = self._batch([chats[i] for i in part], [requests[i].seed for i in part])
                for i, answer in zip(part, found, strict=True):
                    answers[i] = answer
                left += [i for i in part if answers[i] is None]
            order = left
        return [one for one in answers if one is not None]

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
        """Answers of one batch; None for the last few rows, which another batch shall write."""
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
            name: value.to(self.device, self.network.dtype)
            if value.is_floating_point()
            else value.to(self.device)
            for name, value in batch.items()
        }
        prompt, lengths = batch["input_ids"].shape[1], batch["attention_mask"].sum(1).cpu()
        batch = prefix.read_once(self.network, batch)
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
            why: str | None = (
                f"cut at max_new_tokens = {self.ask.max_new_tokens}, before an end token"
            )
        else:
            text = tidy(self.tokenizer.decode(tokens, skip_special_tokens=True))
            why = flaw(text)
        if why:
            return Answer(None, why, flawed=True, counts=counts)
        return Answer(text, counts=counts)


def _plain(own: Any) -> Any:
    """A generation config without the model's own sampling: decoding is ours."""
    from transformers import GenerationConfig

    return GenerationConfig(
        bos_token_id=own.bos_token_id, eos_token_id=own.eos_token_id, pad_token_id=own.pad_token_id
    )


def _words(chat: Chat) -> str:
    content = chat[-1]["content"]
    return content if isinstance(content, str) else str(content[-1]["text"])
