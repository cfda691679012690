"""What a model's stream is asked for (its identity) and how it is run (its speed)."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ask:
    """All that decides a model's texts; the fields enter the stage's key.

    ``decoding`` is greedy, sample (by ``temperature``, ``top_p``, ``top_k``; 0 is no top-k), or
    model: what the model's own generation_config.json (or the server) does. A text that is
    flawed, or less grounded than ``min_grounding``, is written again, ``attempts`` times in all;
    then the template's ``fallback`` style stands in, or the row fails.
    """

    model: str
    prompt: str
    sees: tuple[str, ...]
    revision: str = ""
    system: str = ""
    decoding: str = "greedy"
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int = 100
    dtype: str = "auto"
    attempts: int = 1
    min_grounding: float = 0.0
    fallback: str = ""
    extra: str = "{}"
    """More keys of a server's request body, as canonical JSON."""

    @property
    def told(self) -> str:
        """The prompt's templates, for the digest that every caption carries."""
        return f"{self.system}\n\n{self.prompt}" if self.system else self.prompt


@dataclass(frozen=True)
class Running:
    """What changes the speed, the cost or the place of the work, but not its result."""

    path: Path | None = None
    """Folder or GGUF file of a local model; None for one of the Hub's cache."""
    cache: Path | None = None
    """Where the digests of a local model's files are remembered."""
    batch: int = 16
    attention: str = "sdpa"
    base_url: str = ""
    api_key_env: str = ""
    concurrency: int = 8
    timeout: float = 120.0
    retries: int = 5
    image_tokens: int = 258
    price: tuple[float, float] | None = None
    """Of a million tokens, input and output, in any currency."""
    lexicon: Path | None = None
    """Laid over the built-in lexicon that a text's grounding is judged with."""
    answers: tuple[Path, ...] = ()
    """Result files of an offline batch, read instead of asking the server."""
