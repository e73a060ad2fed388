"""The protocol: one ordered log of records for each root, owned by one worker at a time.

`commit`, `load`, `acquire`, `compaction` and `delete` are plain coroutines that await nothing but the verbs of a store
and an injected sleep. They start no tasks and know no threads, so that a model check can drive this very code through
every interleaving. `journal` puts them behind a front that any thread and any event loop may use.
"""
