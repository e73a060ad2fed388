"""The bridge between callers' loops and ours."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import threading

import pytest

from strands_dapr_session import io_thread
from tests.unit.stores.script import run_script


async def where(value: object = None) -> tuple[str, object]:
    await asyncio.sleep(0)
    return threading.current_thread().name, value


async def fail() -> None:
    await asyncio.sleep(0)
    raise LookupError("no such thing")


async def test_operations_of_all_callers_run_on_one_thread() -> None:
    name, _ = await io_thread.run(where())
    assert name == "strands-dapr-session-io"
    assert io_thread.run_sync(where())[0] == name
    assert await asyncio.to_thread(lambda: asyncio.run(io_thread.run(where())))
    assert not io_thread.is_current()


async def test_errors_reach_the_caller() -> None:
    with pytest.raises(LookupError, match="no such thing"):
        await io_thread.run(fail())
    with pytest.raises(LookupError, match="no such thing"):
        io_thread.run_sync(fail())


async def test_an_operation_sees_the_context_of_its_caller() -> None:
    trace: contextvars.ContextVar[str] = contextvars.ContextVar("trace", default="")

    async def read() -> str:
        return trace.get()

    trace.set("mine")
    assert await io_thread.run(read()) == "mine"
    assert io_thread.run_sync(read()) == "mine"


async def test_an_operation_may_call_the_bridge() -> None:
    async def outer() -> tuple[str, object]:
        assert io_thread.is_current()
        return await io_thread.run(where("inner"))

    assert (await io_thread.run(outer()))[1] == "inner"


async def test_blocking_the_io_thread_on_itself_is_an_error() -> None:
    async def outer() -> None:
        io_thread.run_sync(where())

    with pytest.raises(RuntimeError, match="await instead"):
        await io_thread.run(outer())


async def test_a_cancelled_caller_leaves_the_operation_going() -> None:
    begun, go_on, ended = threading.Event(), asyncio.Event(), threading.Event()

    async def operation() -> None:
        begun.set()
        await go_on.wait()
        ended.set()
        raise LookupError("nobody hears of it")

    caller = asyncio.create_task(io_thread.run(operation()))
    await asyncio.to_thread(begun.wait)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert not ended.is_set()
    io_thread.call_soon(go_on.set)
    assert await asyncio.to_thread(ended.wait, 10)
    await io_thread.run(where())
    gc.collect()  # would report an exception that was never retrieved


async def test_a_cancelled_operation_cancels_its_caller() -> None:
    async def operation() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    with pytest.raises(asyncio.CancelledError):
        await io_thread.run(operation())


async def test_a_caller_whose_loop_is_gone_is_forgotten() -> None:
    begun, go_on = threading.Event(), asyncio.Event()

    async def operation() -> None:
        begun.set()
        await go_on.wait()

    async def call_and_leave() -> None:
        caller = asyncio.create_task(io_thread.run(operation()))
        await asyncio.to_thread(begun.wait)
        caller.cancel()

    await asyncio.to_thread(lambda: asyncio.run(call_and_leave()))
    io_thread.call_soon(go_on.set)
    assert (await io_thread.run(where("still here")))[1] == "still here"


async def test_many_calls_wake_each_loop_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    wakes: list[object] = []

    def count(loop: asyncio.AbstractEventLoop) -> None:
        original = loop.call_soon_threadsafe

        def counted(*args: object, **kwargs: object) -> asyncio.Handle:
            wakes.append(loop)
            return original(*args, **kwargs)  # type: ignore[arg-type]  # passed on

        monkeypatch.setattr(loop, "call_soon_threadsafe", counted)

    async def io_loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    ours, theirs = await io_thread.run(io_loop()), asyncio.get_running_loop()
    count(ours)
    count(theirs)
    answers = await asyncio.gather(*(io_thread.run(where(number)) for number in range(5000)))
    assert [value for _, value in answers] == list(range(5000))
    # Without batches it would be one for each call. How large they get depends on how threads are scheduled.
    assert wakes.count(ours) < 2500
    assert wakes.count(theirs) < 2500


async def test_a_failing_callback_is_logged_and_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    called = threading.Event()
    with caplog.at_level(logging.ERROR):
        io_thread.call_soon(lambda: 1 / 0)
        io_thread.call_soon(called.set)
        assert await asyncio.to_thread(called.wait, 10)
    assert "ZeroDivisionError" in caplog.text


def test_a_child_starts_a_thread_of_its_own_and_the_parent_keeps_its() -> None:
    out = run_script("""
        import asyncio, os, threading
        from strands_dapr_session import io_thread

        async def whoami(): return os.getpid(), io_thread.generation()

        closed, reopened = [], []
        async def close(): closed.append(os.getpid())
        io_thread.at_fork(close, lambda: reopened.append(os.getpid()))

        parent = os.getpid()
        assert io_thread.run_sync(whoami()) == (parent, 0)
        child = os.fork()
        if child == 0:
            assert io_thread.run_sync(whoami()) == (os.getpid(), 1)
            grandchild = os.fork()
            if grandchild == 0:
                assert asyncio.run(io_thread.run(whoami())) == (os.getpid(), 2)
                print("grandchild", len(closed), flush=True)
                os._exit(0)
            assert os.waitpid(grandchild, 0)[1] == 0
            print("child", flush=True)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert io_thread.run_sync(whoami()) == (parent, 0)
        assert closed == reopened == [parent]
        print("parent")
    """)
    assert out.split() == ["grandchild", "2", "child", "parent"]


def test_a_fork_leaves_operations_under_way_alone() -> None:
    run_script("""
        import asyncio, os, threading
        from strands_dapr_session import io_thread

        begun, go_on = threading.Event(), asyncio.Event()
        async def operation():
            begun.set()
            await go_on.wait()
            return "done"
        answers = []
        thread = threading.Thread(target=lambda: answers.append(io_thread.run_sync(operation())))
        thread.start()
        begun.wait()
        for _ in range(20):
            child = os.fork()
            if child == 0:
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        io_thread.call_soon(go_on.set)
        thread.join()
        assert answers == ["done"]
    """)


@pytest.mark.parametrize("ending", ["pass", "raise SystemExit(0)", "asyncio.run(io_thread.run(quick()))"])
def test_the_interpreter_exits_while_operations_run(ending: str) -> None:
    run_script(f"""
        import asyncio
        from strands_dapr_session import io_thread

        async def quick(): await asyncio.sleep(0)
        async def endless():
            while True:
                await asyncio.sleep(0.01)

        io_thread.run_sync(quick())
        io_thread.call_soon(lambda: asyncio.get_running_loop().create_task(endless()))
        {ending}
    """)


def test_an_operation_under_way_is_finished_at_exit() -> None:
    out = run_script("""
        import asyncio, threading
        from strands_dapr_session import io_thread

        begun = threading.Event()
        async def commit():
            begun.set()
            await asyncio.sleep(0.1)
            print("committed", flush=True)

        async def main():
            task = asyncio.create_task(io_thread.run(commit()))
            await asyncio.to_thread(begun.wait)
            task.cancel()

        asyncio.run(main())
    """)
    assert out == "committed\n"


def test_an_operation_that_hangs_does_not_keep_the_process() -> None:
    run_script("""
        import asyncio, threading
        from strands_dapr_session import io_thread

        begun = threading.Event()
        async def hang():
            begun.set()
            await asyncio.Event().wait()

        threading.Thread(target=lambda: io_thread.run_sync(hang()), daemon=True).start()
        begun.wait()
    """)


def test_nothing_is_started_after_the_end() -> None:
    out = run_script("""
        import asyncio, atexit

        def late():
            from strands_dapr_session import io_thread
            async def operation(): pass
            for call in (io_thread.run_sync, lambda coro: asyncio.run(io_thread.run(coro))):
                try:
                    call(operation())
                except RuntimeError as error:
                    print(error)

        atexit.register(late)
        from strands_dapr_session import io_thread
        async def operation(): pass
        io_thread.run_sync(operation())
    """)
    assert out.count("shutting down") == 2
