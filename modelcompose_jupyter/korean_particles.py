"""Particles of Korean, which follow the sound that the word before them ends with.

A translation writes both, as Korean readers know it from programs: ``{0}(은/는)``,
``{0}(이/가)``, ``{0}(을/를)``, ``{0}(과/와)``, ``{0}(으로/로)``, ``{0}(이어야/여야)``. When it is
filled, one of them stays.
"""

from __future__ import annotations

import re

_BOTH = re.compile(r"\((은/는|이/가|을/를|과/와|으로/로|이라/라|이어야/여야|이에요/예요)\)")
_ENDS_ASIDE = " \t\n'\"`”’)]}>…"
_DIGITS = {
    "0": "ㅇ",
    "1": "ㄹ",
    "3": "ㅁ",
    "6": "ㄱ",
    "7": "ㄹ",
    "8": "ㄹ",
}  # 영, 일, 삼, 육, 칠, 팔
_LETTERS = {"l": "ㄹ", "m": "ㅁ", "n": "ㄴ", "r": "ㄹ"}  # of words and initials: 엘, 엠, 엔, 알


def with_particles(text: str) -> str:
    """A text with the one particle of each two that fits."""
    return _BOTH.sub(lambda found: _fitting(found[1], text[: found.start()]), text)


def _fitting(both: str, before: str) -> str:
    with_final, without = both.split("/")
    final = _final(before.rstrip(_ENDS_ASIDE)[-1:].lower())
    if both == "으로/로" and final == "ㄹ":
        return without
    return with_final if final else without


def _final(character: str) -> str:
    """The final consonant of how a character is spoken, as far as it counts; nothing for none."""
    if "가" <= character <= "힣":
        number = (ord(character) - ord("가")) % 28
        return "ㄹ" if number == 8 else "ㅇ" if number else ""
    return _DIGITS.get(character) or _LETTERS.get(character, "")
