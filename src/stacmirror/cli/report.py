"""The last words of a run: a verdict that counts, as lines for a person and as one JSON value.

Called by run.py, status.py, verify.py and explain.py. Pure: values in, text out. It says what Summary says and computes
nothing else.
"""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Sequence
from typing import Any

import msgspec

from stacmirror.model import (
    AbsentKey,
    Adopted,
    AssetCounts,
    Counts,
    FailureCount,
    ItemCounts,
    ListingState,
    Retried,
    Summary,
)
from stacmirror.units import format_count, format_duration, format_size

_INDENT = 11
"""Columns before the words."""
_ROWS_MAX = 6
"""Rows for one thing; the rest is counted."""
_GONE_KINDS = ("gone", "refused")
_FIRST = {4: "log in, then: ", 6: "make the target writable (room, inodes, rights), then: "}
"""By exit code: what to do before the next command can help."""


class Ending(msgspec.Struct, frozen=True):
    """What a verdict needs besides the summary."""

    summary: Summary
    folder: str
    """Where the files are, absolute."""
    resume_command: str
    """What to type to go on."""
    status_command: str
    citation: Sequence[str] = ()
    failures: str = ""
    """Where each failure is told, if anywhere."""


def summary_json(summary: Summary) -> dict[str, Any]:
    """Return the summary as the value that `--json` prints in one line."""
    return {
        "verdict": summary.verdict,
        "shard": summary.shard,
        **counts_json(summary.run),
        "requests": summary.requests,
        "predicted": summary.predicted,
        "there_bytes": summary.there_bytes,
        "seconds": round(summary.seconds, 3),
        "files_per_s": round(_rate(summary), 1),
        "cpu_s": round(summary.cpu_s, 3),
        "peak_rss_mib": round(summary.peak_rss_mib, 1),
        "exit_code": summary.exit_code,
        "reason": summary.reason,
        "hint": summary.hint,
        "failures": msgspec.to_builtins(summary.failures),
        "absences": msgspec.to_builtins(summary.absences),
        "mirror": counts_json(summary.mirror),
        **({"adopted": msgspec.to_builtins(summary.adopted)} if summary.adopted is not None else {}),
        **({"retried": msgspec.to_builtins(summary.retried)} if summary.retried is not None else {}),
    }


def counts_json(counts: Counts) -> dict[str, Any]:
    """Return `items`, `listing`, `assets` and `bytes`."""
    built: dict[str, Any] = msgspec.to_builtins(counts)
    return {key: built[key] for key in ("items", "listing", "assets", "bytes")}


def verdict_lines(ending: Ending, width: int | None = None) -> list[str]:
    """Return the verdict: one line that says it, then what it counts, where the files are and what to type next.

    `width` is the screen's, for the citation; paths and commands are never broken.
    """
    summary = ending.summary
    # A resumed run lists only the rest: whether the listing is whole is a matter of the mirror.
    work = _work_rows(summary.run) if summary.retried is None else [("retried", _retried(summary.retried))]
    if summary.adopted is not None:
        work = [("adopted", _adopted(summary.adopted))]
    rows = [*work, *shard_rows(summary.shard), ("listing", listing_words(summary.mirror))]
    if summary.predicted:
        rows.append(
            ("learned", f"{format_count(summary.predicted)} files asked for without the request for a redirect")
        )
    if summary.there_bytes:
        rows.append(("resumed", f"{format_size(summary.there_bytes)} of large files were there from an earlier run"))
    if summary.mirror != summary.run:
        rows.append(("mirror", f"{_sum(summary.mirror.items)}"))
        rows.append(("", f"{_assets(summary.mirror.assets)}, {format_size(summary.mirror.bytes)}, over all runs"))
    rows += absent_rows(summary.absences) + failed_rows(summary.failures)
    if ending.failures:
        rows.append(("", ending.failures))
    room = width and width - _INDENT
    rows = [("" if number else name, part) for name, words in rows for number, part in enumerate(_wrapped(words, room))]
    cited = [part for line in ending.citation for part in _wrapped(line, room)]
    rows += [("cite" if number == 0 else "", line) for number, line in enumerate(cited)]
    rows.append(("files", ending.folder))
    if summary.hint:
        rows.append(("hint", summary.hint))
    rows += [("next" if number == 0 else "", line) for number, line in enumerate(_next(ending))]
    return [*_wrapped(_headline(summary), width, "  "), *aligned(rows)]


def counts_rows(counts: Counts) -> list[tuple[str, str]]:
    """Return what the counts say, as names and words."""
    return [*_work_rows(counts), ("listing", listing_words(counts))]


def shard_rows(shard: str) -> list[tuple[str, str]]:
    """Return which part of the collection a mirror is, as `K/N`; nothing where it is all of it."""
    if not shard:
        return []
    return [("shard", f"{shard}; the listing is of all shards, and items of others count as filtered")]


def _work_rows(counts: Counts) -> list[tuple[str, str]]:
    return [("items", _sum(counts.items)), ("assets", _assets(counts.assets))]


def absent_rows(absences: Sequence[AbsentKey]) -> list[tuple[str, str]]:
    """Return what items list and the source does not have, a row a key."""
    return _first_rows("absent", [_absent(absence) for absence in absences])


def failed_rows(failures: Sequence[FailureCount]) -> list[tuple[str, str]]:
    """Return what is missing, a row a kind of failure, with its asset keys: `retry --only` takes the same words."""
    kinds: dict[str, list[FailureCount]] = {}
    for failure in failures:
        kinds.setdefault(failure.kind, []).append(failure)
    counted = sorted(kinds.items(), key=lambda kind: -sum(failure.count for failure in kind[1]))
    return _first_rows("failed", [_kind(kind, of_kind) for kind, of_kind in counted])


def _kind(kind: str, failures: Sequence[FailureCount]) -> str:
    words = f"{kind}: {format_count(sum(failure.count for failure in failures))}"
    keys = [
        _asset(failure.asset) + (f" {format_count(failure.count)}" if len(failures) > 1 else "")
        for failure in failures[:_ROWS_MAX]
    ]
    if len(failures) > _ROWS_MAX:
        keys.append(f"and {format_count(len(failures) - _ROWS_MAX)} more keys")
    return f"{words} ({', '.join(keys)})"


def _first_rows(name: str, lines: list[str]) -> list[tuple[str, str]]:
    if len(lines) > _ROWS_MAX:
        lines = [*lines[: _ROWS_MAX - 1], f"and {format_count(len(lines) - _ROWS_MAX + 1)} more kinds of that"]
    return [(name if number == 0 else "", line) for number, line in enumerate(lines)]


def listing_words(counts: Counts) -> str:
    """Return whether the listing was read to its end, and what the server says there is."""
    state: ListingState = counts.listing
    words = "read to its end" if state.ended else "not read to its end"
    gone = f"; {format_count(state.gone)} of the items here are listed no more: kept" if state.gone else ""
    if state.server_total is None:
        return f"{words}; the server names no total{gone}"
    words += f"; the server says {format_count(state.server_total)} items"
    missing = state.server_total - (counts.items.listed - counts.items.duplicate - state.gone)
    if state.ended and missing:
        words += f", {format_count(abs(missing))} {'more' if missing > 0 else 'fewer'} than it listed"
    return words + gone


def aligned(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Return rows as indented lines with the words below each other."""
    return [f"  {name:<{_INDENT - 2}}{words}" for name, words in rows]


def _wrapped(text: str, width: int | None, indent: str = "") -> list[str]:
    if width is None:
        return [text]
    return textwrap.wrap(text, max(20, width), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _headline(summary: Summary) -> str:
    items, mirror = summary.run.items, summary.mirror
    took = format_duration(summary.seconds)
    if summary.verdict == "complete" and summary.run.assets.stored == 0:
        return f"complete: {_why_nothing(mirror, summary.shard)} ({took})"
    brought = f"{_files(summary.run.assets)}, {format_size(summary.run.bytes)} in {took} ({_rate(summary):.0f} files/s)"
    ours = f" of shard {summary.shard}" if summary.shard else ""
    if items == mirror.items:
        line = f"{summary.verdict}: {_share(items)}{ours}, {brought}"
    else:
        line = f"{summary.verdict}: {_share(mirror.items)}{ours}; this run brought {brought}"
    return f"{line}: {summary.reason}" if summary.reason else line


def _why_nothing(mirror: Counts, shard: str) -> str:
    """Say why a run that is complete fetched nothing: a filter that nothing passes is not the same as all there."""
    items = mirror.items
    if not items.complete:
        listed = "the listing is empty"
        if items.filtered:
            falls = f"falls to shard {shard} and " if shard else ""
            listed = f"no item {falls}passed the filters; {format_count(items.filtered)} were listed"
        return f"nothing to fetch: {listed}"
    if not mirror.assets.stored:
        return f"nothing to fetch: of {format_count(items.complete)} items no asset was wanted, or there"
    ours = f" of shard {shard}" if shard else ""
    return (
        f"nothing was left to fetch; the ledger has all {format_count(items.complete)} items{ours}, "
        f"{_files(mirror.assets)}, {format_size(mirror.bytes)}"
    )


def _share(items: ItemCounts) -> str:
    wanted = items.complete + items.incomplete + items.pending
    return f"{format_count(items.complete)} of {format_count(wanted)} items"


def _rate(summary: Summary) -> float:
    return summary.run.assets.stored / summary.seconds if summary.seconds > 0 else 0.0


def _files(assets: AssetCounts) -> str:
    return f"{format_count(assets.stored)} {'file' if assets.stored == 1 else 'files'}"


def _sum(items: ItemCounts) -> str:
    parts = [f"{format_count(items.complete)} complete"]
    for name in ("incomplete", "filtered", "duplicate", "pending"):
        count = getattr(items, name)
        if count:
            parts.append(f"{format_count(count)} {name}")
    return f"{format_count(items.listed)} listed = " + " + ".join(parts)


def _assets(assets: AssetCounts) -> str:
    parts = [f"{format_count(assets.stored)} stored"]
    if assets.skipped:
        parts.append(f"{format_count(assets.skipped)} there already")
    if assets.unverified:
        parts.append(f"{format_count(assets.unverified)} unverified")
    parts.append(f"{format_count(assets.failed)} failed")
    return ", ".join(parts)


def _retried(retried: Retried) -> str:
    if not retried.asked:
        words = "nothing: no failure" + (f" of kind {' or '.join(retried.kinds)}" if retried.kinds else "")
    else:
        mended = retried.asked - retried.failed - retried.unreached
        kinds = f" ({', '.join(retried.kinds)})" if retried.kinds else ""
        words = f"{format_count(retried.asked)} failures{kinds} = {format_count(max(0, mended))} mended"
        words += f" + {format_count(retried.failed)} failed again" if retried.failed else ""
        words += f" + {format_count(retried.unreached)} not reached" if retried.unreached else ""
    if retried.others:
        words += f"; {format_count(retried.others)} of other kinds were left"
    return words


def _adopted(adopted: Adopted) -> str:
    words = f"{format_count(adopted.files)} files, {format_size(adopted.size_bytes)}"
    if adopted.linked:
        words += f" ({format_count(adopted.linked)} linked)"
    if adopted.files:
        words += f": {format_count(adopted.compared)} the same byte for byte as the source's"
        words += f", {format_count(adopted.files - adopted.compared)} by size and form only"
    if adopted.differ:
        words += f"; {format_count(adopted.differ)} were not what the source has, which was fetched"
    if adopted.unfit:
        words += f"; {format_count(adopted.unfit)} do not look whole"
    return words


def _absent(absence: AbsentKey) -> str:
    words = f"{_asset(absence.asset)}: listed but not at the source for {format_count(absence.asked)} items asked"
    if absence.assumed:
        words += f", {format_count(absence.assumed)} more not asked after that"
    return words


def _asset(key: str) -> str:
    """Return the words for an asset key; `@item` stands for the item's own JSON."""
    return "the item itself" if key == "@item" else key


def _next(ending: Ending) -> list[str]:
    summary = ending.summary
    if summary.verdict == "complete":
        return [ending.status_command]
    lines = [_FIRST.get(summary.exit_code, "") + ending.resume_command]
    gone = sorted({f.asset for f in summary.failures if f.kind in _GONE_KINDS and not f.asset.startswith("@")})
    if summary.exit_code == 3 and gone:
        flags = " ".join(f"--missing-ok {shlex.quote(key)}" for key in gone[:_ROWS_MAX])
        lines.append(f"if the source never had that: {ending.resume_command} {flags}")
    if summary.exit_code == 3 and any(f.kind == "content" for f in summary.failures):
        lines.append(f"if these are good files, and their types wrong: {ending.resume_command} --any-content")
    return lines
