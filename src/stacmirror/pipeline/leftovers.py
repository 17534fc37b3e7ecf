"""Which parts of large files does nobody need any more? Called by the composition root, before and after a run."""

from __future__ import annotations

from stacmirror.interfaces import Ledger, Sink


def drop_parts_of_known(sink: Sink, ledger: Ledger) -> None:
    """Before a run: remove parts of items that have all their assets: a kill leaves some, and nobody asks for them."""
    items = list({asset.item for asset in sink.waiting})
    known = ledger.known(items) if items else {}
    whole = {item for item, found in known.items() if not found.lacking}
    sink.drop_parts([asset for asset in sink.waiting if asset.item in whole])


def drop_parts_of_unlisted(sink: Sink, ledger: Ledger) -> None:
    """After a run that met every item of the listing: remove the parts of those that lack nothing, or are no more."""
    items = list({asset.item for asset in sink.waiting})
    known = ledger.known(items) if items else {}
    lacking = {item for item, found in known.items() if found.lacking}
    sink.drop_parts([asset for asset in sink.waiting if asset.item not in lacking])
