"""Programs that run in environments of their own: see `measures.peers`."""
