"""Texts as tokens and tokens as text: chat templates, prompts, detokenization."""
