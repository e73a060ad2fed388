"""What is known of Dapr's state components beyond what probing a store can tell: how to use each one well.

Whether a component is *safe* is never read from here; `probe.check_store` finds out on the store itself. A
component that is not listed is used in the plainest way.
"""

from __future__ import annotations

from dataclasses import dataclass

_KIB = 1024


@dataclass(frozen=True, slots=True)
class ComponentTraits:
    """How to use a component.

    Attributes:
        groups_writes: Several items in one ``SaveState`` are written each for itself, every one of them first-write,
            and faster than one by one.
        serial_writes: Writing at the same time makes it slower.
        bulk_reads: ``GetBulkState``, which takes no consistency, reads what was acknowledged last.
        replace_revives: See `StoreCapabilities.replace_revives`.
        max_value_bytes: What one key may hold if that is less than usual.
    """

    groups_writes: bool = False
    serial_writes: bool = False
    bulk_reads: bool = False
    replace_revives: bool = True
    max_value_bytes: int | None = None


_KNOWN = {
    "state.redis/v1": ComponentTraits(groups_writes=True, bulk_reads=True),
    "state.postgresql/v2": ComponentTraits(groups_writes=True, bulk_reads=True, replace_revives=False),
    "state.in-memory/v1": ComponentTraits(groups_writes=True, bulk_reads=True, replace_revives=False),
    "state.sqlite/v1": ComponentTraits(serial_writes=True, bulk_reads=True, replace_revives=False),
    # An item of DynamoDB may be 400 KB, its key and ETag included.
    "state.aws.dynamodb/v1": ComponentTraits(replace_revives=False, max_value_bytes=380 * _KIB),
}


PLAIN = ComponentTraits()


def traits_of(component_type: str, version: str) -> ComponentTraits:
    """Return how to use a component of this type and version, as ``GetMetadata`` calls them."""
    return _KNOWN.get(f"{component_type}/{version or 'v1'}", PLAIN)
