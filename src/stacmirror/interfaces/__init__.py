"""The contracts between the pipeline and its adapters. The pipeline knows these and nothing concrete.

Each protocol's docstring is its contract: what may be called again, which errors it raises, what a
cancellation does. The suites in tests/contract hold every adapter against them. This file holds their names and
nothing else: `from stacmirror.interfaces import Sink`, whichever file below has it. `as` says that a name is public.
"""

from stacmirror.interfaces.catalog import Catalog as Catalog
from stacmirror.interfaces.catalog import Filter as Filter
from stacmirror.interfaces.catalog import Joining as Joining
from stacmirror.interfaces.ledger import Ledger as Ledger
from stacmirror.interfaces.sink import Hasher as Hasher
from stacmirror.interfaces.sink import Part as Part
from stacmirror.interfaces.sink import Shelf as Shelf
from stacmirror.interfaces.sink import Sink as Sink
from stacmirror.interfaces.surroundings import Clock as Clock
from stacmirror.interfaces.surroundings import Observer as Observer
from stacmirror.interfaces.transport import Body as Body
from stacmirror.interfaces.transport import Opener as Opener
from stacmirror.interfaces.transport import Reply as Reply
from stacmirror.interfaces.transport import SeveralOpener as SeveralOpener
from stacmirror.interfaces.transport import SeveralTransport as SeveralTransport
from stacmirror.interfaces.transport import Transport as Transport
