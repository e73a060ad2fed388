"""The store behind a Dapr sidecar."""

from strands_dapr_session.stores.dapr.store import DaprStore, from_url

__all__ = ["DaprStore", "from_url"]
