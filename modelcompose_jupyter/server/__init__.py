"""Serving a host to others: the run API, who may use it, and the client that speaks it."""
