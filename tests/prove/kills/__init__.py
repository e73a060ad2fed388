"""Real processes that die of SIGKILL and stand still beyond their lease; servers die and networks cut under them."""

from tests.prove.kills.campaign import CAMPAIGN

__all__ = ["CAMPAIGN"]
