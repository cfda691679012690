"""One dataset repo on one Hub: what can be read there, and what can be written."""

import contextlib
import email.utils
import functools
import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from builder.core import budgets, hub_session
from builder.core.errors import ArasError, WorkFailed
from builder.core.files import parse_json
from builder.core.web import in_words, is_transient, redact, retrying, status_of
from builder.publish.release import File


def environment(endpoint: str) -> dict[str, str]:
    """What huggingface_hub and datasets must find in the environment before they are imported.

    The endpoint is read at import. Xet writes its record of finished blocks often, so that an
    interrupted upload is resumed rather than sent again.
    """
    return {
        "HF_ENDPOINT": endpoint,
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",
        "HF_XET_DATA_SESSION_XORB_METADATA_FLUSH_INTERVAL": "200ms",
        "HF_XET_DATA_SESSION_XORB_METADATA_FLUSH_MAX_COUNT": "1",
        "HF_XET_CLIENT_READ_TIMEOUT": f"{budgets.ANSWER_SECONDS:.0f}s",
        "HF_XET_CLIENT_RETRY_MAX_DURATION": f"{budgets.CALL_SECONDS:.0f}s",
    }


def check_repo_id(repo: str) -> str:
    """The repo id; ArasError unless it reads ORG/NAME with what the Hub allows in names."""
    import huggingface_hub.utils
    from huggingface_hub.errors import HFValidationError

    utils: Any = huggingface_hub.utils
    if repo.count("/") != 1:
        raise ArasError(f"--repo {repo}: expected ORG/NAME, for example my-lab/my-tiles")
    try:
        utils.validate_repo_id(repo)
    except HFValidationError as error:
        raise ArasError(f"--repo {repo}: {error} Expected ORG/NAME") from None
    return repo


@contextlib.contextmanager
def redacted_logs(token: str | None) -> Iterator[None]:
    """Cut secrets out of what huggingface_hub logs (it names the addresses it asks again)."""

    def cut(record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage(), token), ()
        return True

    handlers = list(logging.getLogger("huggingface_hub").handlers)
    for handler in handlers:
        handler.addFilter(cut)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(cut)


_REACH = 10.0
"""Seconds in which a Hub that is there answers."""


def out_of_reach(endpoint: str) -> str:
    """Why no Hub can be asked at ``endpoint``, in words; empty where something answers."""
    import huggingface_hub.utils
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return "HF_HUB_OFFLINE is set"
    utils: Any = huggingface_hub.utils
    try:
        utils.get_session().head(endpoint, timeout=_REACH)
    except Exception as error:
        if not is_transient(error):
            raise
        return f"{endpoint} cannot be reached ({str(error) or type(error).__name__})"
    return ""


T = TypeVar("T")


class HubCalls:
    """Calls that concern the dataset repo ``repo`` at ``endpoint``.

    Each is retried by the policy of builder.core.web (``base`` is its first wait in
    seconds) and raises ArasError (refused: token, rights, names) or WorkFailed (the Hub did not
    answer well in the end), with secrets cut out of the message. ``token=None`` reads what the
    public can read.
    """

    def __init__(
        self,
        endpoint: str,
        repo: str,
        token: str | None,
        *,
        base: float = 0.5,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        from huggingface_hub import HfApi, constants

        if constants.is_offline_mode():
            raise ArasError("HF_HUB_OFFLINE is set: unset it to publish")
        self.endpoint, self.repo, self.token = endpoint, repo, token
        self.base, self.say = base, say
        hub_session.bound()
        self.api = HfApi(endpoint=endpoint, token=token or False, library_name="aras")
        self.where: dict[str, Any] = {"repo_id": repo, "repo_type": "dataset"}

    def call(
        self,
        what: str,
        call: Callable[[], T],
        *,
        retry_if: Callable[[BaseException], bool] = is_transient,
        attempts: int = 6,
        is_long: bool = False,
    ) -> T:
        """``call()`` under the retry policy, for `budgets.CALL_SECONDS` in all, or where it
        ``is_long``, as long as bytes move; ``what`` names it in messages."""

        def is_worth_it(error: BaseException) -> bool:
            return not hub_session.is_over() and retry_if(error)

        def report(error: BaseException, wait: float) -> None:
            self.say(f"{what}: {self.reason(error)}; again {in_words(wait)}")

        try:
            with hub_session.within(None if is_long else budgets.CALL_SECONDS):
                return retrying(
                    call, attempts=attempts, base=self.base, retry_if=is_worth_it, on_retry=report
                )
        except ArasError:
            raise
        except Exception as error:  # noqa: BLE001 - every error of the client becomes an ArasError
            raise self.failure(what, error) from None

    def ask(
        self, what: str, method: str, url: str, *, fine: tuple[int, ...] = (), **options: Any
    ) -> Any:
        """The answer to a request that the client cannot make; a status in ``fine`` passes."""
        import huggingface_hub.utils

        utils: Any = huggingface_hub.utils
        headers = utils.build_hf_headers(token=self.token or False)

        def once() -> Any:
            answer = utils.get_session().request(method, url, headers=headers, **options)
            if answer.status_code not in fine:
                utils.hf_raise_for_status(answer)
            return answer

        return self.call(what, once)

    def reason(self, error: BaseException) -> str:
        """What went wrong in one line: the first words and the server's own, secrets cut out."""
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        status = status_within(error)
        own = type(error).__module__.startswith("builder.")  # its message says it all
        head = [f"HTTP {status}"] if status else [] if own else [type(error).__name__]
        return redact(": ".join(dict.fromkeys([*head, *lines[:1], *lines[-1:]])), self.token)

    def no_hub(self) -> ArasError:
        return ArasError(f"{self.endpoint} does not answer like a Hub; check the address")

    def failure(self, what: str, error: BaseException) -> ArasError:
        """Our error for a client's: exit 2 when the Hub refuses us, 1 when it does not work."""
        place = f"{what} ({self.repo} on {self.endpoint}): {self.reason(error)}"
        status = status_within(error)
        if status == 401:
            return ArasError(f"{place}\nThe token is not valid there: `hf auth login`, or HF_TOKEN")
        if status in (402, 403):
            return ArasError(
                f"{place}\nThe token may not write there: use a token with write access"
            )
        if offers_no_xet(error):
            return ArasError(
                f"{place}\nThis Hub has no Xet: set HF_HUB_DISABLE_XET=1 to send by LFS"
            )
        return WorkFailed(f"{place}\nNothing was tagged; run the same command again to continue")


def status_within(error: BaseException) -> int | None:
    """The HTTP status of an error or of what it was raised from (the client wraps them)."""
    below: BaseException | None = error
    while below is not None:
        if status := status_of(below):
            return status
        below = below.__cause__ or below.__context__
    return None


def offers_no_xet(error: BaseException) -> bool:
    """Whether the Hub knows no Xet token; the Xet client says so in words only."""
    return "404 Not Found" in str(error) and "/xet-write-token/" in str(error)


LEAVE = frozenset({".gitattributes"})
"""Written by the Hub itself: neither a file of the release nor to be removed."""

LARGEST_SKEW = 300.0
"""Seconds by which our clock may differ from the Hub's: signed addresses live for minutes."""


@dataclass(frozen=True)
class Held:
    """A file as the repo holds it: ``sha256`` (large file) or git's ``blob`` id (small file)."""

    size: int
    sha256: str | None
    blob: str

    def holds(self, file: File) -> bool:
        """Whether its bytes are those of ``file``; a small file is read for git's blob id."""
        if self.sha256 is not None:
            return self.sha256 == file.sha256
        return self.size == file.size and self.blob == git_blob(file.read())


@dataclass(frozen=True)
class Refs:
    """Names of the tags and branches of a repo."""

    tags: frozenset[str] = frozenset()
    branches: frozenset[str] = frozenset()


class HubRepo(HubCalls):
    """The dataset repo ``repo`` at ``endpoint``; its calls are those of `HubCalls`."""

    # Looking.

    def check_token(self) -> str:
        """Name of the token's user; ArasError for a bad or read-only token, or a wrong clock."""
        answer = self.ask("asking who we are", "GET", f"{self.endpoint}/api/whoami-v2")
        try:
            user = parse_json(answer.content)
            name, access = str(user["name"]), user.get("auth", {}).get("accessToken", {})
        except (ValueError, KeyError, AttributeError):
            raise self.no_hub() from None
        if access.get("role") == "read":
            raise ArasError(f"the token of {name} can only read: use a token with write access")
        if "date" in answer.headers:
            theirs = email.utils.parsedate_to_datetime(answer.headers["date"]).timestamp()
            skew = time.time() - theirs
            if abs(skew) > LARGEST_SKEW:
                raise ArasError(
                    f"this machine's clock is {abs(skew) / 60:.0f} min "
                    f"{'ahead of' if skew > 0 else 'behind'} {self.endpoint}: signed uploads "
                    "would be refused midway; set the clock"
                )
        return name

    def check_place(self, version: str) -> None:
        """What can be asked before a long check: the token, and that the name is free."""
        if self.token:
            self.say(f"{self.repo} {version} on {self.endpoint}, as {self.check_token()}")
        if self.sha() is None and (kind := self.other_kind()):
            raise ArasError(
                f"{self.repo} is a {kind} on {self.endpoint}, not a dataset; choose another name"
            )

    def sha(self, revision: str = "main") -> str | None:
        """The commit at ``revision``, or None where the repo or the revision does not exist."""
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        def ask() -> str | None:
            try:
                sha: str | None = self.api.dataset_info(self.repo, revision=revision).sha
            except (RepositoryNotFoundError, RevisionNotFoundError):
                return None
            return sha

        return self.call(f"looking at {revision}", ask)

    def is_private(self) -> bool:
        """Whether only some may read the repo, which exists."""
        look = functools.partial(self.api.dataset_info, self.repo)
        return bool(self.call("looking at the repo", look).private)

    def refs(self) -> Refs:
        """The tags and branches; none where the repo does not exist."""
        from huggingface_hub.errors import RepositoryNotFoundError

        def ask() -> Refs:
            try:
                refs = self.api.list_repo_refs(**self.where)
            except RepositoryNotFoundError:
                return Refs()
            return Refs(
                frozenset(ref.name for ref in refs.tags),
                frozenset(ref.name for ref in refs.branches),
            )

        return self.call("listing the tags", ask)

    def other_kind(self) -> str | None:
        """ "model" or "space" where a repo of that kind holds the name, else None."""
        for kind in ("model", "space"):
            exists = functools.partial(self.api.repo_exists, self.repo, repo_type=kind)
            if self.call(f"looking for a {kind}", exists):
                return kind
        return None

    def tree(self, revision: str) -> dict[str, Held]:
        """Every file at ``revision`` by path."""
        from huggingface_hub.hf_api import RepoFile

        def ask() -> dict[str, Held]:
            listed = self.api.list_repo_tree(**self.where, recursive=True, revision=revision)
            return {
                f.path: Held(f.size, f.lfs.sha256 if f.lfs else None, f.blob_id)
                for f in listed
                if isinstance(f, RepoFile)
            }

        return self.call("listing the files", ask)

    def read_json(self, path: str, revision: str) -> dict[str, Any] | None:
        """A JSON object in the repo; None where it does not exist or holds anything else."""
        url = f"{self.endpoint}/datasets/{self.repo}/resolve/{revision}/{path}"
        answer = self.ask(f"reading {path}", "GET", url, fine=(404,))
        with contextlib.suppress(ValueError):
            value = parse_json(answer.content) if answer.status_code != 404 else None
            return value if isinstance(value, dict) else None
        return None

    def card_errors(self, card: str) -> list[str]:
        """What the Hub would refuse in the YAML of a README; the client asks only at the commit."""
        url, body = f"{self.endpoint}/api/validate-yaml", {"content": card, "repoType": "dataset"}
        answer = self.ask("checking the card", "POST", url, fine=(400,), json=body)
        try:
            errors = parse_json(answer.content).get("errors", [])
        except (ValueError, AttributeError):
            raise self.no_hub() from None
        return [redact(str(error.get("message")), self.token) for error in errors]

    def mismatches(self, release: Path, revision: str) -> list[str]:
        """Paths whose bytes, or whose presence, differ between ``release`` and the repo.

        Reads every local file again and compares with what the Hub holds at ``revision``.
        """

        verify = functools.partial(self.api.verify_repo_checksums, **self.where)
        differences = self.call(
            "verifying checksums",
            lambda: verify(revision=revision, local_dir=release),
            is_long=True,  # it reads every local file again
        )
        absent = {*differences.missing_paths, *differences.extra_paths} - LEAVE
        return sorted(absent | {file["path"] for file in differences.mismatches})

    # Writing.

    def create(self, *, private: bool) -> None:
        """Create the repo unless it exists."""
        asked = True if private else None  # None: public, or what the organisation prefers
        self.call(
            "creating the repo",
            lambda: self.api.create_repo(**self.where, private=asked, exist_ok=True),
        )

    def operation(self, file: File, *, sent: bool) -> Any:
        """An operation that adds ``file``; ``sent`` when the Hub has its bytes already."""
        from huggingface_hub import CommitOperationAdd

        operation = CommitOperationAdd(file.name, file.source)
        operation.upload_info.sha256 = bytes.fromhex(file.sha256)  # the client need not hash again
        if sent:
            # The client has no public way to rebuild an operation whose bytes were sent before.
            operation._upload_mode = "lfs"
            operation._should_ignore = False
            operation._is_uploaded = True
        return operation

    def send(self, operations: list[Any], revision: str) -> bool:
        """Send the bytes of large files; nothing shows in the repo before a commit.

        True when the Hub took them all as large files: a small file travels with its commit.
        """
        self.call(
            f"uploading {operations[0].path_in_repo}",
            lambda: self.api.preupload_lfs_files(
                self.repo,
                operations,
                repo_type="dataset",
                revision=revision,
                free_memory=False,
            ),
            retry_if=_may_work_again,
            is_long=True,
        )
        return all(operation._upload_mode == "lfs" for operation in operations)

    def commit(
        self,
        adds: Iterable[Any],
        deletes: Iterable[str],
        *,
        title: str,
        parent: str | None,
        ref: str,
    ) -> str:
        """One atomic commit on ``ref``, whose head must be ``parent``; returns its id.

        Not retried, and raises what the client raises: the caller looks at the head first.
        """
        from huggingface_hub import CommitOperationDelete

        gone = [CommitOperationDelete(path, is_folder=False) for path in deletes]
        with hub_session.within(budgets.CALL_SECONDS):
            commit = self.api.create_commit(
                **self.where,
                operations=[*adds, *gone],
                commit_message=title,
                revision=ref,
                parent_commit=parent,
            )
        return str(commit.oid)

    def pull_request(self, title: str) -> int:
        """Number of the open pull request called ``title``, created where there is none."""
        name = title.strip()

        def ask() -> int:
            pulls = self.api.get_repo_discussions(**self.where, discussion_type="pull_request")
            for pull in pulls:
                if pull.title == name and pull.status in ("draft", "open"):
                    return pull.num
            return self.api.create_pull_request(**self.where, title=name).num

        return self.call("opening a pull request", ask)

    def merge(self, number: int) -> None:
        """Merge a pull request; not retried, raises what the client raises."""
        at = self.api.get_discussion_details(**self.where, discussion_num=number)
        if at.status == "draft":
            self.api.change_discussion_status(
                **self.where, discussion_num=number, new_status="open"
            )
        with hub_session.within(budgets.CALL_SECONDS):
            self.api.merge_pull_request(**self.where, discussion_num=number)

    def close(self, number: int) -> None:
        """Close a pull request that cannot be merged any more."""
        self.call(
            "closing the pull request",
            lambda: self.api.change_discussion_status(
                **self.where, discussion_num=number, new_status="closed"
            ),
        )

    def tag(self, name: str, commit: str) -> None:
        """Tag ``commit``; an existing tag does not change."""
        self.call(
            f"tagging {name}",
            lambda: self.api.create_tag(**self.where, tag=name, revision=commit, exist_ok=True),
        )


def git_blob(data: bytes) -> str:
    """Git's id of a file's content: sha1 of "blob <length>\\0" and the bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _may_work_again(error: BaseException) -> bool:
    """Sending bytes is idempotent: only a refusal (or a file that is gone) ends it."""
    if isinstance(error, (ArasError, FileNotFoundError)) or not isinstance(error, Exception):
        return False
    if offers_no_xet(error):
        return False
    return status_within(error) not in (401, 402, 403, 404, 413)
