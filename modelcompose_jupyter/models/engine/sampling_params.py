"""What a request asks, resolved for one model: defaults, limits, and what has no effect."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ...document.parameters import GenerationParameters
from ...document.types import Message
from ...errors import InputError
from ...seeds import draw_seed
from ..generation import LimitedBy, Prompt, unwatched
from ..tokenization import chat, thinking
from ..tokenization.chat_renderer import source_of
from ..tokenization.chat_template import Check, names_read
from ..tokenization.thinking import Markers, Phase, Reply, Thinking
from ..weights import generation_defaults
from ..weights.loaded_model import LoadedModel

if TYPE_CHECKING:
    from ..constraints.compiler import CompiledGrammar
    from ..constraints.constraint import Constraint
    from ..tokenization.detokenizer import Decode

UNLIMITED_OUTPUT = 4096
"""max_output_length of a model without a context limit, where the request has none."""
MOST_OUTPUT = 2**31 - 1
"""In place of the limit that such a model does not have: no text has so many tokens."""

_DEFAULTS = {"temperature": 0.7, "top_k": 50, "top_p": 0.9, "num_beams": 1}
_NO_FLOATS = ("top_k", "num_beams", "early_stopping")
_SAMPLING = ("temperature", "top_k", "top_p", "min_p")
_GREEDY = {"temperature": 1e-30, "top_p": 0.0}
"""Values up to which sampling is greedy. Scores that are divided by a temperature below that are
not finite."""
_BEAMS = ("length_penalty", "early_stopping")
_OF_CHATS = (
    "thinking", "thinking_budget", "enable_thinking", "chat_template_kwargs", "tools",
    "tool_choice", "parallel_tool_calls",
)  # fmt: skip


@dataclass(frozen=True)
class SamplingParams:
    """What the model reads for a request, and how its tokens are chosen.

    Options that are named as in generate() mean what they mean there. Each has a value: where
    neither the request nor the model gives one, the one that changes nothing.

    Attributes:
        prompt: the text as it was used, a chat's as its template gave it.
        tokens: those of the prompt, at least one.
        seed: of the numbers that tokens are drawn with.
        stop_ids: tokens that end a text.
        stops: texts before which a text ends.
        max_new_tokens: 0 asks for no token at all, which generate() cannot do.
        limited_by: what set that, where it is not what was asked.
        min_length: counts the prompt; 0 where ``min_new_tokens`` takes its place.
        logprobs: how many alternatives of each generated token are told with log-probabilities;
            None where none are asked for. ``prompt_logprobs`` is that of the prompt's.
        given: tokens that texts begin with, of each sequence; those that have none may be missing.
        thinking: how replies may think; None where nothing is known of the model's thoughts.
        constraint: what tokens may come.
        decode: gives a text of a format; None where it is decoded as others are.
        room: how many more than ``max_new_tokens`` the model and the host would allow.
        parameters: the parameters as results report them, by the names of documents.
        warnings: a sentence for each parameter that was changed or has no effect.
    """

    prompt: str
    tokens: list[int]
    seed: int
    stop_ids: frozenset[int]
    max_new_tokens: int
    limited_by: LimitedBy | None = None
    stops: Sequence[str] = ()
    include_prompt: bool = True
    num_return_sequences: int = 1
    do_sample: bool = True
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float | None = None
    repetition_penalty: float = 1.0
    min_new_tokens: int = 0
    min_length: int = 0
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | str = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    given: Sequence[Sequence[int]] = ()
    thinking: Thinking | None = None
    constraint: Constraint | None = None
    decode: Decode | None = None
    room: int = 0
    parameters: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def resolve(
    loaded: LoadedModel,
    prompt: Prompt,
    asked: GenerationParameters,
    max_output_length: int | None = None,
    check: Check = unwatched,
    extended_by: int = 0,
    given: Sequence[Sequence[int]] = (),
    scored: str | None = None,
    grammar: CompiledGrammar | None = None,
    chat_template: str | None = None,
) -> SamplingParams:
    """Resolve a request for a model: tokenize its prompt, and decide each of its options.

    Args:
        max_output_length: the host's limit of the request's own.
        check: called now and then, to end this early by an exception of its own.
        extended_by: how many more tokens may be generated than is asked.
        given: tokens that texts begin with: see `SamplingParams`.
        scored: a text that stands after the prompt; it alone is given, and nothing is generated.
        grammar: what the texts must be.
        chat_template: of a chat, in place of that of the model's tokenizer.

    Raises:
        InputError: the prompt is empty or too long, or parameters contradict each other.
        ModelError: the prompt is a chat's messages, and the model has no chat template.
    """
    if extended_by:
        longest = asked.max_output_length
        if longest is None and loaded.context is None:
            longest = UNLIMITED_OUTPUT
        if longest is not None:
            asked = asked.model_copy(update={"max_output_length": longest + extended_by})
    begun = given if scored is None else ()
    params = _Resolver(
        loaded, prompt, asked, max_output_length, check, scored, begun, chat_template
    ).params()
    constraint: Constraint | None = None
    if grammar is not None and scored is None:
        constraint = grammar.constraint(params.stop_ids)
        params = replace(params, decode=grammar.decode)
    return replace(params, constraint=_with_thoughts(loaded, params, constraint))


def _with_thoughts(
    loaded: LoadedModel, params: SamplingParams, answer: Constraint | None
) -> Constraint | None:
    """The constraint of texts that may begin with thoughts, where there is anything to hold to."""
    from ..constraints.thinking import ThinkingConstraint

    thoughts = params.thinking
    if thoughts is None or (answer is None and thoughts.budget is None and not thoughts.is_off):
        return answer
    return ThinkingConstraint(
        thoughts, loaded.token_texts, loaded.marker_tokens, params.stop_ids, answer
    )


def reply_of(loaded: LoadedModel, params: SamplingParams) -> Reply | None:
    """What follows a reply through its parts, where it may have thoughts."""
    if params.thinking is None:
        return None
    return Reply(params.thinking, loaded.token_texts, trims=params.decode is None)


def seed_of(asked: GenerationParameters) -> int:
    """The seed of a request; if it has none a new one."""
    return asked.seed if asked.seed is not None else draw_seed()


class _Resolver:
    def __init__(
        self,
        loaded: LoadedModel,
        prompt: Prompt,
        asked: GenerationParameters,
        limit: int | None,
        check: Check,
        scored: str | None = None,
        given: Sequence[Sequence[int]] = (),
        chat_template: str | None = None,
    ) -> None:
        self.loaded = loaded
        self.chat_template = chat_template
        self.given = given
        for each in given:
            self._check_known(each)
        self.asked = asked
        self.limit = limit
        self.check = check
        self.warnings: list[str] = []
        self.defaults = loaded.defaults
        self.beams = asked.num_beams or 1
        self.sample = self._samples()
        self.sequences = asked.num_return_sequences or 1
        self.is_scoring = scored is not None
        alone = loaded.encoder_decoder or asked.max_output_length == 0 or self.is_scoring
        # Tokens of a prompt, and whether a longer one is cut to those or fewer:
        self.most = loaded.context if alone or not loaded.context else loaded.context - 1
        cut = asked.max_input_length
        self.is_cut_to_fit = cut is not None and (self.most is None or cut <= self.most)
        self.is_chat = isinstance(prompt, list)
        self.messages = prompt if isinstance(prompt, list) else []
        self.prompt, self.tokens = self._tokenize(prompt)
        if scored is not None:
            self._score(scored)
        self.stop_ids = loaded.stop_ids
        if self.is_chat:
            self.stop_ids |= loaded.turn_end(chat_template)

    def params(self) -> SamplingParams:
        self._check_sequences()
        longest, room, limited_by = self._longest()
        shortest = self._shortest(longest)
        min_new_tokens, min_length = self._minimum(longest, shortest)
        if any(len(each) > longest for each in self.given):
            raise InputError(
                f"a text that is given is longer than max_output_length, {longest}",
                hint="Raise max_output_length.",
            )
        seed = seed_of(self.asked)
        include_prompt = self._include_prompt()
        options = self._options()
        thoughts = self._thinking()
        self._warn_without_effect()
        self.warnings += generation_defaults.warnings(self.loaded.left_out, self.beams)
        if self.loaded.unbatched is not None:
            self.warnings.append(f"runs one by one, by generate(): {self.loaded.unbatched}")
        parameters = {
            "do_sample": self.sample,
            **options,
            "num_return_sequences": self.sequences,
            "min_output_length": shortest,
            "max_output_length": longest,
            "max_input_length": self.asked.max_input_length,
            "stop_sequences": self._stops(),
            "seed": seed,
            "include_prompt": include_prompt,
            "logprobs": self.asked.logprobs,
            "prompt_logprobs": self.asked.prompt_logprobs,
            "format": self.asked.format and self.asked.format.plain(),
            **({name: getattr(self.asked, name) for name in _OF_CHATS} if self.is_chat else {}),
        }
        return SamplingParams(
            prompt=self.prompt,
            tokens=self.tokens,
            seed=seed,
            stop_ids=self.stop_ids,
            max_new_tokens=longest,
            limited_by=limited_by,
            stops=self._stops(),
            include_prompt=include_prompt,
            num_return_sequences=self.sequences,
            do_sample=self.sample,
            min_new_tokens=min_new_tokens,
            min_length=min_length,
            **options,
            logprobs=self.asked.logprobs,
            prompt_logprobs=self._prompt_logprobs(),
            given=self.given,
            thinking=thoughts,
            room=room,
            parameters={name: value for name, value in parameters.items() if value is not None},
            warnings=self.warnings,
        )

    def _samples(self) -> bool:
        for name in _GREEDY:
            if self._is_greedy(name):
                if self.asked.do_sample:
                    self.warnings.append(f"do_sample is off: {name} 0 takes the likeliest token")
                return False
        return self.asked.do_sample is not False

    def _is_greedy(self, name: str) -> bool:
        value = getattr(self.asked, name)
        return name in _GREEDY and value is not None and value <= _GREEDY[name]

    def _prompt_logprobs(self) -> int | None:
        if self.asked.prompt_logprobs is not None and self.loaded.encoder_decoder:
            self.warnings.append(
                "prompt_logprobs has no effect: an encoder-decoder does not foretell its prompt"
            )
            return None
        return self.asked.prompt_logprobs

    def _stops(self) -> list[str]:
        if self.is_scoring:
            return []
        asked = self.asked.stop_sequences
        return [stop for stop in (self.loaded.stop_sequences if asked is None else asked) if stop]

    def _include_prompt(self) -> bool:
        if self.asked.format is not None:
            return False
        if not (self.loaded.encoder_decoder or self.is_chat):
            return self.asked.include_prompt is not False
        if self.asked.include_prompt:
            reply = "to a chat" if self.is_chat else "of an encoder-decoder"
            self.warnings.append(f"include_prompt has no effect: the text is the reply {reply}")
        return False

    def _options(self) -> dict[str, Any]:
        """Options of the choice, as far as the request or the model gives them."""
        names = ["repetition_penalty", *(_SAMPLING if self.sample else ()), "num_beams"]
        names += _BEAMS if self.beams > 1 else ()
        options: dict[str, Any] = {}
        for name in names:
            value = getattr(self.asked, name)
            if value is None:
                value = _DEFAULTS[name] if name in _DEFAULTS else getattr(self.defaults, name)
            if value is not None:  # generate() wants floats
                options[name] = value if name in _NO_FLOATS else float(value)
        return options

    def _minimum(self, longest: int, shortest: int | None) -> tuple[int, int]:
        """min_new_tokens and min_length; as in generate(), the first takes the second's place."""
        new = self.defaults.min_new_tokens if shortest is None else shortest
        return (0, min(self.defaults.min_length or 0, longest)) if new is None else (new, 0)

    def _warn_without_effect(self) -> None:
        for name in self._in_vain(() if self.sample else _SAMPLING):
            self.warnings.append(f"{name} has no effect without sampling")
        for name in self._in_vain(() if self.is_chat else _OF_CHATS):
            self.warnings.append(f"{name} has no effect: only chats have a template")
        for name in self._in_vain(_BEAMS if self.beams == 1 else ()):
            self.warnings.append(f"{name} has no effect without num_beams above 1")
        if self.beams > 1:
            self.warnings.append("with num_beams above 1 the text comes at the end, not in parts")

    def _in_vain(self, names: Iterable[str]) -> list[str]:
        """Those that are asked for."""
        asked = (name for name in names if getattr(self.asked, name) is not None)
        return [name for name in asked if not self._is_greedy(name)]

    def _check_sequences(self) -> None:
        if self.beams > 1 and self.sequences > self.beams:
            raise InputError(
                f"num_return_sequences {self.sequences} is above num_beams {self.beams}",
                hint="A beam search can return at most as many texts as it has beams.",
            )
        if self.beams == 1 and self.sequences > 1 and not self.sample:
            raise InputError(
                f"num_return_sequences {self.sequences} would give the same text"
                f" {self.sequences} times without sampling",
                hint="Set do_sample: true with a temperature above 0, or raise num_beams.",
            )

    def _tokenize(self, prompt: Prompt) -> tuple[str, list[int]]:
        if isinstance(prompt, tuple):
            used, tokens = self._take_tokens(prompt)
        elif isinstance(prompt, str):
            used, tokens = self._tokenize_text(prompt)
        else:
            used, tokens = self._tokenize_chat(prompt)
        self.check()
        self._warn_of_unknown(tokens)
        tokens = tokens or self._beginning(used)
        if self.most is not None and len(tokens) > self.most:
            raise self._too_long(str(len(tokens)), is_full=len(tokens) == self.loaded.context)
        return used, tokens

    def _too_long(self, count: str, is_full: bool = False) -> InputError:
        return InputError(
            f"the prompt has {count} tokens and the model's context is {self.loaded.context}"
            + (", which leaves no room for an answer" if is_full else ""),
            hint="Begin a new conversation, or set max_input_length to leave out old turns."
            if self.is_chat
            else "Shorten the prompt, or set max_input_length to keep only its beginning.",
            code="prompt_too_long",
        )

    def _refuse_beyond(self, text: str) -> None:
        """Raise InputError for a text that surely has more tokens than the context."""
        read = self.loaded.prompt_tokens
        if self.most is not None and read.is_beyond(text, self.most, self.check):
            raise self._too_long(f"more than {self.loaded.context}")

    def _warn_of_unknown(self, tokens: list[int]) -> None:
        """Warn where the tokenizer has no tokens for parts of the prompt."""
        tokenizer = self.loaded.tokenizer
        unknown = tokenizer.unk_token_id
        if unknown in (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id):
            return  # it has none of its own, as with GPT-2's, which can write every text
        if count := tokens.count(unknown):
            self.warnings.append(
                f"the model's tokenizer does not know all of the prompt: {count} of {len(tokens)}"
                f" tokens are {tokenizer.unk_token}"
            )

    def _take_tokens(self, prompt: tuple[int, ...]) -> tuple[str, list[int]]:
        self._check_known(prompt)
        tokens, limit = list(prompt), self.asked.max_input_length
        if limit is not None and len(tokens) > limit:
            self.warnings.append(
                f"the prompt was cut from {len(tokens)} to {limit} tokens by max_input_length"
            )
            tokens = tokens[-limit:] if self._cuts_beginning else tokens[:limit]
        return self.loaded.decode(tokens), tokens

    def _check_known(self, tokens: Sequence[int]) -> None:
        known = len(self.loaded.tokenizer)
        wrong = next((each for each in tokens if not 0 <= each < known), None)
        if wrong is not None:
            raise InputError(
                f"the model has no token with the id {wrong}: its vocabulary has {known:,}",
                hint="Make the tokens with the model's own tokenizer.",
                code="unknown_token",
            )

    @property
    def _cuts_beginning(self) -> bool:
        return bool(self.loaded.tokenizer.truncation_side == "left")

    def _score(self, text: str) -> None:
        """Have a text given after the prompt, tokenized with it, and nothing else.

        Where they are joined, a token that is of both is the text's.
        """
        self._refuse_beyond(text)
        if self.loaded.encoder_decoder:
            tokens = self.loaded.prompt_tokens.encode(text)
        else:
            whole = self.loaded.prompt_tokens.encode(self.prompt + text, special=not self.is_chat)
            whole = self._one_beginning(self.prompt, whole)
            pairs = enumerate(zip(self.tokens, whole, strict=False))
            shared = next((n for n, (a, b) in pairs if a != b), min(len(self.tokens), len(whole)))
            if shared:
                self.tokens, tokens = whole[:shared], whole[shared:]
            else:  # there is no prompt, or the first token is of both
                tokens = self.loaded.prompt_tokens.encode(text, special=False)
        self.given = [tokens]
        context = self.loaded.context
        before = 1 if self.loaded.encoder_decoder else len(self.tokens)
        if context is not None and before + len(tokens) - 1 > context:  # the last is not read
            raise InputError(
                f"the text has {len(tokens)} tokens behind {before} others, and"
                f" the model's context is {context}",
                hint="Score it in parts, or shorten the prompt.",
                code="prompt_too_long",
            )

    def _tokenize_text(self, prompt: str) -> tuple[str, list[int]]:
        limit, read = self.asked.max_input_length, self.loaded.prompt_tokens
        if not self.is_cut_to_fit:
            self._refuse_beyond(prompt)
        part = prompt if limit is None else read.readable(prompt, limit, self.check)
        tokens = read.encode(part)
        if limit is not None and len(tokens) > limit:
            whole = str(len(tokens)) if len(part) == len(prompt) else f"more than {limit}"
            self.warnings.append(
                f"the prompt was cut from {whole} to {limit} tokens by max_input_length"
            )
            part, tokens = self._truncate(part, limit)
        return part, self._one_beginning(part, tokens)

    def _tokenize_chat(self, messages: list[Message]) -> tuple[str, list[int]]:
        """A chat that is too long loses its oldest turns: cut anywhere else it would be none."""
        limit = self.asked.max_input_length
        tokenizer, read = self.loaded.tokenizer, self.loaded.prompt_tokens
        kwargs = self.asked.chat_template_kwargs or {}
        for name in chat.unread(tokenizer, kwargs, template=self.chat_template):
            self.warnings.append(
                f"{name} has no effect: the model's chat template has no such switch"
            )
        least = chat.least_characters(messages)
        if not self.is_cut_to_fit and self.most is not None and read.cannot_fit(least, self.most):
            raise self._too_long(f"more than {self.loaded.context}")
        if limit is None:
            text = self._chat_text(messages)
            self._refuse_beyond(text)
            return text, read.encode(text, special=False)
        fits, text, tokens = self._chat_within(messages, limit)
        if fits:
            return text, tokens
        whole = str(len(tokens)) if tokens else f"more than {limit}"
        kept, text, tokens = self._newest_turns(messages, limit)
        self.warnings.append(
            f"the chat was cut from {whole} to {len(tokens)} tokens by max_input_length:"
            f" without its {len(messages) - kept} oldest messages"
        )
        return text, tokens

    def _chat_text(self, messages: Sequence[Message]) -> str:
        return chat.text_of(
            self.loaded.tokenizer,
            messages,
            self._variables(),
            self.check,
            tools=self.asked.tools or (),
            template=self.chat_template,
        )

    def _chat_within(self, messages: Sequence[Message], limit: int) -> tuple[bool, str, list[int]]:
        """Whether a chat has ``limit`` tokens at most, its text, and its tokens unless they are so
        many more that they were not all read."""
        self.check()
        read = self.loaded.prompt_tokens
        if read.cannot_fit(chat.least_characters(messages), limit):
            return False, "", []
        text = self._chat_text(messages)
        if read.is_beyond(text, limit, self.check):
            return False, "", []
        tokens = read.encode(text, special=False)
        return len(tokens) <= limit, text, tokens

    def _newest_turns(self, messages: Sequence[Message], limit: int) -> tuple[int, str, list[int]]:
        """As many of a chat's last turns as have ``limit`` tokens: the number of messages that are
        kept, their text, its tokens.

        Looked for from the last turn on, in steps that double and then halve, so that it costs
        little more than what is kept, however much is not.
        """
        system, turns = chat.later_turns(messages)
        found: tuple[int, str, list[int]] | None = None
        last: list[int] = []
        fitting, beyond, step = len(turns), -1, 1  # places in turns: what fits, and what does not
        while fitting - beyond > 1:
            place = max(beyond + 1, fitting - step) if beyond < 0 else (fitting + beyond) // 2
            kept = [*system, *messages[turns[place] :]]
            fits, text, tokens = self._chat_within(kept, limit)
            if fits:
                fitting, found, step = place, (len(kept), text, tokens), 2 * step
            else:
                beyond, last = place, tokens
        if found is not None:
            return found
        if not turns:
            last = self._chat_within(messages, limit)[2]
        raise InputError(
            f"the last message needs {len(last) or f'more than {limit}'} tokens and"
            f" max_input_length is {limit}",
            hint="Shorten it, or raise max_input_length.",
            code="prompt_too_long",
        )

    def _variables(self) -> dict[str, Any]:
        """What the chat's template may read: the switch of its thoughts, where it has one."""
        asked, template = self.asked, source_of(self.loaded.tokenizer, self.chat_template)
        found = dict(asked.chat_template_kwargs or {})
        if asked.enable_thinking is not None:  # a tokenizer's own code may read it, too
            found["enable_thinking"] = asked.enable_thinking
        if asked.wants_thinking is not None:
            found = {**thinking.switch(template, asked.wants_thinking), **found}
        if asked.thinking_budget is not None and "thinking_budget" in names_read(template):
            found.setdefault("thinking_budget", asked.thinking_budget)
        return found

    def _thinking(self) -> Thinking | None:
        """How the replies may think; None where nothing is known of the model's thoughts."""
        if not self.is_chat or self.is_scoring:
            return None
        template = source_of(self.loaded.tokenizer, self.chat_template)
        wanted = self.asked.wants_thinking
        markers = thinking.find(self.loaded.decode.added, template)
        if markers is not None and not self.loaded.marker_tokens.can_write(markers):
            markers = None
        phase = (
            Phase.ANSWER if markers is None else markers.phase_behind(self.prompt, self._begun())
        )
        self._warn_of_thinking(template, markers, phase)
        if markers is None:
            return None
        if self.beams > 1:  # it cannot be held to anything
            return Thinking(markers, phase)
        return Thinking.of(markers, phase, wanted, self.asked.thinking_budget)

    def _begun(self) -> str:
        """What of the reply is in the messages already."""
        last = self.messages[-1]
        said = last["content"] if last["role"] == "assistant" else ""
        return said if self.prompt.rstrip().endswith(said.rstrip()) else ""

    def _warn_of_thinking(self, template: str, markers: Markers | None, phase: Phase) -> None:
        wanted, budget = self.asked.wants_thinking, self.asked.thinking_budget
        is_met = phase is Phase.THOUGHT if wanted else markers is not None and self.beams == 1
        if wanted is not None and not (is_met or thinking.switch(template, wanted)):
            name = "thinking" if self.asked.enable_thinking is None else "enable_thinking"
            self.warnings.append(
                f"{name} has no effect: the model's chat template has no such switch"
            )
        if budget is not None and wanted is False:
            self.warnings.append("thinking_budget has no effect without thinking")
        elif budget is not None and markers is None:
            self.warnings.append(
                "thinking_budget has no effect: how the model marks thoughts is not known"
            )

    def _truncate(self, prompt: str, limit: int) -> tuple[str, list[int]]:
        """The part of the prompt that ``limit`` tokens hold, on the side the tokenizer keeps."""
        tokenizer = self.loaded.tokenizer
        encoded = tokenizer(
            prompt, truncation=True, max_length=limit, return_offsets_mapping=tokenizer.is_fast
        )
        tokens = list(encoded["input_ids"])
        cut = self.loaded.decode.unfinished(tokens)  # a character of several tokens
        kept = [place for place in range(len(tokens)) if place not in cut]
        tokens = [tokens[place] for place in kept]
        if not tokenizer.is_fast:
            return str(tokenizer.decode(tokens, skip_special_tokens=True)), tokens
        offsets = [encoded["offset_mapping"][place] for place in kept]
        spans = [(start, end) for start, end in offsets if end > start]
        if not spans:
            return "", tokens
        return prompt[min(start for start, _ in spans) : max(end for _, end in spans)], tokens

    def _one_beginning(self, prompt: str, tokens: list[int]) -> list[int]:
        """Drop the begin token that the tokenizer adds to a prompt which spells it already."""
        tokenizer = self.loaded.tokenizer
        begin = tokenizer.bos_token
        spelled = begin and prompt.startswith(begin) and not prompt.startswith(2 * begin)
        return tokens[1:] if spelled and tokens[:2] == [tokenizer.bos_token_id] * 2 else tokens

    def _beginning(self, used: str) -> list[int]:
        """The tokens for a prompt of no tokens: the model's begin token."""
        if used.strip():
            raise InputError(
                "the model's tokenizer has no tokens for the prompt: it knows no character of it",
                hint="Use a model of the prompt's language.",
                code="message_lost",
            )
        begin = self.defaults.bos_token_id
        if begin is None:
            begin = self.loaded.tokenizer.bos_token_id
        if begin is None and self.loaded.encoder_decoder:
            begin = self.loaded.tokenizer.eos_token_id
        if begin is None:
            raise InputError(
                f"{'the messages are' if self.is_chat else 'the prompt is'} empty, and the model"
                " has no token to begin with",
                hint="Give at least one word.",
            )
        return [int(begin)]

    def _longest(self) -> tuple[int, int, LimitedBy | None]:
        """How many tokens may be generated, how many more could be, and what set that where it is
        not what was asked."""
        if self.is_scoring:
            return len(self.given[0]), 0, None
        asked, context = self.asked.max_output_length, self.loaded.context
        limited_by: LimitedBy | None = None
        if context is None:
            longest, most = UNLIMITED_OUTPUT if asked is None else asked, MOST_OUTPUT
        else:
            most = context - (1 if self.loaded.encoder_decoder else len(self.tokens))
            longest = most if asked is None else min(asked, most)
            if asked is None or asked > most:
                limited_by = "context"
        if self.limit is not None and longest > self.limit:
            self.warnings.append(f"max_output_length was lowered to {self.limit}, the host's limit")
            longest, limited_by = self.limit, "host"
        most = most if self.limit is None else min(most, self.limit)
        return longest, max(0, most - longest), limited_by

    def _shortest(self, longest: int) -> int | None:
        asked = self.asked.min_output_length
        if asked is not None and asked > longest:
            self.warnings.append(
                f"min_output_length lowered: asked {asked}, at most {longest} can be generated"
            )
            return longest
        return asked
