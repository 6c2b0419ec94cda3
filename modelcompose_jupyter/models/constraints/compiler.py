"""Grammars compiled for one model's tokens: off its thread, once, and within bounds."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

from ...document.grammars import limits
from ...errors import InputError, shortened
from ..generation import Owner
from ..tokenization.chat_renderer import ChatRenderer
from ..tokenization.detokenizer import Decode
from ..tokenization.tool_calls import CallSyntax, syntax_of
from .compile_queue import CompileQueue
from .constraint import GrammarConstraint
from .token_bytes import TokenBytes

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

_MOST_KEPT = 64
"""Compiled grammars of a model; each holds what was worked out of it, some megabytes at most."""

K = TypeVar("K")
T = TypeVar("T")
_queue = CompileQueue()


class CompiledGrammar:
    """A grammar for the tokens of one model.

    Attributes:
        decode: gives the tokens of its texts as text.
    """

    def __init__(
        self, matcher: LLMatcher, bytes_of: TokenBytes, decode: Decode | None = None
    ) -> None:
        self._matcher = matcher
        self._bytes = bytes_of
        self.decode = decode or bytes_of.decode

    def constraint(self, stop_ids: Iterable[int]) -> GrammarConstraint:
        """That of a text that is to begin."""
        return GrammarConstraint(self._matcher.deep_copy(), len(self._bytes), stop_ids)

    def showing(self, special: Mapping[str, int]) -> CompiledGrammar:
        """The same, with these special tokens in its texts."""
        shown = {id: text.encode() for text, id in special.items()}
        return CompiledGrammar(self._matcher, self._bytes, partial(self._bytes.decode, shown=shown))


class GrammarCompiler:
    """Compiles grammars for the tokens of a model; of any thread."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._compiled: OrderedDict[str, Future[CompiledGrammar]] = OrderedDict()
        self._syntaxes: OrderedDict[str | None, Future[CallSyntax]] = OrderedDict()
        self._lock = threading.Lock()

    def compile(self, grammar: str, owner: Owner = ()) -> Future[CompiledGrammar]:
        """A grammar of `document.grammars`; one that is known is there at once. Those of different
        owners, a group and one in it, take turns.

        Its future ends with an InputError where the grammar is too large.
        """
        return self._known(self._compiled, grammar, self._compile, owner)

    def call_syntax(self, template: str | None, owner: Owner = ()) -> Future[CallSyntax]:
        """How a chat template, None for the tokenizer's own, has calls of tools written.

        Its future ends with a ModelError where there is no template.
        """
        return self._known(self._syntaxes, template, self._find_syntax, owner)

    def _known(
        self, known: OrderedDict[K, Future[T]], key: K, make: Callable[[K], T], owner: Owner
    ) -> Future[T]:
        with self._lock:
            found = known.get(key)
            if found is None:
                work = partial(make, key)
                found = known[key] = _queue.submit(work, owner or (work,))
                while len(known) > _MOST_KEPT:
                    known.popitem(last=False)
            known.move_to_end(key)
        return found

    def _find_syntax(self, template: str | None) -> CallSyntax:
        return syntax_of(ChatRenderer(self._tokenizer, template))

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
        # Grammars name special tokens by their ids, and the library tells them apart by what they
        # write, behind a byte that no text has. A token with that byte is none that it could take.
        special = {*bytes_of.special, self.eos_token_id}
        special |= {id for id, each in enumerate(bytes_of.of) if b"\xff" in each}
        self.tokens = [
            f"<[{id}]>".encode() if id in special else each
            for id, each in enumerate([*bytes_of.of, b""])
        ]
        self.special_token_ids = sorted(special)
        self._encode = bytes_of.encode

    def __call__(self, text: bytes | str) -> list[int]:
        return self._encode(text.encode() if isinstance(text, str) else text)
