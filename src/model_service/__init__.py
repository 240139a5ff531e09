"""Learns from a trading platform's own executions and lets a model speak only after it has passed a gate."""

__version__ = "0.1.0"
