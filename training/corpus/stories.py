"""Short stories: a hero, a setting, one of ten plots.

Templates use ``[a|b]`` for alternatives and ``{slot}`` for what the story knows; ``{^slot}`` starts
with a capital. Every story names its setting in the opening, repeats the words of the setting, and
refers back to the hero by name and kind.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from .markup import KNOWN_ENTITY, NOVEL_ENTITY, SETTING, article, capitalize, choose, mark
from .words import common_name, novel_kind, novel_name, settings, words

_SLOT = re.compile(r"\{(\^?)(\w+)\}")
_FEMALE = {"princess", "queen", "witch", "girl", "mermaid", "grandmother", "hen", "cow", "fairy"}
_FEMALE |= {"duchess", "nun", "seamstress", "snow queen", "farm girl", "jungle girl"}
_MALE = {"prince", "king", "boy", "grandfather", "rooster", "fisherman", "postman", "cowboy"}
_MALE |= {"snowman", "baron", "count", "duke", "earl", "monk", "sandman", "stable boy", "page boy"}

_GOAL_VERBS = (
    "meet",
    "build",
    "draw",
    "find",
    "become",
    "dance with",
    "see",
    "own",
    "help",
    "catch",
)


@dataclass(frozen=True)
class Novelty:
    """How often a story uses words that can only be copied."""

    name: float
    kind: float


OPENINGS = {
    "Once upon a time {in_a_place}, there [lived|was] {a_hero} named {N}.": 14,
    "Once upon a time {in_a_place} there [lived|was] {a_hero} named {N}.": 4,
    "Once upon a time, there [was|lived] {a_hero} named {N} who lived {in_a_place}.": 8,
    "Once upon a time, {in_a_place}, there lived {a_hero} called {N}.": 4,
    "Once upon a time, {a_hero} named {N} lived {in_a_place}.": 3,
    "There once was {a_hero} named {N} who lived {in_a_place}.": 3,
    "{^in_a_place}, there [lived|was] {a_hero} [named|called] {N}.": 6,
    "{^in_a_place} lived {a_hero} named {N}.": 2,
    "{^a_hero} named {N} lived {in_a_place}.": 5,
    "Long ago, {in_a_place}, there lived {a_hero} called {N}.": 2,
    "Far, far away, {in_a_place}, there lived {a_hero} named {N}.": 2,
    "This is the story of {N}, {a_hero} who lived {in_a_place}.": 2,
    "One [morning|evening], {a_hero} named {N} was walking {in_a_place}.": 2,
    "It was a dark and stormy night {in_a_place}. {^a_hero} named {N} was awake.": 2,
    "The {kind} opened the door and looked outside. It was a fine day {in_a_place}, and "
    "the {kind}, whose name was {N}, was happy.": 1,
    "My name is {N}, and I live {in_a_place}. So said {a_hero} whom everyone knew.": 1,
    "{N} was {a_hero} who lived {in_a_place}.": 3,
    "{N} the {kind} lived {in_a_place}.": 2,
}

PORTRAITS = (
    "{N} lived in {home} and loved {food}.",
    "Everyone {in_the_place} knew {N} the {kind}.",
    "The {kind} lived in {home} and was always [kind|cheerful].",
    "Every day, the {kind} shared {food} with {folk}.",
    "{N} was the only {kind} {in_the_place}.",
    "{N} loved {the_place} more than anything.",
)

JOURNEYS = ("{^hero} {journey}.", "{^hero} {journey} and {journey}.", "So {hero} {journey}.")
OBSTACLES = (
    "Then {obstacle}, but {hero} {solved}.",
    "Suddenly, {obstacle}. {N} did not give up. {^he} {solved}.",
)

PLOTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "lost": (
        (
            "One day, the {treasure} of {folk} was gone.",
            "But one day, somebody lost the {treasure}.",
        ),
        (
            '"Who can find the {treasure}?" asked {folk}.',
            "{^folk} looked everywhere and found nothing.",
        ),
        ('"I will find the {treasure}," said {N}.', '"Let me look for it," said {N} the {kind}.'),
        JOURNEYS,
        OBSTACLES,
        ("At last, {N} found the {treasure} {far}.", "And there, {far}, lay the {treasure}."),
        ('"Hooray for {N}!" shouted {folk}.', "{^folk} danced all night {in_the_place}."),
    ),
    "quest": (
        ("{N} dreamed of the {treasure}, which was hidden {far}.",),
        ('"That is too far for {a_kind}," said {folk}.', '"Be careful, {N}," said {folk}.'),
        ("But {N} was not afraid.", "But the {kind} packed {food} and left."),
        JOURNEYS,
        OBSTACLES,
        ("There, {far}, was the {treasure}!", "At last, {N} held the {treasure} in {his} hands."),
        (
            "{N} carried the {treasure} home and gave it to {folk}.",
            "The {kind} shared the {treasure} with everyone {in_the_place}.",
        ),
    ),
    "mystery": (
        ("One night, {mystery}.", "Then something strange happened {in_the_place}: {mystery}."),
        ("{^folk} were very [worried|afraid].", '"What can it be?" whispered {folk}.'),
        ('"I will find out," said {N}.', '"{^a_kind} is never afraid," said {N}.'),
        JOURNEYS,
        OBSTACLES,
        ("There {he} found {answer}.", "In the end, the {kind} found the answer: it was {answer}."),
        ('"Do not worry," said {N}. "I will help."', "{N} smiled and offered {food}."),
    ),
    "danger": (
        ("One day, {danger}.", "Then there was bad news {in_the_place}: {danger}."),
        ("{^folk} did not know what to do.", '"We are lost," said {folk}.'),
        ('"Wait!" cried {N}. "I have a plan. We must {plan}."',),
        ('"Can {a_kind} save us?" asked {folk}.', '"Good idea, {N}!" said {folk}.'),
        ("{N} worked all day and all night.", "It was hard work, but the {kind} did not stop."),
        ("And it worked! {^the_place} was safe again.", "In the morning, {the_place} was safe."),
        ('"Thank you, {N}!" said {folk}.', "{^folk} gave {N} the {treasure} as a gift."),
    ),
    "friend": (
        ("But {N} had no friends.", "But {N} was lonely, because there was no other {kind}."),
        ("One day, {hero} {journey}.",),
        ("There {he} met {a_friend} named {F}.",),
        (
            '"Will you be my friend?" asked {N}. "Yes," said {F}.',
            '"I am lost," said {F}. "I will help you," said {N}.',
        ),
        ("Together, {N} and {F} {journey}.",),
        ("Then {obstacle}. {F} was afraid, but {N} {solved}.",),
        ("In the evening, {N} and {F} ate {food}.", "{N} and {F} rested in {home}."),
    ),
    "wish": (
        (
            "More than anything, {N} wanted to {goal}.",
            "The {kind} had a dream: {he} wanted to {goal}.",
        ),
        ('"{^a_kind} cannot {goal}," laughed {folk}.', '"You will never {goal}," said {folk}.'),
        ("{N} tried once, and it went wrong. {^he} tried again.", "But {N} did not give up."),
        ("So {he} {journey} and met {a_friend} named {F}.",),
        ('"I can help you to {goal}," said {F}.', '"You want to {goal}? Try again," said {F}.'),
        ("{N} and {F} practiced every day {far}.",),
        ("And one day, {N} could {goal}! {^folk} clapped.", "At last, the {kind} could {goal}."),
    ),
    "delivery": (
        ("One day, {folk} gave {N} the {treasure}.",),
        ('"Please take it to {F} the {fkind}, who lives {far}," they said.',),
        JOURNEYS,
        OBSTACLES,
        ("At last, {N} stood {far}, and {F} opened the door.",),
        ('"The {treasure}! Thank you, {N}," said {F}.', "{F} hugged {N} and cried with joy."),
        ("{F} the {fkind} gave {N} {food} for the way home.",),
    ),
    "feast": (
        ("One day, {N} wanted to make {food} for {folk}.",),
        ("But there was nothing left in {home}.",),
        JOURNEYS,
        OBSTACLES,
        ("There, {far}, {he} met {a_friend} named {F}.",),
        ('"I will cook with you," said {F}. So {N} and {F} cooked all night.',),
        ("Soon all of {the_place} smelled of {food}.", "{^folk} had never tasted better {food}."),
    ),
    "rescue": (
        ("One day, {N} heard somebody call for help.",),
        ("It was {a_friend} named {F}, alone {far}.",),
        ('"I am coming, {F}!" cried {N}.', '"Hold on, {F}!" called the {kind}.'),
        JOURNEYS,
        OBSTACLES,
        ("{N} took {F} by the hand and brought {F} to {home}.",),
        ('"You saved me, {N}," said {F}.', '"You are a brave {kind}," said {F}.'),
    ),
    "magic": (
        ("One day, {far}, {N} found the {treasure}.",),
        ("It was magic! The {treasure} could [talk|sing|glow].",),
        ('"You have one wish," said the {treasure}.',),
        ('"I wish to {goal}," said {N}.', '"I wish for {food} for {folk}," said {N}.'),
        (
            "And the wish came true. {^folk} were amazed.",
            "And so it happened, right there {in_the_place}.",
        ),
        JOURNEYS,
        (
            "In the end, {N} gave the {treasure} to {folk}.",
            "The {kind} kept the {treasure} in {home}.",
        ),
    ),
}

ENDINGS = (
    "From that day on, {N} was the happiest {kind} {in_the_place}.",
    "And {N} the {kind} lived happily {in_the_place} ever after.",
    "{^folk} still tell the story of {N} the {kind}.",
    "That night, {N} fell asleep in {home}, tired and happy.",
    "And nobody {in_the_place} ever forgot {N}.",
)


@dataclass(frozen=True)
class Entity:
    """Words that a story mentions again, and whether the model may introduce them by itself."""

    text: str
    novel: bool

    def __str__(self) -> str:
        return mark(NOVEL_ENTITY if self.novel else KNOWN_ENTITY, self.text)


class Story:
    """The facts of one story, and the templates filled with them."""

    def __init__(self, rng: random.Random, novelty: Novelty) -> None:
        self.rng = rng
        self.setting_name = rng.choice(list(settings()))
        self.setting = settings()[self.setting_name]
        novel = rng.random() < novelty.kind
        kind = novel_kind(rng) if novel else rng.choice(self.setting["inhabitants"])
        self.kind = Entity(kind, novel)
        self.pronoun = self._pronoun(kind)
        self.rename(novelty.name)
        self.friend_kind = Entity(rng.choice(self.setting["inhabitants"]), False)
        friend_pronoun = self._pronoun(self.friend_kind.text)
        self.friend_name = self._name(friend_pronoun, novelty.name, avoid=self.name.text)
        self.adjective = rng.choice(words()["adjectives"]) if rng.random() < 0.6 else ""
        if self.adjective in kind.split():
            self.adjective = ""
        self.goal = self._goal()
        self.plot = rng.choice(list(PLOTS))
        self.preposition, adjectives, nouns = rng.choice(self._weighted_places())
        self.place = Entity(rng.choice(nouns.split("|")), False)
        self.place_adjective = rng.choice(adjectives.split("|"))
        self.treasure = rng.choice(self.setting["treasures"])
        self.folk = rng.choice(self.setting["folk"])
        self.home = rng.choice(self.setting["homes"])
        self.food = rng.choice(self.setting["foods"])
        self.far = rng.choice(self.setting["far_places"])
        self.mystery, self.answer = rng.choice(self.setting["mysteries"])
        self.danger, self.plan = rng.choice(self.setting["dangers"])
        self._journeys = rng.sample(self.setting["journey"], len(self.setting["journey"]))
        obstacle = rng.choice(self.setting["obstacles"])
        self.obstacle, self.solved = f"{obstacle[0]} {obstacle[1]}", obstacle[2]

    def _weighted_places(self) -> list[tuple[str, str, str]]:
        return [place for place in self.setting["places"] for _ in place[2].split("|")]

    def _pronoun(self, kind: str) -> str:
        if kind in _FEMALE:
            return "she"
        return "he" if kind in _MALE else self.rng.choice(("he", "she"))

    def _goal(self) -> Entity:
        if self.rng.random() < 0.5:
            return Entity(self.rng.choice(words()["goals"]), False)
        noun = novel_kind(self.rng)
        verb = self.rng.choice(_GOAL_VERBS)
        return Entity(f"{verb} {article(noun)} {noun}", True)

    def rename(self, novelty: float) -> None:
        """Give the hero another name, a novel one with the given probability."""
        self.name = self._name(self.pronoun, novelty)

    def _name(self, pronoun: str, novelty: float, avoid: str = "") -> Entity:
        novel = self.rng.random() < novelty
        text = novel_name(self.rng) if novel else common_name(self.rng, pronoun)
        return self._name(pronoun, novelty, avoid) if text == avoid else Entity(text, novel)

    def _slot(self, name: str) -> str:
        """The text of one slot, still with ``[a|b]`` alternatives and slots of its own."""
        match name:
            case "N":
                return str(self.name)
            case "F":
                return str(self.friend_name)
            case "kind":
                return str(self.kind)
            case "fkind":
                return str(self.friend_kind)
            case "a_hero":
                words_before = f"{self.adjective} " if self.adjective else ""
                return f"{article(words_before or self.kind.text)} {words_before}{self.kind}"
            case "a_kind":
                return f"{article(self.kind.text)} {self.kind}"
            case "a_friend":
                return f"{article(self.friend_kind.text)} {self.friend_kind}"
            case "hero":
                return self.rng.choice((f"{self.name}", f"{self.name}", f"the {self.kind}"))
            case "he":
                return self.pronoun
            case "his":
                return "her" if self.pronoun == "she" else "his"
            case "in_a_place":
                adjective = self.place_adjective
                return f"{self.preposition} {article(adjective)} {adjective} {self.place}"
            case "in_the_place":
                return f"{self.preposition} the {self.place}"
            case "the_place" | "place":
                return f"the {self.place}"
            case "goal":
                return str(self.goal)
            case "journey":
                if not self._journeys:
                    self._journeys = list(self.setting["journey"])
                return mark(SETTING, choose(self.rng, self._journeys.pop()))
            case "atmosphere":
                return mark(SETTING, choose(self.rng, self.rng.choice(self.setting["atmosphere"])))
            case "danger":
                return self.fill(self.danger)
            case _:
                return mark(SETTING, choose(self.rng, getattr(self, name)))

    def fill(self, template: str) -> str:
        """Choose alternatives and fill slots."""

        def replace(match: re.Match[str]) -> str:
            text = self._slot(match[2])
            is_name = text == str(self.name)
            return capitalize(text) if match[1] and not is_name else text

        return _SLOT.sub(replace, choose(self.rng, template))

    def opening(self) -> str:
        """The first sentence, which names hero and setting."""
        template = self.rng.choices(list(OPENINGS), list(OPENINGS.values()))[0]
        return self.fill(template)

    def body(self) -> str:
        """Everything after the opening."""
        rng = self.rng
        beats = []
        if rng.random() < 0.75:
            beats.append("{atmosphere}")
        if rng.random() < 0.6:
            beats.append(rng.choice(PORTRAITS))
        beats += [rng.choice(beat) for beat in PLOTS[self.plot]]
        beats.append(rng.choice(ENDINGS))
        if rng.random() < 0.15:
            beats.append(f"And so {{N}} learned that {rng.choice(words()['morals'])}.")
        if rng.random() < 0.4:
            beats.append("The end.")
        return " ".join(self.fill(beat) for beat in beats)

    def text(self) -> str:
        """The whole story."""
        return f"{self.opening()} {self.body()}"
