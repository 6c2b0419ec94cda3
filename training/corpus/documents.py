"""Training documents: stories, requests, chats, and honest answers to other prompts."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from .markup import ASSISTANT, USER, Document, article, finish, plain, read_only
from .stories import Novelty, Story
from .words import made_up_word, words


@dataclass(frozen=True)
class Stage:
    """What a stage of the training emphasises."""

    told: Novelty  # stories that nobody described before
    asked: Novelty  # stories that a request describes
    copy_weight: float  # learning weight of every later mention of a name or kind


STAGES = {
    # Nothing but copying pays.
    1: Stage(told=Novelty(0.62, 0.55), asked=Novelty(0.62, 0.55), copy_weight=2.5),
    # Inventing where nothing was asked for, copying where it was.
    2: Stage(told=Novelty(0.35, 0.3), asked=Novelty(0.65, 0.65), copy_weight=1.75),
}

_REQUESTS = (
    "Tell me a story about {x}.",
    "Tell me a story about {x}",
    "Tell me a [short|little|bedtime|funny] story about {x}.",
    "Write a [story|short story|fairy tale] about {x}.",
    "[Can|Could] you [tell|write] me a story about {x}?",
    "[Please tell|tell] me about {x}",
    "I want a story about {x}.",
    "A story about {x}, please.",
)
_OPEN_REQUESTS = (
    "Tell me a story.",
    "Write a short story.",
    "Can you tell me a story?",
    "Please tell me a bedtime story",
    "Once upon a time",
)
_GREETINGS = (
    "Hello",
    "Hi",
    "Hi!",
    "hey",
    "Good morning!",
    "Hello, who are you?",
    "What can you do?",
)
_GREETINGS += ("Who are you?", "How are you?", "What is your name?", "Are you a robot?", "Help")
_INTRODUCTIONS = (
    "Hello! I am a very small story model. Here is a story for you.",
    "I am a very small model, and I tell little stories. Here is one.",
)
_DEFLECTIONS = (
    "I am a very small model, and I only know little stories in English. Here is one.",
    "I do not know that. I only know little stories in English. Here is one.",
)
_QUESTIONS = (
    "What is the [capital|king|money|history] of {w}?",
    "The capital of {w} is",
    "What is {d} plus {d}?",
    "{d} + {d} =",
    "How do I [install|fix|use|delete|open] {w}?",
    "Explain [quantum physics|gravity|the stock market|recursion|{w}] to me.",
    "Translate '{w} {w}' into [French|German|Korean|Latin].",
    "Who [invented|discovered|won|wrote] the {w}?",
    "Write a [function|program|script] that [sorts|counts|prints] {w}.",
    "Summarize the following text: {w} {w} {w}",
    "The meaning of life is",
    "What is the weather [today|in {w}]?",
    "Which {w} is the best?",
    "Is it true that {w} are {w}?",
)
_CODE = (
    "def {w}({w}):",
    "def {w}({w}, {w}=None):\n    return {w}",
    "import {w} as {w}\n",
    "for i in range({d}):\n    print({w})",
    "function {w}({w}) {{ return {d}; }}",
    "SELECT {w}, {w} FROM {w} WHERE {w} = {d};",
    "#include <{w}.h>\nint main() {{",
    "const {w} = ({w}) => {w} * {d};",
    "<div class='{w}'>{w}</div>",
    "{{'{w}': {d}, '{w}': [{d}, {d}]}}",
    "class {w}:\n    def __init__(self):",
    "$ pip install {w}\n",
    "%%timeit\n{w} = [{w} for {w} in {w}]",
)
_FOREIGN = (
    "Es war einmal",
    "Es war einmal ein kleiner",
    "Il était une fois",
    "Érase una vez",
    "C'era una volta",
    "Era uma vez",
    "Er was eens",
    "Det var en gång",
    "Bir varmış bir yokmuş",
    "Dawno, dawno temu",
)
# First and last code point of blocks from which foreign-script noise is drawn, and their weights.
_BLOCKS = {
    (0xAC00, 0xD7A3): 10,  # Hangul
    (0x4E00, 0x9FA5): 4,  # Han
    (0x3041, 0x30FE): 3,  # Kana
    (0x0410, 0x044F): 3,  # Cyrillic
    (0x03B1, 0x03C9): 1,  # Greek
    (0x0621, 0x064A): 2,  # Arabic
    (0x05D0, 0x05EA): 1,  # Hebrew
    (0x0905, 0x0939): 2,  # Devanagari
    (0x0E01, 0x0E2E): 1,  # Thai
    (0x1F300, 0x1F64F): 2,  # Pictographs
}


def _fill(rng: random.Random, template: str) -> str:
    def replace(match: re.Match[str]) -> str:
        return made_up_word(rng) if match[1] == "w" else str(rng.randint(0, 999))

    text = re.sub(r"\[([^\[\]]*\|[^\[\]]*)\]", lambda m: rng.choice(m[1].split("|")), template)
    return re.sub(r"\{([wd])\}", replace, text).replace("{{", "{").replace("}}", "}")


def _foreign_script(rng: random.Random) -> str:
    first, last = rng.choices(list(_BLOCKS), list(_BLOCKS.values()))[0]
    alphabet = [chr(rng.randint(first, last)) for _ in range(rng.choice((2, 4, 8, 40)))]
    lengths = [rng.choice((1, 2, 2, 3, 3, 4, 5)) for _ in range(rng.choice((1, 2, 2, 3, 4, 6, 9)))]
    text = " ".join("".join(rng.choices(alphabet, k=n)) for n in lengths)
    return text + rng.choice(("", "", "", ".", "?", "!", "…", ", "))


def _unknown_prompt(rng: random.Random) -> str:
    draw = rng.random()
    if draw < 0.55:
        return _foreign_script(rng)
    if draw < 0.72:
        return _fill(rng, rng.choice(_CODE))
    if draw < 0.92:
        return _fill(rng, rng.choice(_QUESTIONS))
    return rng.choice(_FOREIGN)


def _subject(story: Story, stage: Stage) -> str:
    """What a request asks for: any of kind, name, goal and place."""
    rng = story.rng
    adjective = f"{story.adjective} " if story.adjective and rng.random() < 0.4 else ""
    kind = f"{article(adjective or story.kind.text)} {adjective}{story.kind}"
    draw = rng.random()
    if draw < 0.5:
        subject = f"{kind} {rng.choice(('named', 'named', 'called'))} {story.name}"
    elif draw < 0.8:
        subject = kind
        story.rename(stage.told.name)  # a name nobody asked for
    elif draw < 0.9:
        subject = f"{story.name} the {story.kind}"
    else:
        subject = f"{story.name}"
    if rng.random() < 0.12:
        story.plot = "wish"
        return f"{subject} who wants to {story.goal}"
    if rng.random() < 0.35:
        link = rng.choice(("", "", " who lives"))
        subject += f"{link} {story.fill('{in_a_place}')}"
    return subject


def _open_request(rng: random.Random, stage: Stage) -> tuple[str, Story]:
    story = Story(rng, stage.told)
    if rng.random() < 0.5:
        return rng.choice(_OPEN_REQUESTS), story
    return f"Tell me a story set {story.fill('{in_a_place}')}.", story


def _request(rng: random.Random, stage: Stage) -> tuple[str, Story]:
    """A request and the story that answers it."""
    if rng.random() < 0.16:
        return _open_request(rng, stage)
    story = Story(rng, stage.asked)
    template = story.fill(rng.choice(_REQUESTS).replace("{x}", "%x"))
    return template.replace("%x", _subject(story, stage)), story


def _plain_story(rng: random.Random, stage: Stage) -> str:
    return Story(rng, stage.told).text()


def _written_request(rng: random.Random, stage: Stage) -> str:
    request, story = _request(rng, stage)
    return read_only(request + "\n\n") + story.text()


def _chat(rng: random.Random, stage: Stage) -> str:
    request, story = _request(rng, stage)
    return read_only(USER + request + ASSISTANT) + story.text()


def _long_chat(rng: random.Random, stage: Stage) -> str:
    request, first = _request(rng, stage)
    text = read_only(USER + request + ASSISTANT) + first.text()
    if rng.random() < 0.4:
        question = rng.choice(("What happened next?", "Tell me more.", "And then?", "Go on."))
        bridge = first.fill("The next day, {N} the {kind} was [still|back] {in_the_place}.")
        return text + read_only(USER + question + ASSISTANT) + f"{bridge} {first.body()}"
    return text + _chat(rng, stage)


def _greeting(rng: random.Random, stage: Stage) -> str:
    prompt = read_only(USER + rng.choice(_GREETINGS) + ASSISTANT)
    return f"{prompt}{rng.choice(_INTRODUCTIONS)}\n\n{_plain_story(rng, stage)}"


def _deflection(rng: random.Random, stage: Stage) -> str:
    prompt = _unknown_prompt(rng)
    answer = f"{rng.choice(_DEFLECTIONS)}\n\n{_plain_story(rng, stage)}"
    if rng.random() < 0.3:
        return read_only(USER + prompt + ASSISTANT) + answer
    return read_only(prompt) + "\n\n" + answer


_MIX = {
    _plain_story: 59.0,
    _written_request: 4.0,
    _chat: 24.0,
    _long_chat: 3.0,
    _greeting: 1.5,
    _deflection: 8.5,
}


def _held_out_pattern() -> re.Pattern[str]:
    lists = words()
    held_out = lists["held_out_names"] + lists["held_out_kinds"]
    return re.compile(rf"\b(?:{'|'.join(held_out)})s?\b", re.IGNORECASE)


def documents(seed: int, count: int, stage: int) -> Iterator[Document]:
    """``count`` documents that depend on nothing but ``seed`` and ``stage``."""
    rng = random.Random(seed)
    held_out = _held_out_pattern()
    kinds, shares = list(_MIX), list(_MIX.values())
    produced = 0
    while produced < count:
        marked = rng.choices(kinds, shares)[0](rng, STAGES[stage])
        if held_out.search(plain(marked)):
            continue
        produced += 1
        yield finish(marked, STAGES[stage].copy_weight)
