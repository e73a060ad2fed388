"""A store in which sessions would not be safe is refused before anything of an agent is written to it."""

from __future__ import annotations

import pytest
from strands import Agent

from strands_dapr_session import DaprSessionManager, UnsafeStoreError
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.model import ScriptedModel


class Forgetful(MemoryStore):
    """Creates without looking whether the key is there, as a store without first-write does."""

    is_proven = False

    async def create(self, key: str, value: bytes) -> None:
        await self.delete_many([key])
        await super().create(key, value)


class Textual(MemoryStore):
    """Gives back what text would have made of the bytes."""

    is_proven = False

    async def create(self, key: str, value: bytes) -> None:
        await super().create(key, value.decode("utf-8", "replace").encode())


@pytest.mark.parametrize("store", [Forgetful, Textual])
def test_refused_at_the_first_call(store: type[MemoryStore]) -> None:
    model = ScriptedModel(["hello"])
    kept = store()
    agent = Agent(model=model, callback_handler=None, session_manager=DaprSessionManager("s", store=kept))
    with pytest.raises(UnsafeStoreError, match="refused"):
        agent("hi")
    assert model.calls == []
    assert agent.messages == []
