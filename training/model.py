"""A lean Llama-architecture decoder for fast training on a CPU.

The mathematics is that of ``transformers.LlamaForCausalLM``. Query, key and value, and the two
halves of the gated feed-forward layer, are fused into single matrices; ``export`` splits them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the model."""

    vocabulary: int = 2048
    width: int = 256
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    feed_forward: int = 640
    context: int = 512
    rope_theta: float = 10000.0

    @property
    def head_width(self) -> int:
        return self.width // self.heads


class RMSNorm(nn.Module):
    """Root-mean-square normalisation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, (x.shape[-1],), self.weight, 1e-5)


def _rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    rotated = torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1)
    return rotated.transpose(1, 2)


class Layer(nn.Module):
    """Attention and gated feed-forward, both residual."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        size = config.head_width
        self.qkv = nn.Linear(config.width, (config.heads + 2 * config.kv_heads) * size, bias=False)
        self.out = nn.Linear(config.heads * size, config.width, bias=False)
        self.gate_up = nn.Linear(config.width, 2 * config.feed_forward, bias=False)
        self.down = nn.Linear(config.feed_forward, config.width, bias=False)
        self.attention_norm = RMSNorm(config.width)
        self.feed_forward_norm = RMSNorm(config.width)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor, mask: Tensor) -> Tensor:
        c = self.config
        batch, length, _ = x.shape
        heads = self.qkv(self.attention_norm(x))
        heads = heads.view(batch, length, c.heads + 2 * c.kv_heads, c.head_width)
        query, key, value = heads.split([c.heads, c.kv_heads, c.kv_heads], 2)
        group = c.heads // c.kv_heads
        query = _rotate(query, cosine, sine)
        key = _rotate(key, cosine, sine).repeat_interleave(group, 1)
        value = value.transpose(1, 2).repeat_interleave(group, 1)
        # Written out: on a CPU the backward pass of the fused attention kernel is slower.
        scores = (query @ key.transpose(-1, -2)) * c.head_width**-0.5 + mask
        mixed = torch.softmax(scores, -1) @ value
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, -1))
        gate, up = self.gate_up(self.feed_forward_norm(x)).chunk(2, -1)
        return x + self.down(functional.silu(gate) * up)


class Storyteller(nn.Module):
    """The decoder, with tied input and output embeddings."""

    cosine: Tensor
    sine: Tensor
    causal: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width)
        frequencies = config.rope_theta ** (
            -torch.arange(0, config.head_width, 2).float() / config.head_width
        )
        angles = torch.outer(torch.arange(config.context).float(), frequencies)[:, None]
        self.register_buffer("cosine", angles.cos(), persistent=False)
        self.register_buffer("sine", angles.sin(), persistent=False)
        causal = torch.ones(config.context, config.context, dtype=torch.bool).tril()
        self.register_buffer("causal", causal, persistent=False)
        self._initialize()

    def _initialize(self) -> None:
        nn.init.normal_(self.embedding.weight, std=0.02)
        residual_scale = 0.5 / math.sqrt(2 * self.config.layers)
        for name, parameter in self.layers.named_parameters():
            if parameter.dim() == 2:
                scale = residual_scale if ".out." in name or ".down." in name else 0.6
                nn.init.normal_(parameter, std=scale / math.sqrt(parameter.shape[1]))

    def forward(self, tokens: Tensor, documents: Tensor) -> Tensor:
        """Logits; a token attends to earlier tokens of its own document only."""
        length = tokens.shape[1]
        visible = (documents[:, :, None] == documents[:, None, :]) & self.causal[:length, :length]
        x = self.embedding(tokens)
        mask = torch.zeros((), dtype=x.dtype).masked_fill(~visible, -1e4)[:, None]
        for layer in self.layers:
            x = layer(x, self.cosine[:length], self.sine[:length], mask)
        return functional.linear(self.norm(x), self.embedding.weight)
