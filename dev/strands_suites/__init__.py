"""Strands' own tests, run with our session manager in everything that they make."""
