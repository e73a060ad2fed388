"""Graphs, swarms and agents as tools: a run of many agents is one run, in one journal.

The journal belongs to the root, which was given the session manager. What happens below it is recorded under its path:
``"node"``, ``"node/inner"``, ``"node/<tool use id>"``. Strands itself computes what comes next: a resumed orchestrator
is set back to the beginning of the batch of nodes that was under way, and nodes of it that had finished replay their
recorded results.
"""
