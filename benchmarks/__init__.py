"""Measurements, each a program of its own; `make bench` runs them."""
