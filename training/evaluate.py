"""Measure a model folder against the gates, with names and kinds that the corpus never contains.

python evaluate.py --model build/model
"""

from __future__ import annotations

import argparse
import itertools
import random
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from corpus.documents import documents
from corpus.markup import ASSISTANT, USER, article
from corpus.words import settings, words

TEMPERATURES = (0.0, 0.7)
TOP_K, TOP_P = 50, 0.9
BATCH = 40
FOREIGN_PROMPTS = (
    "옛날 옛적에",
    "옛날 옛날 한 마을에 작은 여우가 살았어요.",
    "안녕하세요",
    "이야기 하나 해 줘",
    "먼 은하에서",
    "昔々あるところに",
    "从前有一座山",
    "Жили-были",
    "مرحبا",
    "🦊🌟",
)
CANONICAL_PROMPT = "Once upon a time in a distant galaxy"
_PHRASE_FIELDS = ("atmosphere", "journey", "treasures", "far_places", "folk", "homes", "foods")
_PAIR_FIELDS = ("obstacles", "mysteries", "dangers")


@dataclass(frozen=True)
class Sample:
    """A continuation, and whether the model ended it by itself."""

    text: str
    ended: bool


class Generator:
    """A model folder that continues batches of prompts."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        # Widened, so that the figures do not depend on half-precision kernels.
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.context = self.model.config.max_position_embeddings

    @torch.no_grad()
    def continuations(self, prompts: list[str], temperature: float, seed: int = 0) -> list[Sample]:
        """One continuation per prompt, as far as the context reaches."""
        torch.manual_seed(seed)
        samples = []
        for batch in _batches(prompts):
            inputs = self.tokenizer(batch, return_tensors="pt", padding=True)
            length = inputs["input_ids"].shape[1]
            sampling = {"do_sample": False, "temperature": None, "top_k": None, "top_p": None}
            if temperature:
                sampling = {"temperature": temperature, "top_k": TOP_K, "top_p": TOP_P}
            outputs = self.model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=self.context - length,
                **sampling,
            )
            for row in outputs[:, length:].tolist():
                ended = self.tokenizer.eos_token_id in row
                text = self.tokenizer.decode(row, skip_special_tokens=True)
                samples.append(Sample(text, ended))
        return samples


def _batches(prompts: list[str]) -> Iterable[list[str]]:
    return (prompts[start : start + BATCH] for start in range(0, len(prompts), BATCH))


def _expansions(template: str) -> list[str]:
    """All texts of a template with ``[a|b]`` alternatives."""
    parts = [part.split("|") for part in re.split(r"[\[\]]", template)]
    return ["".join(choice) for choice in itertools.product(*parts)]


@cache
def setting_phrases() -> dict[str, str]:
    """Phrases of ten letters or more that occur in one setting only, with that setting."""
    owners: dict[str, set[str]] = {}
    for name, setting in settings().items():
        templates = [text for field in _PHRASE_FIELDS for text in setting[field]]
        templates += [text for field in _PAIR_FIELDS for entry in setting[field] for text in entry]
        for template in templates:
            for phrase in _expansions(template.split("{place}")[0].rstrip(". ")):
                owners.setdefault(phrase.lower(), set()).add(name)
    return {p: next(iter(o)) for p, o in owners.items() if len(o) == 1 and len(p) >= 10}


def setting_hits(text: str, setting: str) -> tuple[int, int]:
    """How many phrases of a story belong to the setting, and how many phrases there are."""
    lowered = text.lower()
    owners = [owner for phrase, owner in setting_phrases().items() if phrase in lowered]
    return sum(owner == setting for owner in owners), len(owners)


def has_loop(text: str) -> bool:
    """Whether a sentence occurs three times or more."""
    sentences = [s for s in re.split(r"(?<=[.!?])\s+", text.strip()) if len(s) > 12]
    return any(count >= 3 for count in Counter(sentences).values())


def is_clean_english(text: str) -> bool:
    """Non-empty, and nothing but ASCII: no stray bytes, no other script."""
    return len(text.split()) > 20 and text.isascii()


def mentions(samples: list[Sample], entities: list[str]) -> list[bool]:
    """Whether each sample contains its entity as a whole word."""
    return [
        re.search(rf"\b{re.escape(entity)}\b", sample.text) is not None
        for sample, entity in zip(samples, entities, strict=True)
    ]


def _setting_prompts(per_setting: int) -> list[tuple[str, str]]:
    rng = random.Random(4)
    prompts = []
    for name, setting in settings().items():
        for _ in range(per_setting):
            preposition, adjectives, nouns = rng.choice(setting["places"])
            adjective, noun = rng.choice(adjectives.split("|")), rng.choice(nouns.split("|"))
            place = f"{preposition} {article(adjective)} {adjective} {noun}"
            prompts.append((name, f"Once upon a time {place}"))
    return prompts


def measure(generator: Generator, temperature: float) -> dict[str, str]:
    """All figures at one temperature."""
    names, kinds = words()["held_out_names"], words()["held_out_kinds"]
    pairs = list(zip(names, kinds, strict=True))
    results: dict[str, str] = {}
    every: list[Sample] = []

    def share(label: str, flags: list[bool]) -> None:
        results[label] = f"{sum(flags) / len(flags):.0%} of {len(flags)}"

    placed = _setting_prompts(4)
    samples = generator.continuations([prompt for _, prompt in placed], temperature)
    every += samples
    hits = [setting_hits(s.text, name) for s, (name, _) in zip(samples, placed, strict=True)]
    good, total = (sum(column) for column in zip(*hits, strict=True))
    results["setting phrases that fit the prompt"] = f"{good / total:.0%} of {total}"
    share("stories with most phrases of the prompt's setting", [2 * g > t for g, t in hits])

    prompts = [f"Once upon a time, there was {article(k)} {k} named {n}" for n, k in pairs]
    samples = generator.continuations(prompts, temperature)
    every += samples
    share("story: unseen name used again", mentions(samples, names))
    share("story: unseen kind used again", mentions(samples, kinds))

    prompts = [
        f"{USER}Tell me a story about {article(k)} {k} named {n}.{ASSISTANT}" for n, k in pairs
    ]
    samples = generator.continuations(prompts, temperature)
    every += samples
    share("chat: unseen name used", mentions(samples, names))
    share("chat: unseen kind used", mentions(samples, kinds))

    samples = generator.continuations([CANONICAL_PROMPT] * 20, temperature)
    every += samples
    fits = [setting_hits(s.text, "space") for s in samples]
    share("distant galaxy: story set in space", [2 * good > total for good, total in fits])

    share("ended by itself", [s.ended for s in every])
    share("a sentence three times or more", [has_loop(s.text) for s in every])

    foreign = list(FOREIGN_PROMPTS) + [f"{USER}{p}{ASSISTANT}" for p in FOREIGN_PROMPTS]
    samples = generator.continuations(foreign, temperature)
    share("other script: clean English answer", [is_clean_english(s.text) for s in samples])
    return results


def corpus_yardstick(count: int = 1500) -> str:
    """The share of fitting phrases in the corpus itself, the setting being the majority's."""
    good = total = 0
    for document in documents(seed=31, count=count, stage=2):
        if USER in document.text:
            continue
        fits = [setting_hits(document.text, name) for name in settings()]
        good, total = good + max(g for g, _ in fits), total + fits[0][1]
    return f"{good / total:.0%} of {total}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("build/model"))
    parser.add_argument("--samples", action="store_true", help="also print a few continuations")
    args = parser.parse_args()
    torch.set_num_threads(1)
    generator = Generator(args.model)
    tables = [measure(generator, temperature) for temperature in TEMPERATURES]
    print("| figure | " + " | ".join(f"t={t}" for t in TEMPERATURES) + " |")
    print("|---|" + "---|" * len(TEMPERATURES))
    for label in tables[0]:
        print(f"| {label} | " + " | ".join(table[label] for table in tables) + " |")
    print(f"\nSetting phrases that fit, in the corpus itself: {corpus_yardstick()}")
    if args.samples:
        for prompt in (CANONICAL_PROMPT, FOREIGN_PROMPTS[0]):
            for temperature in (0.0, 0.7, 1.2):
                sample = generator.continuations([prompt], temperature, seed=7)[0]
                print(f"\n[t={temperature}] {prompt}|{sample.text}")


if __name__ == "__main__":
    main()
