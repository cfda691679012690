"""Too little memory is said to be that, and never taken for a damaged file."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from builder.core.errors import blame_memory
from builder.core.store import Store
from tests.makers.toy import environment

PROGRAM = """
import json, os, resource, sys
from pathlib import Path
from builder.core.foreign import ForeignParquet
from builder.core.store import Store
from builder.land.pictures import decode_png

folder, what = Path(sys.argv[1]), sys.argv[2]
shard = folder / "work/tiles/real-0.parquet"

def foreign():
    with ForeignParquet(shard) as file:
        file.read()

def touched():
    os.utime(shard)  # its content is hashed again
    assert Store(folder / "work").footer("tiles", "real-0")

reads = {
    "shard": lambda: Store(folder / "work").load("tiles", "real-0"),
    "touched shard": touched,
    "Parquet file": foreign,
    "picture": lambda: decode_png((folder / "picture.png").read_bytes()),
}
ended = []
for megabytes in (0.1, 0.5, 1, 3, 6, 10, 15, 25, 40, 60, 100, 500):
    into, out = os.pipe()
    if not os.fork():
        room = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
        resource.setrlimit(resource.RLIMIT_AS, (room + int(megabytes * 1e6), -1))
        try:
            reads[what]()
            said = "read"
        except MemoryError:
            said = "memory"
        except BaseException as error:
            said = type(error).__name__ + ": " + str(error)[:200]
        os.write(out, said.encode())
        os._exit(0)
    os.close(out)
    ended.append(os.read(into, 500).decode())
    os.wait()
print(json.dumps(ended))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("starved"), np.random.default_rng(0)
    images = [rng.bytes(20_000) for _ in range(1000)]
    table = pa.table({"id": [f"{i}" for i in range(1000)], "image": images})
    Store(folder / "work").write("tiles", "real-0", table, key="k")
    Image.fromarray(np.zeros((4000, 4000, 3), np.uint8)).save(folder / "picture.png")
    return folder


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system has no /proc")
@pytest.mark.parametrize("what", ["shard", "touched shard", "Parquet file", "picture"])
def test_little_memory_is_not_told_as_damage(folder: Path, what: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), what],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ended.returncode == 0, ended.stderr
    outcomes = json.loads(ended.stdout)
    assert outcomes[-1] == "read"
    assert "memory" in outcomes
    assert set(outcomes) <= {"read", "memory"}


def test_a_size_that_only_damage_claims_is_no_lack_of_memory() -> None:
    blame_memory(pa.ArrowMemoryError("malloc of size 9223372036854775807 failed"))
    with pytest.raises(MemoryError):
        blame_memory(pa.ArrowMemoryError("malloc of size 65536 failed"))
    with pytest.raises(MemoryError):
        blame_memory(OSError("out of memory error when reading image file"))
