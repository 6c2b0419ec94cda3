"""Decoders in C, on a processor: packed weights, and a step from tokens to scores in one call.

Neither torch nor transformers is needed. The C compiler of the machine makes the kernels for its
processor, once. Where there is none, or a model does not fit, steps run on torch.
"""
