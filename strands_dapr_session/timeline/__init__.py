"""Looking back: the steps of a session, what its agents were at one of them, and new sessions that begin there."""
