"""What is in an agent's conversation, as tests look at it."""

from __future__ import annotations

from strands import Agent


def said(agent: Agent) -> list[str]:
    """What the user said."""
    return [
        block["text"]
        for message in agent.messages
        for block in message["content"]
        if message["role"] == "user" and "text" in block
    ]


def results(agent: Agent) -> list[str]:
    """What tools gave."""
    blocks = [block for message in agent.messages for block in message["content"]]
    return [block["toolResult"]["content"][0]["text"] for block in blocks if "toolResult" in block]
