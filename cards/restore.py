import hashlib
import json
from pathlib import Path

manifest = json.loads(Path("manifest.json").read_text(encoding="utf-8"))
folders = {file["path"].replace("/", "-"): file["path"] for file in manifest["files"]}
for flat, path in folders.items():
    if flat != path and Path(flat).exists():
        Path(path).parent.mkdir(exist_ok=True)
        Path(flat).rename(path)
for name in ("README.md", "croissant.json"):  # they use the flat names
    text = Path(name).read_bytes()
    for flat in sorted(folders, key=len, reverse=True):
        text = text.replace(flat.encode(), folders[flat].encode())
    Path(name).write_bytes(text)
for name, algorithm in {"SHA256SUMS": "sha256", "MD5SUMS": "md5"}.items():
    sums = {file["path"]: file[algorithm] for file in manifest["files"]}
    sums["manifest.json"] = hashlib.new(algorithm, Path("manifest.json").read_bytes()).hexdigest()
    lines = [f"{sums[path]}  {path}\n" for path in sorted(sums)]
    Path(name).write_bytes("".join(lines).encode())
