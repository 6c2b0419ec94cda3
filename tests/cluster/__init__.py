"""The host of a cluster: what decides, without one; and a real one on this machine."""
