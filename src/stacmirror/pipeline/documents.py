"""Keep what collections say of themselves beside their items: collection.json, CITATION.txt, LICENSE.txt.

Called once a run, at its end, for every collection that has items in the mirror.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from stacmirror.errors import SourceError
from stacmirror.interfaces import Catalog, Observer, Sink
from stacmirror.model import CollectionInfo
from stacmirror.names import safe_name
from stacmirror.redact import Redactor, redact_url


async def describe_all(
    catalog: Catalog, sink: Sink, collections: Sequence[str], observer: Observer, redactor: Redactor
) -> list[CollectionInfo]:
    """Write the documents of `collections`; return what was learned. A collection that cannot be read is noted.

    Raises: LoginRefused, TargetUnwritable.
    """
    found: list[CollectionInfo] = []
    for collection in collections:
        try:
            info = await catalog.describe(collection)
        except SourceError as error:
            observer.note(f"no description of {collection}: {error.message}")
            continue
        found.append(info)
        folder = safe_name(collection)
        collection_json, citation = redactor.document(info.document), redactor.text(citation_text(info))
        await asyncio.to_thread(sink.put_document, f"{folder}/collection.json", collection_json)
        if info.citation or info.doi:
            await asyncio.to_thread(sink.put_document, f"{folder}/CITATION.txt", citation.encode())
        if info.license:
            text = redactor.text(license_text(info))
            await asyncio.to_thread(sink.put_document, f"{folder}/LICENSE.txt", text.encode())
    return found


def citation_text(info: CollectionInfo) -> str:
    """Return the text of CITATION.txt."""
    lines = [info.citation] if info.citation else []
    if info.doi:
        lines.append(f"https://doi.org/{info.doi}")
    return "\n".join(lines) + "\n"


def license_text(info: CollectionInfo) -> str:
    """Return the text of LICENSE.txt: the identifier, where its text is, and who licenses."""
    lines = [info.license]
    if info.license_href:
        lines.append(redact_url(info.license_href))
    elif info.license not in ("proprietary", "various", "other"):
        lines.append(f"https://spdx.org/licenses/{info.license}.html")
    if info.providers:
        lines.append("Providers: " + ", ".join(info.providers))
    return "\n".join(lines) + "\n"
