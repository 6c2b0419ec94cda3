"""Generate the corpus, train the tokenizer, and pack whole documents into rows of tokens.

python prepare.py --out build
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from corpus.documents import STAGES, documents
from corpus.markup import ASSISTANT, END_OF_TEXT, USER, Document
from model import ModelConfig

VALIDATION_SEED = 999
WEIGHT_SCALE = 4  # weights are stored as whole quarters
SHORT_ROW, LONG_ROW = 384, 512
MINIMUM_PIECE = 40  # tokens; a shorter rest of a row stays empty
TRAILING_SPACE_SHARE = 0.05

Encoded = tuple[np.ndarray, np.ndarray]


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Byte-level BPE on the ASCII part of the texts; every other character stays as bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT, USER, ASSISTANT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    cleaned = (
        text.replace(USER, "\n").replace(ASSISTANT, "\n").encode("ascii", "ignore").decode()
        for text in texts
    )
    tokenizer.train_from_iterator(cleaned, trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, batch: list[Document], rng: random.Random) -> list[Encoded]:
    """Token ids and weights of a batch of documents, each between ``<|endoftext|>`` tokens.

    The leading one is left out at random, so that a server may or may not prepend it. Some
    documents are cut after a space, because people type prompts that end in a space.
    """
    cuts = []
    for document in batch:
        spaces = [i for i, char in enumerate(document.text[:160]) if char == " "]
        cut_it = spaces and USER not in document.text and rng.random() < TRAILING_SPACE_SHARE
        cuts.append(rng.choice(spaces) + 1 if cut_it else 0)
    heads = tokenizer.encode_batch([d.text[:cut] for d, cut in zip(batch, cuts, strict=True)])
    tails = tokenizer.encode_batch([d.text[cut:] for d, cut in zip(batch, cuts, strict=True)])
    encoded = []
    for document, cut, head, tail in zip(batch, cuts, heads, tails, strict=True):
        by_character = np.full(len(document.text) + 1, WEIGHT_SCALE, np.uint8)
        for start, end, weight in document.weights:
            by_character[start:end] = round(weight * WEIGHT_SCALE)
        # A token that starts with a space takes the weight of its last character.
        weights = [0] * len(head.ids)
        weights += [by_character[max(cut, cut + end - 1)] for _, end in tail.offsets]
        lead = rng.random() < 0.5
        ids = [0] * lead + head.ids + tail.ids + [0]
        weights = [0] * lead + weights + [WEIGHT_SCALE]
        weights[0] = 0
        encoded.append((np.array(ids, np.uint16), np.array(weights, np.uint8)))
    return encoded


def pack(encoded: Iterable[Encoded], length: int) -> dict[str, np.ndarray]:
    """Rows of ``length + 1`` tokens: documents one after another, the last one cut at the end.

    Generated text is cheap and padding is not, so the rest of a cut document is dropped.
    """
    size = length + 1
    rows: dict[str, list[np.ndarray]] = {"tokens": [], "weights": [], "documents": []}
    position, number = size, 0
    for ids, weights in encoded:
        if position + MINIMUM_PIECE > size:
            position, number = 0, 0
            for key, dtype in (
                ("tokens", np.uint16),
                ("weights", np.uint8),
                ("documents", np.uint8),
            ):
                rows[key].append(np.zeros(size, dtype))
        end = min(position + len(ids), size)
        number += 1
        rows["tokens"][-1][position:end] = ids[: end - position]
        rows["weights"][-1][position:end] = weights[: end - position]
        rows["documents"][-1][position:end] = number
        position = end
    return {key: np.stack(arrays) for key, arrays in rows.items()}


def _batches(source: Iterable[Document], size: int = 2000) -> Iterable[list[Document]]:
    iterator = iter(source)
    while batch := list(islice(iterator, size)):
        yield batch


def build(path: Path, tokenizer: Tokenizer, seed: int, count: int, length: int, stage: int) -> None:
    """Generate, encode and pack ``count`` documents."""
    rng = random.Random(seed)
    batches = _batches(documents(seed, count, stage))
    packed = pack((item for batch in batches for item in encode(tokenizer, batch, rng)), length)
    np.savez(path, **packed)
    tokens = int((packed["documents"] > 0).sum())
    print(f"{path.name}: {count} documents, {tokens / 1e6:.2f} M tokens in rows of {length}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build"))
    parser.add_argument("--documents", type=int, default=135_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stage", type=int, choices=sorted(STAGES), default=1)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "tokenizer.json"
    if path.exists():
        tokenizer = Tokenizer.from_file(str(path))
    else:
        texts = (document.text for document in documents(args.seed, 40_000, args.stage))
        tokenizer = train_tokenizer(texts, ModelConfig().vocabulary)
        tokenizer.save(str(path))
    long_count = args.documents // 6
    parts = {
        "short": (args.seed, args.documents - long_count, SHORT_ROW),
        "long": (args.seed + 1, long_count, LONG_ROW),
        "validation": (VALIDATION_SEED, 600, SHORT_ROW),
    }
    for part, (seed, count, length) in parts.items():
        build(args.out / f"{part}.npz", tokenizer, seed, count, length, args.stage)


if __name__ == "__main__":
    main()
