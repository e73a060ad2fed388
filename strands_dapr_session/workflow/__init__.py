"""Runs that restart by themselves: workers and clients on Dapr Workflow.

Each run is one workflow, and each attempt at it one activity. Dapr keeps the queue, the timers and the events, and
offers a run again when its worker dies. Prompts, results and how a run stands are documents in the state store, of
which the workflow carries names only. What was done in a run is in its session's journal, as always.
"""
