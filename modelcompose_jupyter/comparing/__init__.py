"""Workflow.grid and compare: runs for all combinations of values, beside each other."""
