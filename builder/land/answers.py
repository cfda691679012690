"""What a model wrote → the caption in it: without thinking, markers, fences and further turns.

Chat templates and servers leave marks in a model's answer. `clean` knows the forms in use, counts
what it cuts, and calls an answer unclear that holds more than it understands: an error of its row,
never a guess. A text without such marks comes back unchanged, letter by letter.
"""

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

THINKING, MARKS, TOKENS = "thinking_cut", "answer_marks_cut", "special_tokens_cut"
FENCES, TURNS = "fences_cut", "further_turns_cut"
"""What is cut, by the names under which a summary counts the captions concerned."""

_THOUGHTS = (
    r"<\s*/?\s*(?:think|thinking|thought|thoughts|reasoning|reflection|analysis|scratchpad"
    r"|inner_monologue|seed:think|seed:cot_budget_reflect|longcat_think)\s*>"
    r"|◁/?think▷|\[/?THINK(?:ING)?\]"
    r"|<\|(?:begin_of_thought|end_of_thought|START_THINKING|END_THINKING|begin_of_thinking"
    r"|end_of_thinking|thinking_start|thinking_end|think_start|think_end)\|>"
    r"|</?\|/?(?:think|thinking|thought|thoughts|reasoning|analysis)\|>"
)
_THOUGHT = re.compile(_THOUGHTS, re.IGNORECASE)
_ENDS_THOUGHT = re.compile(r"[</◁\[|]+\s*/|end|finish", re.IGNORECASE)
"""What the mark at the end of a thought has and that at its beginning has not."""
_BARE_CHANNEL = re.compile(r"\A\s*(?:analysis|commentary).*assistantfinal", re.DOTALL)
"""Harmony channels whose marks were dropped as special tokens."""
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)[^<]*<\|message\|>", re.IGNORECASE)

_NAMES = "answer|final_answer|final|response|output|result|caption|description|solution"
_OPEN = re.compile(
    rf"<\s*(?:{_NAMES})\s*>|\[(?:ANSWER|RESPONSE)\]"
    r"|<\|(?:begin_of_box|begin_of_solution|START_RESPONSE|begin_of_answer|start_of_answer)\|>"
    r"|\$?\\boxed\{(?:\\text\{)?",
    re.IGNORECASE,
)
_CLOSE = re.compile(
    rf"<\s*/\s*(?:{_NAMES})\s*>|\[/(?:ANSWER|RESPONSE)\]"
    r"|<\|(?:end_of_box|end_of_solution|END_RESPONSE|end_of_answer)\|>"
    r"|\}?\}\$?\s*\.?\s*\Z",
    re.IGNORECASE,
)

_TOKEN = (
    r"<\|[^\s<>|][^<>|\n]{0,40}\|>|<｜[^<>｜\n]{1,40}｜>|</?s>|<(?:bos|eos|pad|unk|mask|sep|cls)>"
    r"|<(?:start|end)_of_(?:turn|image|text)>|<(?:end|start)_of_utterance>|\[/?INST\]|<</?SYS>>"
    r"|\[(?:PAD|CLS|SEP|UNK|EOS|BOS)\]"
)
_SPEAKER = r"(?:assistant|model|user|human|system|ai|bot|gpt|tool)"
_ENDS_TURN = re.compile(
    r"<\|(?:im_end|eot_id|eom_id|end|return|call|endoftext|end_of_text|end_of_turn"
    r"|END_OF_TURN_TOKEN|user|im_start|start|start_header_id)\|>"
    r"|<(?:end_of_turn|start_of_turn|end_of_utterance|eos)>|</s>|\[INST\]|\[EOS\]"
    r"|<｜(?:end▁of▁sentence|User)｜>"
)
_HEADER = re.compile(
    rf"(?:<\|(?:im_start|start|start_header_id|role_start)\|>|<start_of_turn>)\s*{_SPEAKER}\b"
    r"\s*(?:<\|(?:end_header_id|message|im_sep|role_end)\|>)?",
    re.IGNORECASE,
)
"""The beginning of a turn, with its speaker's name."""
_LABEL = re.compile(r"\A\s*(?:assistant\s*:|### ?(?:response|answer|caption)\b\s*:?)\s*", re.I)
_NEXT = re.compile(
    r"(?:\n|\A)\s*(?:(?:user|human|assistant|system)\s*:(?:\s|$)"
    r"|###\s*(?:instruction|input|question|user|human|assistant|system|response)\b)",
    re.IGNORECASE,
)
"""A further turn in plain letters, on a line of its own."""
_FENCE = re.compile(r"(?:```|~~~)[ \t]*[\w+-]*[ \t]*\n?(.*?)\n?[ \t]*(?:```|~~~)", re.DOTALL)
_LEFT = re.compile(
    rf"{_THOUGHTS}|{_TOKEN}|<\|[\w/]|[\w/]\|>|◁|▷|```|~~~|&lt;/?[a-z]|\\boxed|\[/?(?:THINK|ANSWER|INST)"
    r"|</?[a-z][\w:-]{0,30}\s*/?>|\A\s*\{\s*[\"']|\A\s*\[\s*[\"'{\[].*[\]}]\s*\Z",
    re.IGNORECASE | re.DOTALL,
)
"""Marks that nothing above understood."""
_SIGNS = re.compile(r"[<>|◁▷`~&\\\[{]")
"""Each of `_LEFT` has a sign of these, which are sought in a tenth of the time."""
_KEYS = ("caption", "description", "answer", "text", "response", "final_answer", "output")


@dataclass(frozen=True)
class Cleaned:
    """A caption and what was cut from around it; ``unclear`` says why there is no caption."""

    text: str
    cut: tuple[str, ...] = ()
    unclear: str | None = None


def unclear(cleaned: Cleaned) -> str:
    """Why an answer gives no caption, in words."""
    shown = repr(" ".join(cleaned.text.split())[:60])
    return f"the text cannot be told from {cleaned.unclear}: {shown}"


def clean(text: str, special: Collection[str] = ()) -> Cleaned:
    """The caption in a model's answer; ``special`` are tokens that its tokenizer calls special."""
    special = [token for token in special if re.search(r"[<>\[\]|｜◁▷]", token)]
    if not _suspicious(text, special):
        return Cleaned(text)
    cut: list[str] = []
    steps = (
        (THINKING, _without_channels),
        (THINKING, _without_thinking),
        (TURNS, lambda text: _first_turn(text, special)),
        (MARKS, _inside_marks),
        (FENCES, _without_fences),
        (TOKENS, lambda text: _without_tokens(text, special)),
        (TURNS, _without_next_turn),
        (FENCES, _from_json),
    )
    for name, step in steps:
        rest = step(text)
        if rest is None:
            what = name.removesuffix("_cut").replace("_", " ")
            return Cleaned(text, tuple(dict.fromkeys(cut)), f"its {what}")
        if rest != text:
            cut.append(name)
            text = rest.strip()
    left = _LEFT.search(text)
    return Cleaned(
        text,
        tuple(dict.fromkeys(cut)),
        f"the mark {left[0].strip()!r}" if left else None,
    )


def _suspicious(text: str, special: Collection[str]) -> bool:
    """Whether a text holds anything that is ever cut; most captions hold none."""
    return bool(
        (_SIGNS.search(text) and _LEFT.search(text))
        or _NEXT.search(text)
        or _LABEL.match(text)
        or _BARE_CHANNEL.match(text)
        or any(token in text for token in special)
    )


def _without_channels(text: str) -> str | None:
    """The last message of Harmony's final channel; None where there is another channel only."""
    if bare := _BARE_CHANNEL.match(text):
        return text[bare.end() :]
    channels = list(_CHANNEL.finditer(text))
    if not channels:
        return text
    last = channels[-1]
    return text[last.end() :] if last[1].lower() == "final" else None


def _without_thinking(text: str) -> str | None:
    """What follows the last thought, whose beginning a template may have said; None for a thought
    without an end."""
    marks = list(_THOUGHT.finditer(text))
    if not marks:
        return text
    last = marks[-1]
    return text[last.end() :] if _ENDS_THOUGHT.search(last[0]) else None


def _first_turn(text: str, special: Collection[str]) -> str:
    """What stands before the first mark of a turn's end, past its header and the prompt."""
    text = text[text.rfind("[/INST]") + len("[/INST]") :] if "[/INST]" in text else text
    text = _LABEL.sub("", _HEADER.sub("", text, 1) if _HEADER.match(text.lstrip()) else text, 1)
    text = text.lstrip()
    while (token := _token_at_start(text, special)) is not None:
        text = text[len(token) :].lstrip()
        if header := _HEADER.match(text):
            text = text[header.end() :].lstrip()
    end = _ENDS_TURN.search(text)
    return text[: end.start()] if end and text[: end.start()].strip() else text


def _token_at_start(text: str, special: Collection[str]) -> str | None:
    if match := re.match(_TOKEN, text):
        return None if _OPEN.match(text) else match[0]
    return next((token for token in special if token and text.startswith(token)), None)


def _inside_marks(text: str) -> str:
    """What stands between the last opening mark of an answer and the close that follows it."""
    opened = list(_OPEN.finditer(text))
    if opened:
        text = text[opened[-1].end() :]
    elif not any(close for close in _CLOSE.finditer(text) if close[0].strip("}.$ \n")):
        return text
    closed = _CLOSE.search(text)
    return text[: closed.start()] if closed else text


def _without_fences(text: str) -> str | None:
    """The inside of the only fence; None where there are several, or none that ends."""
    marks = text.count("```") + text.count("~~~")
    if not marks:
        return text
    fences = _FENCE.findall(text)
    return fences[0] if len(fences) == 1 and marks == 2 else None


def _without_tokens(text: str, special: Collection[str]) -> str:
    text = _HEADER.sub(" ", text)
    for token in sorted(special, key=len, reverse=True):
        text = text.replace(token, " ") if token else text
    return re.sub(_TOKEN, " ", text)


def _without_next_turn(text: str) -> str | None:
    """What stands before a further turn; None where nothing does."""
    text = _LABEL.sub("", text, 1)
    further = _NEXT.search(text)
    if not further:
        return text
    return text[: further.start()] if text[: further.start()].strip() else None


def _from_json(text: str) -> str | None:
    """The caption of a JSON answer with one; None for other JSON."""
    stripped = text.strip()
    if not (stripped[:1] in "[{" and stripped[-1:] in "]}"):
        return text
    try:
        value: Any = json.loads(stripped)
    except (ValueError, RecursionError):
        return text
    for _ in range(3):  # {"answer": [{"caption": "…"}]}
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        elif isinstance(value, dict):
            keys = [key for key in _KEYS if key in value]
            value = (
                value[keys[0]] if keys else next(iter(value.values())) if len(value) == 1 else None
            )
    return value if isinstance(value, str) else None
