"""GGUF files, llama.cpp's: a model in one file, or in several parts."""
