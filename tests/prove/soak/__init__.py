"""Hours in minutes: workers that live long, sessions that come and go, and what piles up if anything does."""

from tests.prove.soak.campaign import CAMPAIGN

__all__ = ["CAMPAIGN"]
