"""Programs that run in environments of their own, which need nothing of this package: see `measures.peers`."""
