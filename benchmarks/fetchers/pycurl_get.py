"""libcurl's multi interface from Python, 64 handles: `pycurl_get.py BASE PATHS [CERTIFICATE]`.

Bodies are held and written at once; redirects are libcurl's own business.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pycurl

CONCURRENT = 64


def start(handle: Any, base: str, paths: Iterator[str]) -> bool:
    """Give `handle` the next path; False when there is none."""
    path = next(paths, None)
    if path is None:
        return False
    handle.path, handle.body = path, BytesIO()
    handle.setopt(pycurl.URL, f"{base}/{path}")
    handle.setopt(pycurl.WRITEDATA, handle.body)
    return True


def keep(handle: Any) -> None:
    """Write what `handle` got, or end the run."""
    status = handle.getinfo(pycurl.RESPONSE_CODE)
    if status != 200:
        raise SystemExit(f"{handle.path}: {status}")
    os.makedirs(os.path.dirname(handle.path), exist_ok=True)
    with open(handle.path, "wb") as file:
        file.write(handle.body.getbuffer())


def make_handle(certificate: str) -> Any:
    """Return an easy handle that follows redirects."""
    handle = pycurl.Curl()
    handle.setopt(pycurl.FOLLOWLOCATION, 1)
    handle.setopt(pycurl.NOSIGNAL, 1)
    if certificate:
        handle.setopt(pycurl.CAINFO, certificate)
    return handle


def main() -> None:
    """Drive all handles until no path is left."""
    base, paths = sys.argv[1], iter(Path(sys.argv[2]).read_text().split())
    certificate = sys.argv[3] if len(sys.argv) > 3 else ""
    multi = pycurl.CurlMulti()
    handles = [make_handle(certificate) for _ in range(CONCURRENT)]
    under_way = 0
    for handle in handles:
        if start(handle, base, paths):
            multi.add_handle(handle)
            under_way += 1
    while under_way:
        while multi.perform()[0] == pycurl.E_CALL_MULTI_PERFORM:
            pass
        _, done, failed = multi.info_read()
        if failed:
            raise SystemExit(f"{failed[0][0].path}: {failed[0][2]}")
        for handle in done:
            keep(handle)
            multi.remove_handle(handle)
            if start(handle, base, paths):
                multi.add_handle(handle)
            else:
                under_way -= 1
        if under_way and not done:
            multi.select(1.0)


if __name__ == "__main__":
    main()
