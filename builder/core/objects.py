"""Objects in a bucket, by obstore: conditional writes, ranges, lists, and errors in one line."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from builder.core.errors import ArasError, RunEnded
from builder.core.escape import terminal
from builder.core.range_file import RangeFile

SCHEMES = ("s3", "gs", "az")
"""Services that obstore speaks with conditional writes."""

PAGE = 1000
"""Objects that one list request returns."""

CONNECT, REQUEST = "10s", "120s"
"""Time to connect, and of one request with its answer: a bucket that trickles ends with it."""
RETRIES, RETRY_SECONDS, RETRY_WAIT = 6, 240, 0.1
"""Most retries of a request, all their seconds, and the first wait between them."""


class Conflict(ArasError):
    """An object is not what the writer took it for: another wrote it meanwhile."""


@dataclass(frozen=True)
class Seen:
    """What a list says of an object. ``etag`` differs once its bytes do."""

    size: int
    etag: str
    version: str | None = None


class Objects:
    """The objects under a URL such as ``s3://bucket/prefix``. Picklable; opens at the first call.

    Keys and regions come from the environment, as the services' own tools read them
    (AWS_ACCESS_KEY_ID …), never from the recipe. ``endpoint`` is the address of a service that
    speaks S3 but is not Amazon's. Each call raises ArasError in one line, and RunEnded where the
    service refuses the keys: nothing else would be let in.
    """

    def __init__(self, url: str, endpoint: str = "") -> None:
        self.url, self.endpoint = url.rstrip("/"), endpoint
        scheme, separator, rest = self.url.partition("://")
        if not separator or scheme not in SCHEMES or not rest.strip("/"):
            raise ArasError(
                f"{terminal(url)}: expected the address of a bucket, such as s3://BUCKET/PREFIX, "
                f"with one of {', '.join(f'{name}://' for name in SCHEMES)}"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        return (Objects, (self.url, self.endpoint))

    @cached_property
    def _client(self) -> Any:
        store = _library().store
        endpoint = self.endpoint or os.environ.get("AWS_ENDPOINT_URL", "")
        options: dict[str, Any] = {"connect_timeout": CONNECT, "timeout": REQUEST}
        options |= {"allow_http": endpoint.startswith("http://")}
        config = {"endpoint": self.endpoint} if self.endpoint else {}
        with self._errors(""):
            retries: Any = {
                "max_retries": RETRIES,
                "retry_timeout": timedelta(seconds=RETRY_SECONDS),
            }
            return store.from_url(
                self.url, config=config, client_options=options, retry_config=retries
            )

    def below(self, prefix: str) -> "Objects":
        return Objects(f"{self.url}/{prefix}", self.endpoint)

    def list(self, prefix: str = "") -> Iterator[tuple[str, Seen]]:
        """(path, what is seen of it) of every object under ``prefix``; a request per 1,000."""
        obstore = _library()
        with self._errors(prefix):
            for page in obstore.list(self._client, prefix or None, chunk_size=PAGE):
                for entry in page:
                    yield entry["path"], _seen(entry)

    def head(self, path: str) -> Seen | None:
        """None where there is no such object."""
        obstore = _library()
        try:
            with self._errors(path):
                return _seen(obstore.head(self._client, path))
        except FileNotFoundError:
            return None
        except ArasError:
            next(self.list(path), None)  # an answer to HEAD has no text: a list says why
            raise

    def get(self, path: str, seen: Seen | None = None) -> bytes:
        """A whole object. Raises FileNotFoundError; Conflict when it is no longer as ``seen``."""
        return self._get(path, {"if_match": seen.etag} if seen else {})

    def range(self, path: str, start: int, end: int, seen: Seen) -> bytes:
        """Bytes ``start`` to ``end`` (excluded) of an object that is still as ``seen``."""
        return self._get(path, {"if_match": seen.etag, "range": (start, end)})

    def _get(self, path: str, options: dict[str, Any]) -> bytes:
        obstore = _library()
        with self._errors(path):
            return bytes(obstore.get(self._client, path, options=options).bytes())

    def put(self, path: str, data: bytes, replaces: Seen | None) -> Seen:
        """Write an object in one request: a new one, or in the place of that ``replaces``.

        Raises Conflict when it is not what was seen, and changes nothing then.
        """
        obstore = _library()
        mode: Any = "create"
        if replaces is not None:
            if self.url.startswith("gs:") and replaces.version is None:
                replaces = self.head(path) or replaces  # Google's condition is the generation
            mode = {"e_tag": replaces.etag}
            if replaces.version is not None:
                mode["version"] = replaces.version
        with self._errors(path):
            done = obstore.put(self._client, path, data, mode=mode, use_multipart=False)
        return Seen(len(data), done["e_tag"] or "", done["version"])

    def overwrite(self, path: str, data: bytes) -> Seen:
        """Write an object, whatever is there."""
        obstore = _library()
        with self._errors(path):
            done = obstore.put(self._client, path, data, use_multipart=False)
        return Seen(len(data), done["e_tag"] or "", done["version"])

    def send(self, path: str, file: Path) -> Seen:
        """Write an object from a file of any size, in parts where it is large."""
        obstore = _library()
        with self._errors(path):
            done = obstore.put(self._client, path, file)
        return Seen(file.stat().st_size, done["e_tag"] or "", done["version"])

    def remove(self, path: str) -> None:
        """Remove an object, if it is there."""
        obstore = _library()
        with contextlib.suppress(FileNotFoundError), self._errors(path):
            obstore.delete(self._client, path)

    def open(self, path: str, seen: Seen) -> "ObjectFile":
        """A file that reads ranges of an object, as long as it is still as ``seen``."""
        return ObjectFile(self, path, seen)

    @contextlib.contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        errors = _library().exceptions
        place = f"{self.url}/{path}".rstrip("/")
        try:
            yield
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, "no such object", place) from error
        except (errors.AlreadyExistsError, errors.PreconditionError) as error:
            raise Conflict(f"{place}: another command wrote it meanwhile; run again") from error
        except (errors.BaseError, OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno:
                raise
            refused = (errors.PermissionDeniedError, errors.UnauthenticatedError)
            if isinstance(error, refused) or _REFUSED.search(str(error)):
                raise RunEnded(
                    f"{place}: the service refuses these keys{_code(error)}; check or renew the "
                    "keys in the environment, and run the command again: what was made is kept"
                ) from error
            raise ArasError(
                f"{place}: {_reason(error)}; run the command again: what was made is kept"
            ) from error


class ObjectFile(RangeFile):
    """An object as it was ``seen``. Raises Conflict when it was replaced since."""

    def __init__(self, objects: Objects, path: str, seen: Seen) -> None:
        super().__init__(seen.size, lambda start, end: objects.range(path, start, end, seen))
        self.seen = seen


def _library() -> Any:
    try:
        import obstore.exceptions
        import obstore.store
    except ImportError as error:
        raise ArasError("a bucket needs obstore: pip install 'aras[bucket]'") from error
    return obstore


_REFUSED = re.compile(r"status code: 40[13]\b|<Code>(Expired|TokenRefresh|RequestExpired)")
"""An answer that no later request with the same keys would get better, however it is typed."""


def _seen(entry: Any) -> Seen:
    return Seen(entry["size"], entry["e_tag"] or "", entry["version"])


def _code(error: BaseException) -> str:
    """The service's own word for a refusal, in brackets; empty where it has none."""
    code = re.search(r"<Code>(\w{1,60})</Code>", str(error))
    return f" ({code[1]})" if code else ""


def _reason(error: BaseException) -> str:
    """The first line of an error, without the address (which may be signed) and what debuggers
    want."""
    text = str(error).split("Debug source", 1)[0].split("\n", 1)[0]
    text = re.sub(r"https?://[^\s?]*(\?\S*)?", "the service", text.split("<", 1)[0])
    return terminal(text)[:200].strip(" -:") + _code(error)
