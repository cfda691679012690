"""Shard files in a bucket: an object for each stage and shard, written by one conditional PUT."""

import errno
import io
import json
import re
from collections.abc import Callable
from typing import Annotated, Any, BinaryIO

from pydantic import Field

from builder.core.fields import BUCKET, URL, Section
from builder.core.files import parse_json
from builder.core.folder import INDEX
from builder.core.objects import Conflict, ObjectFile, Objects, Seen

SHARD = re.compile(r"([^./][^/]*)/([^./][^/]*)\.parquet")
"""Path of a shard: its stage and its name, neither of them hidden."""

INDEX_TRIES = 5
"""Most tries to merge what this command knows into an index that others write at the same time."""


class StoreSection(Section):
    """``[store]``: a bucket for what else would lie beside the recipe; none by default."""

    url: Annotated[str, Field(pattern=BUCKET)] = ""
    endpoint: Annotated[str, Field(pattern=URL)] = ""
    """Address of a service that speaks S3 and is not Amazon's."""


class Bucket:
    """``URL/<stage>/<shard>.parquet``. No rename, no lock, no time: an object is whole or absent,
    and its ETag and size say whether it is still the one that was read.

    The bucket is listed once, at the first question; afterwards a shard is known as it was then, as
    this command wrote it, or as `look` saw it. An object that turned out corrupt is made empty.
    """

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self._listed: dict[str, dict[str, Seen]] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return (Bucket, (self.objects,))

    def __str__(self) -> str:
        return self.objects.url

    @property
    def _shards(self) -> dict[str, dict[str, Seen]]:
        if self._listed is None:
            listed: dict[str, dict[str, Seen]] = {}
            for path, seen in self.objects.list():
                is_shard = SHARD.fullmatch(path)
                if is_shard:
                    listed.setdefault(is_shard[1], {})[is_shard[2]] = seen
            self._listed = listed
        return self._listed

    def stages(self) -> list[str]:
        return sorted(self._shards)

    def shards(self, stage: str) -> list[str]:
        return sorted(self._shards.get(stage, ()))

    def identity(self, stage: str, shard: str) -> list[Any]:
        seen = self._seen(stage, shard)
        return [seen.etag, seen.size]

    def look(self, stage: str, shard: str) -> None:
        self._note(stage, shard, self.objects.head(_path(stage, shard)))

    def refresh(self, stage: str) -> None:
        """Nothing to do: `look` asks the service itself."""

    def open(self, stage: str, shard: str) -> Any:
        return self.objects.open(_path(stage, shard), self._seen(stage, shard))

    source = open

    def identity_of(self, file: ObjectFile) -> list[Any]:
        return [file.seen.etag, file.seen.size]

    def was_touched(self, file: ObjectFile, written: int) -> bool:
        """Never: nobody can change an object without another ETag."""
        return False

    def trust(self, file: ObjectFile, written: int) -> None:
        """Nothing to do."""

    def distrust(self, stage: str, shard: str) -> None:
        try:
            seen = self.objects.put(_path(stage, shard), b"", self._seen(stage, shard))
        except Conflict:
            self.look(stage, shard)  # replaced already
        else:
            self._note(stage, shard, seen)

    def write(
        self, stage: str, shard: str, write: Callable[[BinaryIO], None], written: int
    ) -> None:
        """Raises Conflict when the object is not the one that was seen; what it is now is noted."""
        buffer = io.BytesIO()
        write(buffer)
        path = _path(stage, shard)
        try:
            seen = self.objects.put(path, buffer.getvalue(), self._shards.get(stage, {}).get(shard))
        except Conflict:
            self.look(stage, shard)
            raise
        self._note(stage, shard, seen)

    def remove(self, stage: str, shard: str) -> None:
        self.objects.remove(_path(stage, shard))
        self._note(stage, shard, None)

    def sweep(self, stage: str) -> int:
        """Nothing is ever left unfinished."""
        return 0

    def read_index(self, stage: str) -> Any:
        return parse_json(self.objects.get(f"{INDEX}/{stage}.json"))

    def write_index(self, stage: str, index: dict[str, Any]) -> None:
        """Entries of shards that this command did not look at stay as others wrote them."""
        path = f"{INDEX}/{stage}.json"
        for _ in range(INDEX_TRIES):
            there = self.objects.head(path)
            merged = index
            try:
                if there is not None:
                    others = parse_json(self.objects.get(path, there))
                    present = self._shards.get(stage, {})
                    merged = {k: v for k, v in others.items() if k in present} | index
                self.objects.put(path, json.dumps(merged).encode(), there)
            except (Conflict, FileNotFoundError):
                continue
            except (ValueError, AttributeError):  # no index of ours
                self.objects.overwrite(path, json.dumps(index).encode())
            return

    def _seen(self, stage: str, shard: str) -> Seen:
        try:
            return self._shards[stage][shard]
        except KeyError:
            place = f"{self.objects.url}/{_path(stage, shard)}"
            raise FileNotFoundError(errno.ENOENT, "no such object", place) from None

    def _note(self, stage: str, shard: str, seen: Seen | None) -> None:
        if seen is not None:
            self._shards.setdefault(stage, {})[shard] = seen
        elif stage in self._shards:
            self._shards[stage].pop(shard, None)
            if not self._shards[stage]:
                del self._shards[stage]


def _path(stage: str, shard: str) -> str:
    return f"{stage}/{shard}.parquet"
