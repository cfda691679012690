"""Finding models that are not ours: the Hub's local cache, and folders known by their content."""

from collections.abc import Iterable
from pathlib import Path

from builder.errors import ArasError
from builder.files import content_hashes, digest_of, sha256_file


def snapshot(model: str, revision: str, mark: str, what: str) -> Path:
    """The folder of a model of the Hub's local cache, which has the file ``mark``.

    ``what`` says what else ``model`` could have been. Raises ArasError saying how to fetch it.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    revision = revision or "main"
    try:
        found = try_to_load_from_cache(model, mark, revision=revision)
    except HFValidationError as error:
        raise ArasError(f"model {model!r} is neither {what} nor ORG/NAME on the Hub") from error
    if not isinstance(found, str):
        at = f" --revision {revision}" if revision != "main" else ""
        raise ArasError(
            f"model {model} ({revision}) is not on this machine; fetch it first: "
            f"hf download {model}{at} (a gated model wants `hf auth login` before), or give "
            "the path of a folder that holds it (none by this name lies beside dataset.toml)"
        )
    return Path(found).parent


def digest(files: Iterable[Path], base: Path, cache: Path | None) -> str:
    """sha256 over the names (relative to ``base``) and contents of files.

    ``cache`` remembers the digests of files whose size and time have not changed.
    """
    found = sorted(files)
    hashes = (
        content_hashes(found, cache) if cache else {str(one): sha256_file(one) for one in found}
    )
    return digest_of([[one.relative_to(base).as_posix(), hashes[str(one)]] for one in found])
