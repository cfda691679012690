"""How a call to a Hub is made: huggingface_hub with our retry, our errors, and no token in them."""

from collections.abc import Callable
from typing import Any, TypeVar

from builder.errors import ArasError, WorkFailed
from builder.publish.hub_guard import redact
from builder.retry import in_words, is_transient, retrying, status_of

T = TypeVar("T")


class HubCalls:
    """Calls that concern the dataset repo ``repo`` at ``endpoint``.

    Each is retried by the one policy of builder.retry (``base`` is its first wait in
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
        self.api = HfApi(endpoint=endpoint, token=token or False, library_name="aras")
        self.where: dict[str, Any] = {"repo_id": repo, "repo_type": "dataset"}

    def call(
        self,
        what: str,
        call: Callable[[], T],
        *,
        retry_if: Callable[[BaseException], bool] = is_transient,
        attempts: int = 6,
    ) -> T:
        """``call()`` under the retry policy; ``what`` names it in messages."""

        def tell(error: BaseException, wait: float) -> None:
            self.say(f"{what}: {self.reason(error)}; again {in_words(wait)}")

        try:
            return retrying(
                call, attempts=attempts, base=self.base, retry_if=retry_if, on_retry=tell
            )
        except ArasError:
            raise
        except Exception as error:  # noqa: BLE001 - every client error leaves as one of ours
            raise self.failure(what, error) from None

    def ask(
        self, what: str, method: str, url: str, *, fine: tuple[int, ...] = (), **options: Any
    ) -> Any:
        """The answer to what the client has no call for; a status in ``fine`` is no failure."""
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
        own = type(error).__module__.startswith("builder.")  # ours say all in words
        head = [f"HTTP {status}"] if status else [] if own else [type(error).__name__]
        return redact(": ".join(dict.fromkeys([*head, *lines[:1], *lines[-1:]])), self.token)

    def failure(self, what: str, error: BaseException) -> ArasError:
        """Our error for a client's: exit 2 when the Hub refuses us, 1 when it does not work."""
        place = f"{what} ({self.repo} on {self.endpoint}): {self.reason(error)}"
        status = status_within(error)
        if status == 401:
            return ArasError(f"{place}\nThe token is not valid there: `hf auth login`, or HF_TOKEN")
        if status in (402, 403):
            return ArasError(f"{place}\nThe token may not write there: use one with write access")
        if offers_no_xet(error):
            return ArasError(
                f"{place}\nThis Hub has no Xet: set HF_HUB_DISABLE_XET=1 to send by LFS"
            )
        return WorkFailed(f"{place}\nNothing was tagged; run the same command to go on")


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
