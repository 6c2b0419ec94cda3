"""Workflow.map: many rows through a workflow, and their results in a file."""
