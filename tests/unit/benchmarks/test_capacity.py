from __future__ import annotations

import pytest

from benchmarks.capacity import Costs, fit, simulate

COSTS = Costs(client=120e-6, sidecar=180e-6, store=40e-6)


def test_costs_are_found_from_runs() -> None:
    runs = [
        {"writes": writes, "client": writes * 1e-4, "sidecar": writes * 2e-4, "store": writes * 3e-5}
        for writes in (1000, 5000, 20_000)
    ]

    found = fit(runs)

    assert found.client == pytest.approx(1e-4)
    assert found.sidecar == pytest.approx(2e-4)
    assert found.store == pytest.approx(3e-5)


@pytest.mark.parametrize("machines", [1, 2, 8])
def test_the_simulation_agrees_with_the_model(machines: int) -> None:
    assert simulate(COSTS, machines, cores=2) == pytest.approx(COSTS.with_machines(machines, cores=2), rel=0.05)


def test_machines_help_until_redis_is_busy() -> None:
    assert COSTS.with_machines(2, cores=2) == 2 * COSTS.with_machines(1, cores=2)
    assert COSTS.with_machines(100, cores=2) == 1 / COSTS.store
