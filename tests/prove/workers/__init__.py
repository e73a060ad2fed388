"""Runs over workers that are killed and stopped, and a sidecar that is restarted: each finishes, and exactly once."""

from tests.prove.workers.campaign import CAMPAIGN

__all__ = ["CAMPAIGN"]
