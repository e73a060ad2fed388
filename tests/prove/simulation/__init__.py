"""Seeded schedules of whole processes in one: real session managers, hooks, journals and stores, simulated time.

Everything above the gRPC stub is the real code. A *world* has a clock of its own, machines that die and stand still,
and a network with a sidecar behind it that loses, delays, repeats and refuses as real ones do. One seed decides
everything, so a schedule that went wrong goes wrong again.
"""

from tests.prove.simulation.campaign import CAMPAIGN

__all__ = ["CAMPAIGN"]
