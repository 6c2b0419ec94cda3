"""Steps on a processor, in C.

The C compiler of the machine makes the kernels for its processor, once. Where there is none, or a
model does not fit, steps run on torch alone.
"""
