"""One agent's place in a journal: what is recorded of it, and what is owed to it."""

from __future__ import annotations

import math
import threading
import weakref
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Final

from strands_dapr_session import strands_compat
from strands_dapr_session.errors import DurableSessionError
from strands_dapr_session.hooks.documents import PROGRESS, Documents
from strands_dapr_session.hooks.gate import Gate
from strands_dapr_session.hooks.invocation import STATUS, tool_use_ids
from strands_dapr_session.hooks.stash import Stashed
from strands_dapr_session.hooks.transcript import Transcript
from strands_dapr_session.records.codec import pack_value, unpack_value
from strands_dapr_session.records.records import Noted, ToolFinished
from strands_dapr_session.records.view import KEPT_FINISHED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from strands import Agent
    from strands.types.content import Message, Messages
    from strands.types.tools import ToolResult

    from strands_dapr_session.hooks.invocation import Invocation, ToContinue
    from strands_dapr_session.hooks.ownership import Found, Ownership
    from strands_dapr_session.hooks.settings import Settings
    from strands_dapr_session.journal.journal import Journal
    from strands_dapr_session.records.records import Record, Spliced, Tried
    from strands_dapr_session.records.view import FinishedInvocation, ScopeView

MODEL_CALL: Final = "model"
"""What the failure of a model call is recorded as. Providers make longer ids for tool calls."""


class Recording:
    """What `CheckpointHooks` and `ResumeHook` share about one agent.

    Attributes:
        journal: The journal of the agent's root.
        scope: The agent's path below its root; empty for the root itself.
        settings: How the session manager was configured.
        ownership: How the agent comes by the right to write.
        found: What the journal held for everything below the agent's root when it was last read.
        visit: Names the occasion on which an orchestrator or a tool call runs the agent: an unfinished invocation is
            resumed by the same one only, whatever its prompt. None for an agent that users call.
        hands_out: A call that has finished is made again, by something of which nothing else is recorded, and gets its
            recorded result.
        beside: Gives records that belong with a tool's result: what the tool changed outside of the agent.
        nested: The last records of agents that ran as tools, by tool use id: they go with the tool's result.
        transcript: Shadow of the message list.
        documents: Shadow of its state and of what belongs to Strands.
        stashed: Shadow of what its context manager took out of the messages.
        results: Recorded results of the batch of tools that is under way, packed, by tool use id.
        in_doubt: Tools of that batch that an earlier process started and that have no result.
        tries: The last failure of each tool call of that batch, and of the model call, that is tried again.
        pause_ends: When the last pause before another attempt ends or ended, in monotonic seconds.
        admitted: The event loop on which each tool of that batch was started; a background task ends on another.
        owed: The last invocation is unfinished and nothing here runs it.
        status: The note that says how the last invocation stands.
        held: The assistant message that asked for tools and still waits for results, kept out of the agent's messages
            since the restore: Strands would answer it with "Tool was interrupted." as soon as a prompt arrives.
        placeholder: Such an answer that Strands did append, because the agent is still the one that failed.
        refused: The text with which Strands ended a call that a hook cancelled while something is owed.
        given: The prompt of the call that is about to begin, as the caller gave it.
        adopted: The very messages of that prompt, which become messages of the agent.
        is_answer: That call answers what the agent asked, as far as it knew, or goes on by a hook. Others may have done
            so before.
        invocation: What runs now.
        to_continue: The invocation whose call a hook lets go on with another prompt.
        lost_calls: Calls that ended without having told us, and may tell us still.
        structured: Tool calls of the batch that made structured output: they are not recorded.
        gate: Whoever acquires or releases the journal is inside.
        lock: Held from looking for differences until they are in the journal: threads may share an agent on request.
        replay: The recorded result that the current call hands out, instead of running anything.
        replayed: The message that carries it to the caller.
        handed_out: The same result taken apart, until the caller's has all of it.
        counted: Finished invocations whose tokens the agent's metrics hold; the newest.
        usage_is_live: The agent's metrics hold the tokens of the owed invocation.
        moved: Others may have written into the journal since this process owned it last.
        stale: The agent may differ from what is recorded, because recording failed.
        lost: The agent's messages when that happened. Those that are not recorded go; what is added later stays.
        seed: The agent's messages before anything was recorded of it, which are what it goes back to if nothing is.
        seed_documents: The same for the rest of it.
        failure: Why recording failed during the current invocation.
    """

    def __init__(self, journal: Journal, scope: str, settings: Settings, ownership: Ownership, found: Found) -> None:
        self.journal = journal
        self.scope = scope
        self.settings = settings
        self.ownership = ownership
        self.found = found
        self.visit: str | None = None
        self.hands_out = False
        self.beside: Callable[[], list[Record]] = list
        self.nested: dict[str, list[Record]] = {}
        self.transcript = Transcript(scope)
        self.documents = Documents(scope)
        self.stashed = Stashed(scope)
        self.results: dict[str, bytes] = {}
        self.in_doubt: set[str] = set()
        self.tries: dict[str, Tried] = {}
        self.pause_ends = -math.inf
        self.admitted: dict[str, int] = {}
        self.owed = False
        self.status: dict[str, Any] = {}
        self.held: Message | None = None
        self.placeholder: Message | None = None
        self.refused: Message | None = None
        self.given: Messages = []
        self.adopted: Messages = []
        self.is_answer = False
        self.invocation: Invocation | None = None
        self.to_continue: ToContinue | None = None
        self.lost_calls: list[Any] = []
        self.structured: set[str] = set()
        self.gate = Gate()
        self.lock = threading.Lock()
        self.replay: FinishedInvocation | None = None
        self.replayed: Message | None = None
        self.handed_out: dict[str, Any] | None = None
        self.counted: deque[str] = deque(maxlen=KEPT_FINISHED)
        self.usage_is_live = False
        self.moved = False
        self.stale = False
        self.lost: Messages = []
        self.seed: Messages = []
        self.seed_documents: dict[str, Any] = {}
        self.failure: DurableSessionError | None = None

    @property
    def name(self) -> str:
        """See `Journal.name`."""
        return self.journal.name

    @property
    def batch(self) -> list[str]:
        """The tool calls that the last recorded message asks for; empty if it asks for none."""
        last = self.transcript.last
        return tool_use_ids(last) if last is not None and last["role"] == "assistant" else []

    @property
    def batch_as_answered(self) -> list[str]:
        """The batch, but for those calls first that name no tool: Strands answers them before it runs the others."""
        last = self.transcript.last
        if not self.batch or last is None:
            return []
        calls = [block["toolUse"] for block in last["content"] if "toolUse" in block]
        return [call["toolUseId"] for call in sorted(calls, key=strands_compat.names_a_tool)]

    @property
    def ambiguous(self) -> set[str]:
        """The ids that several calls of the batch share, as some models give them.

        Strands matches results to calls by id, so a result of one of them would count for all: none is recorded before
        the message that holds them all.
        """
        return {id_ for id_, calls in Counter(self.batch).items() if calls > 1}

    @property
    def running(self) -> Invocation:
        """The invocation that runs.

        Raises:
            RuntimeError: None does.
        """
        if self.invocation is None:
            raise RuntimeError("no invocation runs")
        return self.invocation

    def changes(self, agent: Agent, *, thorough: bool) -> list[Record]:
        """List what differs between the agent and what is recorded of it, and take it as recorded.

        Args:
            agent: The live agent.
            thorough: Compare every message, not only those that were appended.

        Raises:
            UnencodableValueError: Something in the agent would not survive storage.
        """
        documents, version = self.documents.changed(agent)
        if self.invocation is not None:
            documents += self.documents.difference(PROGRESS, self.invocation.progress.document())
        compare = self.transcript.changed if thorough else self.transcript.appended
        # Where several calls run at the same time, a message of one may end the batch of another in the journal: there,
        # messages had better not refer to recorded results.
        edits = compare(agent.messages, {} if strands_compat.may_be_reentered(agent) else self.results)
        self.documents.take(documents, version)
        if not self.batch:
            self.results.clear()
            self.in_doubt.clear()
            self.tries = {what: tried for what, tried in self.tries.items() if what == MODEL_CALL}
            self.admitted.clear()
            self.structured.clear()
        return [*edits, *documents, *self.stashed.changes()]

    def take_results(self, results: Iterable[ToolResult]) -> list[Record]:
        """Record results of the open batch that this session did not see: the agent was given them with a snapshot."""
        packed = self.pack_results(results)
        self.results.update(packed)
        return [ToolFinished(self.scope, tool_use_id, result) for tool_use_id, result in packed.items()]

    def pack_results(self, results: Iterable[ToolResult]) -> dict[str, bytes]:
        """Pack those results that belong to the open batch, and to one call of it."""
        batch, ambiguous = self.batch, self.ambiguous
        wanted = [each for each in results if each["toolUseId"] in batch and each["toolUseId"] not in ambiguous]
        return {each["toolUseId"]: pack_value(each, path="toolResult") for each in wanted}

    def edits(self, agent: Agent) -> list[Spliced]:
        """List what a tool and hooks made of the messages, for the record of the tool's result."""
        if strands_compat.edits_history_midway(agent):
            return self.transcript.edited(agent.messages)
        return self.transcript.amended(agent.messages)

    def doubts(self, scope: ScopeView) -> set[str]:
        """List the tools of the open batch that may have run, and have no result."""
        return set(scope.started).difference(self.status.get("asking", ()))

    def holds_final_answer(self, message: Message) -> bool:
        """Tell whether a message holds the result of structured output, which ends the invocation."""
        return any(block.get("toolResult", {}).get("toolUseId") in self.structured for block in message["content"])

    def holds_back_answer(self, agent: Agent, message: Message | None = None) -> bool:
        """Tell whether an answer of the model is not recorded yet, other than a message that was just added."""
        added = [each for each in self.transcript.behind(agent.messages) if each is not message]
        return any(each["role"] == "assistant" for each in added)

    def has_adopted(self, agent: Agent) -> bool:
        """Tell whether the caller says again what has become messages of the agent, whatever became of these."""
        live = {id(message) for message in agent.messages}
        return bool(self.adopted) and all(id(message) in live for message in self.adopted)

    def put_back(self, agent: Agent) -> None:
        """Give the agent its held message back, in its place, and take Strands' answer to it away."""
        messages = agent.messages
        if self.placeholder is not None and messages and messages[-1] is self.placeholder:
            messages.pop()
        self.placeholder = None
        if self.held is not None:
            messages.insert(min(len(self.transcript) - 1, len(messages)), self.held)
        self.held = None

    def is_placeholder(self, message: Message) -> bool:
        """Tell whether Strands just answered the owed batch with "Tool was interrupted.", and remember that."""
        answers = [block.get("toolResult") for block in message["content"]]
        interrupted = [{"text": strands_compat.INTERRUPTED_TEXT}]
        if not (self.owed or self.stale) or not answers:
            return False
        if any(answer is None or answer["content"] != interrupted for answer in answers):
            return False
        if not self.stale and [answer["toolUseId"] for answer in answers if answer] != self.batch:
            return False
        self.placeholder = message
        return True

    def unrecorded(self, agent: Agent) -> Messages:
        """List the messages at the end of the agent's list that nobody tried to record yet."""
        known = 0 if self.lost else len(self.transcript) - (self.held is not None)
        others = {id(message) for message in self.lost} | {id(self.placeholder)}
        return [message for message in agent.messages[known:] if id(message) not in others]

    def note_status(self, state: str, **details: Any) -> Noted:
        """Write down how the current invocation stands."""
        if self.visit is not None:
            details["visit"] = self.visit
        note = Noted(self.scope, STATUS, self.running.status(state, **details))
        self.status = unpack_value(note.value)
        return note

    def fail(self, error: DurableSessionError) -> None:
        """Remember why recording failed; the invocation stops at its next step."""
        if self.failure is None:
            self.failure = error

    async def check(self) -> None:
        """Stop here if recording failed.

        Raises:
            DurableSessionError: What went wrong.
        """
        if self.failure is None and not self.journal.owned:
            await self.barrier()
        if self.failure is not None:
            raise self.failure

    async def barrier(self) -> None:
        """Wait until everything so far is acknowledged.

        Raises:
            DurableSessionError: It never will be.
        """
        try:
            await self.journal.barrier()
        except DurableSessionError as error:
            self.fail(error)
            raise


class Recordings:
    """The agents of one session manager, each with its place in a journal.

    Attributes:
        attached: Agents that code of users calls, and the names that they are attached under.
    """

    def __init__(self, begin: Callable[[Agent], Recording]) -> None:
        """Use `begin` to make the recording of an agent that is seen for the first time."""
        self.attached: weakref.WeakKeyDictionary[Agent, str] = weakref.WeakKeyDictionary()
        self._begin = begin
        self._by_agent: weakref.WeakKeyDictionary[Agent, Recording] = weakref.WeakKeyDictionary()
        self._ids: set[str] = set()

    def add(self, agent: Agent) -> Recording:
        """Begin to record an agent.

        Raises:
            DuplicateAgentError: The session already has an agent of that id.
        """
        if agent in self._by_agent:
            return self._by_agent[agent]
        if agent.agent_id in self._ids:
            raise strands_compat.DuplicateAgentError(
                f"The `agent_id` of an agent must be unique in a session: {agent.agent_id!r} is taken. Give the second "
                "agent an `agent_id` of its own, or use one session manager for each session."
            )
        recording = self._begin(agent)
        self._ids.add(agent.agent_id)
        self._by_agent[agent] = recording
        return recording

    def find(self, agent: Agent) -> Recording | None:
        """Get the recording of an agent; None if the agent is not of this session manager."""
        return self._by_agent.get(agent)

    def bind(self, agent: Agent, recording: Recording) -> None:
        """Record an agent in a place of its orchestrator's or parent's, until it is unbound."""
        self._by_agent[agent] = recording

    def unbind(self, agent: Agent) -> None:
        """Stop recording an agent that was bound."""
        self._by_agent.pop(agent, None)
