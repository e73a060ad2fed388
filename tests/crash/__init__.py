"""Agents that are killed."""
