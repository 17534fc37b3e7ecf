"""Ask a catalog's documents: redirects by hand, attempt by attempt, each failure said with its address.

What the dialects for STAC APIs, static catalogs and files share. MLHub has a way of its own (`keyed_asking`).
It knows no client: it gets an `Asker`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from stacmirror.catalogs.parse import CAPS, Caps
from stacmirror.catalogs.stac_api import REDIRECTS_MAX, ApiRoot, Asker, ask_by_hand
from stacmirror.errors import LoginRefused, SourceUnreachable, SourceUnreadable, TransferError, UsageError
from stacmirror.interfaces import Clock, Reply
from stacmirror.limits import origin_of
from stacmirror.redact import redact_text, redact_url
from stacmirror.retry import GONE_STATUSES, RetryPolicy, error_for_status, with_retries

ACCEPT = {"accept": "application/geo+json, application/json;q=0.9, */*;q=0.5"}
UNREADABLE = "unreadable"
REFUSED_STATUSES = frozenset({400, 405, 413, 414, 422, 501})
"""What servers say to a search that they do not take."""
_NOBODY = ApiRoot("http://", "http", "", None)
_LOGIN_HINT = "--auth HOST=SCHEME says how to log in; see `stacmirror mirror --help`, Access"
_SAID_MAX = 300

T = TypeVar("T")


class Question(NamedTuple):
    """One request: `body` is None for a GET."""

    url: str
    headers: Mapping[str, str] = ACCEPT
    body: bytes | None = None


@dataclass(frozen=True)
class Means:
    """How a catalog is asked: by whom, how often, and how much it may answer."""

    asker: Asker
    retry: RetryPolicy
    clock: Clock
    random: Callable[[], float]
    on_retry: Callable[[TransferError, float], None]
    page_max_bytes: int
    allow_http: bool = False
    retried_statuses: frozenset[int] = field(default_factory=frozenset)
    """Statuses besides the usual ones that mean: ask again."""
    caps: Caps = CAPS
    redirects_max: int = REDIRECTS_MAX
    home: str = ""
    """Where SOURCE is: the one origin whose refusal of a document is one of the login. "" for files."""

    async def ask(
        self,
        question_now: Callable[[], Question],
        read: Callable[[Reply], T],
        *,
        shrinks: Callable[[TransferError], bool] = lambda error: False,
        statuses: Collection[int] = (200,),
    ) -> T:
        """Return what `read` makes of an answer of one of `statuses`; an answer that it cannot read is asked for again.

        `question_now` is asked before each attempt; `shrinks` says that the next one asks for less.
        Raises: LoginRefused on 401 and 403 from where SOURCE is; SourceUnreachable (its cause has the status) and
                SourceUnreadable after the last attempt.
        Cancel: safe at any await.
        """

        async def attempt() -> T:
            while True:
                try:
                    return await self._once(question_now(), read, statuses)
                except TransferError as error:
                    # Too large will be too large: what has shrunk is another question, and no attempt.
                    if not shrinks(error) or error.retryable:
                        raise

        try:
            return await with_retries(attempt, self.retry, self.random, self.clock.sleep, self.on_retry)
        except TransferError as error:
            url = question_now().url
            host, shown = redact_url(origin_of(url)), redact_url(url)
            if error.kind == UNREADABLE and isinstance(error.__cause__, SourceUnreadable):
                raise error.__cause__.after(error, host) from None
            message = error.message if shown in error.message else f"{shown}: {error.message}"
            raise SourceUnreachable(message, hint=error.hint or _hint(error)).after(error, host) from error

    async def _once(self, question: Question, read: Callable[[Reply], T], statuses: Collection[int]) -> T:
        url = question.url
        reply = await ask_by_hand(
            self.asker,
            url,
            _NOBODY,
            "",
            question.headers,
            self.page_max_bytes,
            allow_http=self.allow_http,
            body=question.body,
            redirects_max=self.redirects_max,
        )
        asked = reply.url or url
        refused = reply.status in (401, 403) and reply.status not in self.retried_statuses
        if refused and _is_at(self.home, asked):
            raise LoginRefused(f"{redact_url(asked)} wants a login ({reply.status})", hint=_LOGIN_HINT)
        if reply.status not in statuses:
            error = error_for_status(reply.status, reply.headers, redact_url(asked), self.clock.wall())
            error.retryable = error.retryable or reply.status in self.retried_statuses
            error.host = redact_url(origin_of(asked))
            if refused:
                host = error.host.partition("://")[2]
                error.hint = f"this is not where SOURCE is; if it wants a login: --auth {host}=SCHEME"
            if said := words_of(reply.body or b""):
                error.message = f"{error.message}: {said}"
            raise error
        try:
            return read(reply)
        except SourceUnreadable as error:
            # Users met HTML and empty bodies amid the paging, and good ones when they asked again.
            raise TransferError(UNREADABLE, error.message) from error


def _is_at(home: str, url: str) -> bool:
    """Return whether `url` is at the origin of `home`, or at its https."""
    if not home.startswith(("http://", "https://")):
        return origin_of(home) == origin_of(url)
    try:
        return ApiRoot.parse(origin_of(home)).may_see_key(url)
    except UsageError:
        return False


def words_of(body: bytes) -> str:
    """Return what a refusal says in words, in one line without secrets; "" where that is HTML, or nothing."""
    text = body[:4096].decode("utf-8", "replace").strip()
    if not text or text.startswith("<"):
        return ""
    if text.startswith("{"):
        import msgspec

        try:
            document = msgspec.json.decode(body)
        except (ValueError, RecursionError):
            return ""
        said = (document.get(key) for key in ("description", "detail", "message", "error", "title"))
        text = next((str(one) for one in said if one), "")
    return redact_text(" ".join(text.split()))[:_SAID_MAX]


def status_of(error: BaseException) -> int:
    """Return the HTTP status that ended a question in vain, 0 where none did."""
    cause = error.__cause__
    return cause.status if isinstance(cause, TransferError) else 0


def _hint(error: TransferError) -> str:
    if error.status in GONE_STATUSES:
        return "is it the root of an API, a collection, a catalog.json or a file of items?"
    if error.kind in ("connect", "dns"):
        return "is the address right, and the server up?"
    return "run the same command again; more --retries or a longer --stall-timeout bear more trouble"
