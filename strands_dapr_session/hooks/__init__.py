"""Strands' lifecycle events on one side, records of the journal on the other."""
