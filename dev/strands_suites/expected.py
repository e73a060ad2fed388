"""The tests of Strands that cannot pass with a session manager in everything, each with its reason.

Each fails for what it *is about*, none for what an agent of a user would notice. The list is strict: a test that passes
after all is an error.
"""

from __future__ import annotations

import os
from typing import Final

_COUNTS_CALLBACKS: Final = "counts the callbacks of the hook registry, and ours are among them"
_NO_SESSION: Final = "is about an agent without a session manager"
_REFUSED: Final = "Strands' A2A server refuses an agent with a session manager; `agent_factory` is its way"

EXPECTED: Final = {
    "agent/test_agent.py": {
        "test_session_id_without_session_manager": _NO_SESSION,
        "test_metadata_omits_session_id_without_manager": _NO_SESSION,
        "test_agent_metadata_has_no_session_id_without_manager": _NO_SESSION,
    },
    "multiagent/a2a/test_executor.py": {
        "test_single_agent_isolates_and_continues_per_context": _REFUSED,
        "test_single_agent_evicts_least_recently_used_context": _REFUSED,
        "test_single_agent_preserves_seeded_history": _REFUSED,
    },
    "multiagent/test_multiagent_plugins.py": {
        "test_swarm_registers_plugin_hooks": _COUNTS_CALLBACKS,
        "test_swarm_plugins_coexist_with_hooks": _COUNTS_CALLBACKS,
        "test_swarm_add_hook_registers_callback": _COUNTS_CALLBACKS,
        "test_swarm_add_hook_infers_event_type": _COUNTS_CALLBACKS,
        "test_graph_registers_plugin_hooks": _COUNTS_CALLBACKS,
        "test_graph_plugins_coexist_with_hooks": _COUNTS_CALLBACKS,
        "test_graph_add_hook_registers_callback": _COUNTS_CALLBACKS,
        "test_graph_add_hook_infers_event_type": _COUNTS_CALLBACKS,
    },
    "multiagent/test_swarm.py": {
        "test_swarm_interrupt_on_agent": (
            "sets a private field of a waiting swarm between two calls; what waits is what was recorded"
        ),
    },
}
"""Reasons by file below ``tests/strands`` and name."""

WITH_SESSIONS_IN_TOOLS: Final = {
    "agent/test_agent_as_tool.py": {
        "test_stream_interrupt_warns_when_a_context_preserving_sub_agent_has_no_session_manager": _NO_SESSION,
    },
}
"""Those that fail where agents that become tools have a session of their own."""

UNRELATED: Final[dict[str, dict[str, str]]] = (
    {
        "storage/test_local_file_storage.py": {
            "test_write_error_raises_storage_error": "nothing is forbidden to root",
            "test_read_error_raises_storage_error": "nothing is forbidden to root",
        },
    }
    if os.geteuid() == 0
    else {}
)
"""Those that fail on this machine without us as well."""
