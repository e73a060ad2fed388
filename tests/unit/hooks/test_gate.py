"""The gate lets one in at a time, from any loop, in order, and survives those who stop waiting."""

from __future__ import annotations

import asyncio
import threading

from strands_dapr_session.hooks.gate import Gate


async def test_one_at_a_time_and_in_order() -> None:
    gate, inside, order = Gate(), 0, []

    async def pass_through(number: int) -> None:
        nonlocal inside
        async with gate:
            inside += 1
            assert inside == 1
            order.append(number)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*map(pass_through, range(10)))
    assert order == list(range(10))
    assert not gate.is_taken


def test_between_event_loops() -> None:
    gate, inside, most = Gate(), [0], [0]

    async def pass_through() -> None:
        for _ in range(50):
            async with gate:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                await asyncio.sleep(0)
                inside[0] -= 1

    threads = [threading.Thread(target=asyncio.run, args=(pass_through(),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == [1]
    assert not gate.is_taken


async def test_who_stops_waiting_is_passed_over() -> None:
    gate, passed = Gate(), []

    async def pass_through(number: int) -> None:
        async with gate:
            passed.append(number)

    async with gate:
        tasks = [asyncio.create_task(pass_through(number)) for number in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        tasks[1].cancel()
        await asyncio.sleep(0)
    await asyncio.wait(tasks)
    assert passed == [2]
    assert not gate.is_taken


async def test_who_is_cancelled_when_its_turn_comes_gives_it_away() -> None:
    gate = Gate()

    async def pass_through() -> None:
        async with gate:
            raise AssertionError("never got in")

    async with gate:
        task = asyncio.create_task(pass_through())
        await asyncio.sleep(0)
    task.cancel()  # its turn has come, and it has not run since
    await asyncio.wait([task])
    assert task.cancelled()
    assert not gate.is_taken
    async with gate:
        pass
