"""`stacmirror manifest DEST`: a mirror's files with their digests, as coreutils or programs read them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Annotated, Literal

import typer

from stacmirror.cli.mirror import Dest
from stacmirror.cli.screen import json_line
from stacmirror.cli.session import say, warn
from stacmirror.cli.verify import Processes, Progress, told
from stacmirror.cli.watching import default_processes, terminable, watching
from stacmirror.errors import UsageError
from stacmirror.findings import DAMAGE_KINDS, DAMAGED_EXIT_CODE
from stacmirror.units import format_count

if TYPE_CHECKING:
    from stacmirror.findings import Finding

_KINDS: dict[str, Literal["md5", "sha256"]] = {"sha256sums": "sha256", "md5sums": "md5"}
_SAID_MAX = 20


def manifest(
    ctx: typer.Context,
    dest: Dest,
    format_: Annotated[str, typer.Option("--format", help="sha256sums, md5sums or ndjson.", metavar="FORMAT")],
    output: Annotated[
        str, typer.Option("-o", "--output", help="Write there, whole or not at all; default: stdout.", metavar="FILE")
    ] = "",
    processes: Processes = 0,
    progress: Progress = "auto",
) -> None:
    """List a mirror's files with their digests. The paths are relative to DEST.

    sha256sums and md5sums are what `sha256sum -c` and `md5sum -c` read. Sums that
    the ledger has not are computed by reading every file; a file that is not what
    the ledger says is left out, and said (exit code 7). ndjson is the ledger's own
    knowledge, without reading: collection, item, asset, path, bytes, digest_kind
    (md5 or xxh3), digest.

    stacmirror manifest ben --format sha256sums -o ben/SHA256SUMS
    (cd ben && sha256sum --quiet -c SHA256SUMS)
    stacmirror manifest ben --format ndjson | jq .path
    """
    from stacmirror.findings import Checking
    from stacmirror.manifest import entries, sums, sums_line

    if format_ not in (*_KINDS, "ndjson"):
        raise UsageError(f"no format {format_!r}", hint=f"there are {', '.join(_KINDS)} and ndjson")
    problems = _Problems()
    written = 0
    checking = Checking()
    # A bar would be drawn into lines that go to the same terminal.
    shows = "none" if not output and sys.stdout.isatty() else progress
    with terminable(), watching(checking, f"listing {dest}", shows), _output(output) as write:
        if format_ == "ndjson":
            for entry in entries(dest, problems, checking):
                write(json_line(entry).encode() + b"\n")
                written += 1
        else:
            found = sums(dest, _KINDS[format_], processes or default_processes(), problems, checking)
            for path, digest in found:
                write(f"{sums_line(path, digest)}\n".encode("utf-8", "surrogateescape"))
                written += 1
    raise typer.Exit(problems.tell(dest, written, output))


class _Problems:
    """Hears what is left out, and says it."""

    def __init__(self) -> None:
        self._damaged = 0
        self._unrevealed = 0

    def __call__(self, finding: Finding) -> None:
        if finding.kind not in DAMAGE_KINDS:
            self._unrevealed += 1
            return
        self._damaged += 1
        if self._damaged <= _SAID_MAX:
            detail = f": {finding.detail}" if finding.detail else ""
            warn(f"left out, {finding.kind}: {finding.path}{detail}")

    def tell(self, dest: str, written: int, output: str) -> int:
        if output:
            say(f"{format_count(written)} files are in {output}")
        if self._unrevealed:
            warn(f"{format_count(self._unrevealed)} items are not revealed yet, and left out")
        if self._damaged:
            say(f"damaged: {format_count(self._damaged)} left out; see `stacmirror verify {dest} --deep`")
            return DAMAGED_EXIT_CODE
        return 0


@contextmanager
def _output(path: str) -> Iterator[Callable[[bytes], object]]:
    """Give what writes bytes to `path` or to stdout. Raises: TargetUnwritable."""
    if not path:
        sys.stdout.flush()
        try:
            yield sys.stdout.buffer.write
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            # Whoever read has enough (`| head`); what is still held must not be tried again at the exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        return
    part = f"{path}.part"
    with told(path):
        file = open(part, "wb")  # noqa: SIM115
    try:
        yield lambda content: _write(path, file, content)
        with told(path):
            file.flush()
            os.fsync(file.fileno())
            os.replace(part, path)
    finally:
        with told(path), suppress(FileNotFoundError):
            file.close()
            os.unlink(part)


def _write(path: str, file: IO[bytes], content: bytes) -> None:
    with told(path):
        file.write(content)
