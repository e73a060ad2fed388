"""The store in an SQLite file."""

from strands_dapr_session.stores.sqlite.store import SqliteStore, from_url

__all__ = ["SqliteStore", "from_url"]
