"""Ask an API that wants a key: attempt by attempt, and never again with a key that it has refused.

Built and called by the MLHub dialect, which reads the answers. It gets a way to ask (`Asker`) and knows no client. The
key goes to the API's own origin only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from stacmirror.catalogs.stac_api import ApiRoot, Asker, ask_by_hand
from stacmirror.errors import LoginRefused, SourceUnreachable, SourceUnreadable, TransferError
from stacmirror.gate import DOUBTED_AFTER, REFUSALS_MAX, Gate, Standing
from stacmirror.interfaces import Clock, Reply
from stacmirror.limits import origin_of
from stacmirror.redact import redact_url
from stacmirror.retry import GONE_STATUSES, RETRYABLE_STATUSES, RetryPolicy, error_for_status, with_retries

_HEADERS = {"accept": "application/geo+json, application/json"}
_KEY_HINT = "put the key in MLHUB_API_KEY, in ~/.mlhub/profiles, or in a file named by --key-file"
_UNREADABLE = "unreadable"

T = TypeVar("T")


class KeyedAsking:
    """Asks one API with one key, and remembers how that was taken."""

    def __init__(
        self,
        root: ApiRoot,
        key: str,
        asker: Asker,
        retry: RetryPolicy,
        clock: Clock,
        random: Callable[[], float],
        on_retry: Callable[[TransferError, float], None],
        page_max_bytes: int,
        *,
        allow_http: bool,
        key_as: str,
        redirects_max: int,
        gate: Gate,
    ) -> None:
        self._root = root
        self._key = key
        self._asker = asker
        self._retry = retry
        self._clock = clock
        self._random = random
        self._on_retry = on_retry
        self._page_max_bytes = page_max_bytes
        self._allow_http = allow_http
        self._key_as = key_as
        self._redirects_max = redirects_max
        self._gate = gate
        self._login: Standing[str] = Standing(gate)
        """The key's; its witness is a URL."""

    async def ask(
        self,
        url_now: Callable[[], str],
        read: Callable[[Reply, str], T],
        *,
        one_of_many: bool = False,
        shrinks: Callable[[TransferError], bool] = lambda error: False,
    ) -> T:
        """Return what `read` makes of the answer of the URL that `url_now` gives, asked before each attempt.

        `shrinks` says that the next one asks for less. `one_of_many`: a refusal is about this URL alone, while the key
        is good for others.
        Raises: LoginRefused; SourceUnreachable and SourceUnreadable after the last attempt.
        Cancel: safe at any await.
        """
        try:
            return await with_retries(
                self._attempt(url_now, read, one_of_many, shrinks),
                self._retry,
                self._random,
                self._clock.sleep,
                self._on_retry,
            )
        except TransferError as error:
            url = url_now()
            if error.kind == _UNREADABLE and isinstance(error.__cause__, SourceUnreadable):
                raise error.__cause__.after(error, redact_url(origin_of(url))) from None
            shown = redact_url(url)
            message = error.message if shown in error.message else f"{shown}: {error.message}"
            unreachable = SourceUnreachable(message, hint=error.hint or _hint(error))
            raise unreachable.after(error, redact_url(origin_of(url))) from error

    def key_is_good(self, url: str) -> None:
        """Hear that the key was good for an answer."""
        self._login.good(url)

    def _attempt(
        self,
        url_now: Callable[[], str],
        read: Callable[[Reply, str], T],
        one_of_many: bool,
        shrinks: Callable[[TransferError], bool],
    ) -> Callable[[], Awaitable[T]]:
        async def attempt() -> T:
            while True:
                try:
                    return await ask_once(url_now())
                except TransferError as error:
                    # Too large will be too large: what has shrunk is another question, and no attempt.
                    if not shrinks(error) or error.retryable:
                        raise

        async def ask_once(url: str) -> T:
            proofs = self._login.proofs
            reply = await self._send(url)
            if self._refuses(reply, url):
                raise await self._refused(reply.status, url, one_of_many, proofs)
            try:
                return read(reply, url)
            except SourceUnreadable as error:
                if reply.status != 200:
                    raise
                # Users met HTML and empty bodies amid the paging, and good ones when they asked again.
                raise TransferError(_UNREADABLE, error.message) from error

        return attempt

    async def _send(self, url: str) -> Reply:
        if self._gate.shut:
            await self._gate.passed()
        return await ask_by_hand(
            self._asker,
            url,
            self._root,
            self._key,
            _HEADERS,
            self._page_max_bytes,
            allow_http=self._allow_http,
            key_as=self._key_as,
            redirects_max=self._redirects_max,
        )

    def _refuses(self, reply: Reply, url: str) -> bool:
        return reply.status in (401, 403) and self._root.may_see_key(reply.url or url)

    async def _refused(self, status: int, url: str, one_of_many: bool, proofs: int) -> LoginRefused | TransferError:
        """Return what a refusal is. Raises: LoginRefused, TransferError."""
        login = self._login
        if login.witness is None or not one_of_many:
            return self._end(status)
        login.in_a_row += 1
        # A 401 is about the key. A 403 may be about an item, and forbidden items stand side by side.
        if status == 401 and login.in_a_row >= REFUSALS_MAX:
            return self._end(status)
        if status == 403 and login.in_a_row >= DOUBTED_AFTER:
            await login.prove(proofs, self._find_out)
        error = TransferError("refused", f"{status} from {redact_url(url)}", status=status, retryable=False)
        error.hint = "the key was good for other items: ask the catalog's owner about this one"
        return error

    async def _find_out(self) -> None:
        """Ask for what the key was good for last. Raises: LoginRefused, TransferError."""
        witness = self._login.witness or ""
        reply = await self._send(witness)
        if self._refuses(reply, witness):
            raise self._end(reply.status)
        if reply.status in RETRYABLE_STATUSES:
            raise error_for_status(reply.status, reply.headers, redact_url(witness), self._clock.wall())
        self._login.in_a_row = 0

    def _end(self, status: int) -> LoginRefused:
        said = "refused the API key" if self._key else "wants an API key"
        return self._gate.end(LoginRefused(f"{self._root.url} {said} ({status})", hint=_KEY_HINT))


def _hint(error: TransferError) -> str:
    if error.status in (401, 403):
        return "a redirect led away from --api-url, where the key is not sent"
    if error.status in GONE_STATUSES:
        return "is --api-url the root of the API, such as https://host/mlhub/v1?"
    if error.kind == "connect":
        return "is --api-url right, and the server up?"
    return "run the same command again; more --retries or a longer --stall-timeout bear more trouble"
