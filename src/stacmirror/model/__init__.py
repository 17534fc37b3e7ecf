"""The plain values that travel through a run: what is wanted, what is on its way, how it ended.

Everyone may import this; it imports nothing of ours. All values are plain data (they can cross a process
border), and none holds a secret that is not already in an asset's href. This file holds their names and nothing
else: `from stacmirror.model import Item`, whichever file below has it. `as` says that a name is public.
"""

from stacmirror.model.ledger import Doubted as Doubted
from stacmirror.model.ledger import Forgiven as Forgiven
from stacmirror.model.ledger import ItemOutcome as ItemOutcome
from stacmirror.model.ledger import ItemRecord as ItemRecord
from stacmirror.model.ledger import KnownItem as KnownItem
from stacmirror.model.ledger import LackingItem as LackingItem
from stacmirror.model.ledger import LedgerEntry as LedgerEntry
from stacmirror.model.ledger import MissingKey as MissingKey
from stacmirror.model.ledger import PageRecord as PageRecord
from stacmirror.model.ledger import ResumePoint as ResumePoint
from stacmirror.model.ledger import Reveal as Reveal
from stacmirror.model.ledger import WalkAgain as WalkAgain
from stacmirror.model.stac import START as START
from stacmirror.model.stac import Asset as Asset
from stacmirror.model.stac import CollectionInfo as CollectionInfo
from stacmirror.model.stac import Cursor as Cursor
from stacmirror.model.stac import CursorKind as CursorKind
from stacmirror.model.stac import Item as Item
from stacmirror.model.stac import ItemKey as ItemKey
from stacmirror.model.stac import Page as Page
from stacmirror.model.stac import SourceLink as SourceLink
from stacmirror.model.summary import AbsentKey as AbsentKey
from stacmirror.model.summary import Adopted as Adopted
from stacmirror.model.summary import AssetCounts as AssetCounts
from stacmirror.model.summary import Counts as Counts
from stacmirror.model.summary import FailedAsset as FailedAsset
from stacmirror.model.summary import FailureCount as FailureCount
from stacmirror.model.summary import ItemCounts as ItemCounts
from stacmirror.model.summary import ListingState as ListingState
from stacmirror.model.summary import Retried as Retried
from stacmirror.model.summary import Summary as Summary
from stacmirror.model.summary import Verdict as Verdict
from stacmirror.model.transfer import Absent as Absent
from stacmirror.model.transfer import AssetKey as AssetKey
from stacmirror.model.transfer import Failed as Failed
from stacmirror.model.transfer import Outcome as Outcome
from stacmirror.model.transfer import PartState as PartState
from stacmirror.model.transfer import Receipt as Receipt
from stacmirror.model.transfer import Space as Space
from stacmirror.model.transfer import Stored as Stored
from stacmirror.model.transfer import Transfer as Transfer
from stacmirror.model.transfer import Unit as Unit
from stacmirror.model.transfer import Version as Version
