"""Judges histories: what really happened, beside what lies in the store, read without a line of the package's loader.

`sealed` and `stored` are a second implementation of the format, written from its description: they share no code with
`strands_dapr_session.records` and `strands_dapr_session.journal`. `fold` is a second implementation of what records
add up to. `rules` are the invariants.
"""
