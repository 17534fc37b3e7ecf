"""obstore (Rust's object_store): GET by HTTPStore or S3Store, blocking write. `obstore_get.py BASE PATHS [ENDPOINT]`.

For a BASE of `s3://bucket` the keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvloop
from obstore.store import HTTPStore, S3Store

CONCURRENT = 64


def open_store(base: str) -> Any:
    """Return the store that BASE names."""
    if not base.startswith("s3://"):
        return HTTPStore.from_url(base, client_options={"allow_http": True})
    return S3Store(
        base.removeprefix("s3://"),
        endpoint=sys.argv[3],
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )


async def work(store: Any, paths: Iterator[str]) -> None:
    """Fetch what is left of `paths`."""
    for path in paths:
        answer = await store.get_async(path)
        body = await answer.bytes_async()
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:  # noqa: ASYNC230 - a blocking write is the cheapest one
            file.write(body)


async def main() -> None:
    """Share the paths among the workers."""
    store = open_store(sys.argv[1])
    paths = iter(Path(sys.argv[2]).read_text().split())  # noqa: ASYNC240 - nothing else runs yet
    async with asyncio.TaskGroup() as group:
        for _ in range(CONCURRENT):
            group.create_task(work(store, paths))


if __name__ == "__main__":
    uvloop.run(main())
