"""The page of a published release as a static Space of the Hub, which reads the dataset there."""

import contextlib
import tempfile
from pathlib import Path

import yaml

from builder.core.errors import ArasError
from builder.core.files import write_text
from builder.core.manifest import Manifest
from builder.publish.hub_client import HubCalls, check_repo_id, redacted_logs
from builder.publish.targets import WriteSite

PAGE = "data/explore.json"
"""A file that every page has."""
GIVEN = frozenset({".gitattributes", "README.md", "index.html", "style.css"})
"""Files that the Hub puts into a new static Space."""


class HubSpace(HubCalls):
    """The Space ``repo`` at ``endpoint``."""

    def files(self) -> set[str]:
        """Paths in it; none where it does not exist."""
        from huggingface_hub.errors import RepositoryNotFoundError

        def ask() -> set[str]:
            try:
                return set(self.api.list_repo_files(self.repo, repo_type="space"))
            except RepositoryNotFoundError:
                return set()

        return self.call("looking at the Space", ask)

    def send(self, folder: Path, title: str, *, private: bool) -> None:
        """Create it where it is missing, and make its files those of ``folder``, in one commit."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        self.call(
            "creating the Space",
            lambda: self.api.create_repo(
                self.repo, repo_type="space", space_sdk="static", private=private, exist_ok=True
            ),
        )
        paths = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
        gone = self.files() - paths.keys() - {".gitattributes"}
        changes = [CommitOperationAdd(name, path) for name, path in sorted(paths.items())]
        removed = [CommitOperationDelete(name) for name in sorted(gone)]
        self.call(
            "sending the page",
            lambda: self.api.create_commit(
                self.repo, [*changes, *removed], commit_message=title, repo_type="space"
            ),
        )


def check_space(space: str, endpoint: str, token: str | None) -> HubSpace:
    """The Space, if it may be written. Raises ArasError for one that holds something else."""
    hub = HubSpace(endpoint, check_repo_id(space), token)
    with redacted_logs(token):
        held = hub.files()
    if PAGE not in held and held - GIVEN:
        raise ArasError(
            f"--explore {space}: the Space holds other files ({', '.join(sorted(held - GIVEN)[:3])}"
            "); give another name"
        )
    return hub


def publish_space(
    hub: HubSpace, release: Path, manifest: Manifest, dataset: str, write: WriteSite, private: bool
) -> str:
    """Write the page of a release that the dataset repo holds, and send it; its address."""
    tag = manifest.version
    base = f"{hub.endpoint}/datasets/{dataset}/resolve/{tag}/"
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        stack.enter_context(redacted_logs(hub.token))
        page = Path(folder) / "page"
        write(release, page, base, f"hf://datasets/{dataset}@{tag}")
        title = manifest.title or manifest.name
        about = {"title": title, "sdk": "static", "pinned": False, "datasets": [dataset]}
        front = yaml.safe_dump(about, sort_keys=False, allow_unicode=True)
        text = f"Look through {hub.endpoint}/datasets/{dataset}, version {tag}.\n"
        write_text(page / "README.md", f"---\n{front}---\n\n{text}")
        hub.send(page, f"Page of {dataset} {tag}", private=private)
    return f"{hub.endpoint}/spaces/{hub.repo}"
