"""The simulation once more, of graphs, swarms and agents as tools. See `tests.prove.simulation`."""

from __future__ import annotations

import os

from tests.prove import seeds
from tests.prove.campaign import Campaign
from tests.prove.simulation.campaign import run_shape

CAMPAIGN = Campaign(
    "orchestrators",
    "seeded schedules of graphs, swarms and agents as tools over a simulated sidecar",
    lambda options: run_shape(options, "orchestrators", "orchestrators"),
    lambda parser: seeds.add_arguments(parser, workers=os.cpu_count() or 1, expect_from=400),
    small=("--seeds", "0:400", "--minutes", "2"),
    full=("--seeds", "0:5000", "--state", "prove-orchestrators.json"),
)
