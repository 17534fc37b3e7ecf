"""What a run amounts to, in one word, an exit code and a reason; and whom to cite."""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence

from stacmirror.errors import SourceError, StacmirrorError
from stacmirror.model import CollectionInfo, Counts, Verdict
from stacmirror.pipeline.adopt import Adopter
from stacmirror.pipeline.stop import Stop
from stacmirror.pipeline.walk import Walk


def verdict_of(
    error: StacmirrorError | None,
    stop: Stop,
    walk: Walk,
    mirror: Counts,
    unlisted: Sequence[str],
    unmatched: str = "",
) -> tuple[Verdict, int, str]:
    """Return verdict, exit code and reason. Order: what broke the run, what stopped it, what is missing.

    `unlisted` are the ids asked for by name that the catalog does not list; `unmatched`: no asset name matches.
    """
    if error is not None:
        verdict: Verdict = "incomplete" if isinstance(error, SourceError) else "stopped"
        return verdict, error.exit_code, error.message
    if stop.asked.is_set():
        return "stopped", stop.exit_code, stop.reason
    if mirror.assets.failed or mirror.items.incomplete:
        return "incomplete", 3, f"{mirror.assets.failed} assets of {mirror.items.incomplete} items did not arrive"
    if mirror.items.pending:
        return "incomplete", 5, f"{mirror.items.pending} listed items are not there"
    if not walk.ended and not walk.limited:
        return "incomplete", 5, "the listing did not end"
    if unlisted:
        more = f" and {len(unlisted) - 3:,} more" if len(unlisted) > 3 else ""
        return "incomplete", 3, f"the catalog lists no item {', '.join(unlisted[:3])}{more}"
    if unmatched and not mirror.assets.stored:
        return "incomplete", 3, unmatched
    return "complete", 0, ""


def adoption_verdict(adopter: Adopter, mirror: Counts) -> tuple[int, str]:
    """Return exit code and reason of an adoption that came to its end: 0 where all that was there was taken."""
    result = adopter.result
    if not result.files and not result.differ and not result.unfit and not mirror.assets.stored:
        return 2, f"nothing was there to adopt; looked first for {adopter.first_missed}"
    if result.differ or result.unfit:
        return 3, f"not all that was there was adopted: {result.differ + result.unfit} files do not match"
    left = mirror.items.pending + mirror.items.incomplete
    return 0, f"{left} items are left to be fetched" if left else ""


def citation_lines(infos: list[CollectionInfo]) -> list[str]:
    """Return one line for each citation that is asked for, and the license, without repeating either."""
    lines: list[str] = []
    for info in infos:
        text = info.citation or (f"https://doi.org/{info.doi}" if info.doi else "")
        if text:
            license_ = f" [{info.license}]" if info.license else ""
            line = f"{text}{license_}"
            if line not in lines:
                lines.append(line)
    return lines


def peak_rss_mib() -> float:
    """Return the most memory this process has held, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / 1024
