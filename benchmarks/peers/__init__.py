"""The generation engine beside its peers: what `benchmarks/engine.py` is made of."""
