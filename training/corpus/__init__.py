"""Deterministic generator of the synthetic story corpus."""
