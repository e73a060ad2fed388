"""State stores: five verbs over bytes, and what it takes to rely on them.

`base` is the contract, `locate.open_store` finds a store by its URL, and `settle` turns a write whose outcome is
uncertain into one that is applied for sure or refused for sure. A store is imported only when it is used.
"""

from strands_dapr_session.stores.base import Entry, KeyConflict, OutcomeUnknown, StateStore, StoreCapabilities
from strands_dapr_session.stores.locate import open_store
from strands_dapr_session.stores.settle import etag_of, settle_create, settle_replace

__all__ = [
    "Entry",
    "KeyConflict",
    "OutcomeUnknown",
    "StateStore",
    "StoreCapabilities",
    "etag_of",
    "open_store",
    "settle_create",
    "settle_replace",
]
