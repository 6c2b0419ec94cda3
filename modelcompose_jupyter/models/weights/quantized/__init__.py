"""Repositories whose weights are stored quantised: by GPTQ, AWQ and others."""
