"""Grammars compiled for one model's tokens: off its thread, once, and within bounds."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from ...document.grammars import limits
from ...errors import InputError, shortened
from ..generation import Owner
from .compile_queue import CompileQueue
from .constraint import GrammarConstraint
from .token_bytes import TokenBytes

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

_MOST_KEPT = 64
"""Compiled grammars of a model; each holds what was worked out of it, some megabytes at most."""

_queue = CompileQueue()


class CompiledGrammar:
    """A grammar for the tokens of one model.

    Attributes:
        decode: gives the tokens of its texts as text.
    """

    def __init__(self, matcher: LLMatcher, bytes_of: TokenBytes) -> None:
        self._matcher = matcher
        self._bytes = bytes_of
        self.decode = bytes_of.decode

    def constraint(self, stop_ids: Iterable[int]) -> GrammarConstraint:
        """That of a text that is to begin."""
        return GrammarConstraint(self._matcher.deep_copy(), len(self._bytes), stop_ids)


class GrammarCompiler:
    """Compiles grammars for the tokens of a model; of any thread."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._compiled: OrderedDict[str, Future[CompiledGrammar]] = OrderedDict()
        self._lock = threading.Lock()

    def compile(self, grammar: str, owner: Owner = ()) -> Future[CompiledGrammar]:
        """A grammar of `document.grammars`; one that is known is there at once. Those of different
        owners, a group and one in it, take turns.

        Its future ends with an InputError where the grammar is too large.
        """
        with self._lock:
            found = self._compiled.get(grammar)
            if found is None:
                work = partial(self._compile, grammar)
                found = self._compiled[grammar] = _queue.submit(work, owner or (work,))
                while len(self._compiled) > _MOST_KEPT:
                    self._compiled.popitem(last=False)
            self._compiled.move_to_end(grammar)
        return found

    def _compile(self, grammar: str) -> CompiledGrammar:
        from llguidance import LLMatcher

        matcher = LLMatcher(self._for_llguidance, grammar, log_level=0, limits=limits())
        if matcher.is_error():
            raise InputError(
                f"the format cannot be used: {shortened(matcher.get_error())}",
                hint="Make it simpler: shorter repetitions, fewer alternatives, shorter patterns.",
                code="format_too_complex",
            )
        matcher.compute_bitmask()  # the first takes longest, and copies know what it found out
        return CompiledGrammar(matcher, self._bytes)

    @cached_property
    def _bytes(self) -> TokenBytes:
        return TokenBytes(self._tokenizer)

    @cached_property
    def _for_llguidance(self) -> LLTokenizer:
        from llguidance import LLTokenizer, TokenizerWrapper

        end = len(self._bytes)
        wrapper = TokenizerWrapper(_Vocabulary(self._bytes))
        return LLTokenizer(wrapper, n_vocab=end + 1, eos_token=end)


class _Vocabulary:
    """A model's tokens as llguidance asks for them, and behind them one that stands for the end.

    Where a grammar leaves one way to go on, it allows the tokens alone that are made of that text.
    """

    bos_token_id = None

    def __init__(self, bytes_of: TokenBytes) -> None:
        self.eos_token_id = len(bytes_of)
        self.tokens = [*bytes_of.of, b"<end>"]
        self.special_token_ids = [*bytes_of.special, self.eos_token_id]
        self._encode = bytes_of.encode

    def __call__(self, text: bytes | str) -> list[int]:
        return self._encode(text.encode() if isinstance(text, str) else text)
