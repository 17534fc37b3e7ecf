"""What was asked, by whom, with which credential: the evidence that tests read.

Filled by the server, read by tests (`sim.requests`, `sim.counts`) and served as NDJSON by the log's own port.
Keys are redacted where they enter; the log says which kind of credential came, and whether it was the right
one.
"""

from __future__ import annotations

import hmac
import json
import re
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import overload

_KEY_VALUE = re.compile(r"(?<![^&])key=([^&]*)")
_SIGNER = re.compile(r"Credential=([^/,\s]+)")


@dataclass(slots=True)
class RequestRecord:
    """One request. `status` is 0 until it is answered; `fault` is the fault that it met, or "".

    `credential`: `key` or `bearer` (right), `key:wrong` or `bearer:wrong`, `aws4:<access key id>`, the bare
    scheme of any other Authorization header, or None. A `query` has its keys masked, their number kept. `range` is the
    Range header.
    """

    at: float
    server: str
    method: str
    path: str
    query: str
    status: int
    credential: str | None
    fault: str = ""
    range: str = ""


class RequestLog(Sequence[RequestRecord]):
    """The last records, oldest first, at most `records_max`; `first` is the number of the oldest one kept."""

    def __init__(self, records_max: int) -> None:
        self._records: deque[RequestRecord] = deque(maxlen=records_max)
        self._added = 0

    @property
    def first(self) -> int:
        """How many records came before the oldest one kept."""
        return self._added - len(self._records)

    def add(self, record: RequestRecord) -> None:
        """Keep a record."""
        self._records.append(record)
        self._added += 1

    def clear(self) -> None:
        """Forget the records; their numbers are not used again."""
        self._records.clear()

    def since(self, number: int) -> Iterator[bytes]:
        """Yield the records from this number on, as lines of JSON."""
        snapshot = list(islice(self._records, max(0, number - self.first), None))
        for offset in range(0, len(snapshot), 500):
            lines = (json.dumps(asdict(record)) + "\n" for record in snapshot[offset : offset + 500])
            yield "".join(lines).encode()

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[RequestRecord]:
        return iter(list(self._records))

    @overload
    def __getitem__(self, index: int) -> RequestRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[RequestRecord]: ...
    def __getitem__(self, index: int | slice) -> RequestRecord | list[RequestRecord]:
        return list(self._records)[index] if isinstance(index, slice) else self._records[index]


class Counts:
    """How often: answers by server and status, requests by server and kind, faults."""

    def __init__(self) -> None:
        self.statuses: Counter[tuple[str, int]] = Counter()
        self.kinds: Counter[tuple[str, str]] = Counter()
        self.faults: Counter[str] = Counter()

    def plain(self) -> dict[str, object]:
        """Return plain values: total, statuses by server, kinds by server, faults."""
        statuses: dict[str, dict[str, int]] = {}
        for (server, status), number in sorted(self.statuses.items()):
            statuses.setdefault(server, {})[str(status)] = number
        kinds: dict[str, dict[str, int]] = {}
        for (server, kind), number in sorted(self.kinds.items()):
            kinds.setdefault(server, {})[kind] = number
        total = sum(self.statuses.values())
        return {
            "total": total,
            "statuses": statuses,
            "kinds": kinds,
            "faults": dict(sorted(self.faults.items())),
        }


def credential_of(query: str, headers: Mapping[str, str], key: str) -> str | None:
    """Return which credential a request carries, without the secret itself."""
    authorization = headers.get("Authorization", "")
    if authorization:
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() == "bearer":
            return "bearer" if hmac.compare_digest(value.strip().encode(), key.encode()) else "bearer:wrong"
        if scheme == "AWS4-HMAC-SHA256":
            signer = _SIGNER.search(value)
            return f"aws4:{signer.group(1) if signer else '?'}"
        return scheme
    if "key=" in query:
        sent = _KEY_VALUE.findall(query)
        if sent:
            return "key" if all(value == key for value in sent) else "key:wrong"
    if "X-Amz-Signature=" in query:
        return "aws4:query"
    return None


def mask_keys(query: str) -> str:
    """Return the query with the value of each key masked."""
    return _KEY_VALUE.sub("key=***", query) if "key=" in query else query
