"""What helps with keys and values that are wrong: which there are, and what others call them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic import BaseModel

from ..errors import did_you_mean, nearest
from .parameters import PARAMETER_NAMES
from .reader import KeyPath
from .schema import Compose, keys_of, models_by_type, models_in, without_effect

# What keys are called elsewhere: in transformers, in GitHub's, n8n's and Prefect's workflows, ….
# Where two keys have a name in common, the first that is known at a place is meant.
_OTHER_NAMES = {
    "max_output_length": "max_new_tokens max_tokens max_length",
    "min_output_length": "min_new_tokens min_length",
    "stop_sequences": "stop",
    "num_return_sequences": "n",
    "precision": "dtype torch_dtype",
    "model": "model_id model_name",
    "params": "parameters",
    "include_prompt": "return_full_text",
    "draft_model": "assistant_model",
    "prompt_lookup": "prompt_lookup_num_tokens",
    "peft_adapters": "lora loras",
    "quantization": "load_in_4bit load_in_8bit quantization_config",
    "cache_quantization": "kv_cache_dtype cache_implementation",
    "format": "response_format",
    "jobs": "steps tasks nodes",
    "depends_on": "needs after requires wait_for depends",
    "repeat_count": "repeat times count",
    "retry": "retries max_retries max_attempts attempts",
    "timeout": "timeout_seconds timeout-minutes timeout_minutes",
    "on_error": "catch except fallback on_failure onError",
    "max_attempt_count": "attempts max_attempts max_retries retries count",
    "delay": "retry_delay wait interval",
    "to": "target goto next job route then",
    "weight": "scale probability chance share",
    "then": "target goto next job route do",
    "if_true": "then true on_true yes",
    "if_false": "else false on_false no",
    "otherwise": "else default",
    "conditions": "elif else_if",
    "do": "body job step then each",
    "batch_size": "concurrency parallel max_concurrency max_concurrent_count max-parallel",
    "max_iteration_count": "max_iterations max_rounds max_loops max_iter max_count limit",
    "accumulator": "initial init initial_value start",
    "input": "items in list elements over iterable with args arguments inputs left actual",
    "output": "outputs",
    "operator": "op comparison compare",
    "value": "right expected equals when match case",
    "all": "and",
    "any": "or",
    "condition": "if when",
    "where": "if when condition filter",
    "until": "if when condition",
    "routings": "routes branches choices targets",
    "cases": "branches choices",
    "duration": "seconds sleep wait for delay",
    "time": "until at",
    "timezone": "tz",
    "message": "question prompt text ask",
    "choices": "options answers",
    "function": "callable func handler name call",
    "component": "uses",
}
_HERE: dict[str, list[str]] = {}
for _key, _words in _OTHER_NAMES.items():
    for _word in _words.split():
        _HERE.setdefault(_word, []).append(_key)

_BELOW_FORMAT = "Write it below 'format:', as its one key."
_FOR_EACH = "A job of type for-each goes through a list: its 'do' holds this one."
_LOOP = "A job of type loop repeats: its 'do' holds this one."
_IGNORE = "Write 'on_error: ignore'."
_SENTENCES = (
    ("json_schema regex choices grammar", "format", _BELOW_FORMAT),
    (
        "reasoning_effort",
        "chat_template_kwargs",
        "Chat templates read it: write it below 'chat_template_kwargs:'.",
    ),
    ("message choices metadata", "before", "Write it below 'before:' or 'after:'."),
    ("ignore", "to", _IGNORE),
    ("continue-on-error continue_on_error ignore_errors", "on_error", _IGNORE),
    (
        "if when condition",
        "if_true",
        "A comparison has three keys: 'input', 'operator' and 'value'.",
    ),
    ("if when condition", "component", "A job of type if leads to this one, by 'if_true: ID'."),
    (
        "type do cases routings batch_size where max_iteration_count accumulator duration"
        " conditions if_true if_false otherwise",
        "jobs",
        "It belongs to a job: write it below 'job:'.",
    ),
    ("foreach for_each for-each map matrix strategy", "component", _FOR_EACH),
    ("loop while until repeat_until", "component", _LOOP),
    ("parallel", "component", "Jobs run at the same time unless one waits for another."),
)
"""What people write beside a key who look for something, and where it belongs."""

_NOT_OFFERED = {
    **dict.fromkeys(("listener", "listeners", "gateway", "gateways"), "Listeners and gateways"),
    **dict.fromkeys(("system", "systems", "tracer", "tracers"), "Systems and tracers"),
    **dict.fromkeys(("logger", "loggers"), "Loggers"),
    "hook": "Hooks",
}

_VALUES_ELSEWHERE = {
    ("precision", "int8"): "Write 'quantization: int8'.",
    ("precision", "int4"): "Write 'quantization: int4'.",
    ("quantization", "4"): "Write 'quantization: int4'.",
    ("quantization", "8"): "Write 'quantization: int8'.",
    ("quantization", "nf4"): "Write 'quantization: int4'.",
    ("quantization", "fp8"): "Write 'quantization: int8'.",
    **{("operator", word): "Write 'operator: eq'." for word in ("==", "=", "===", "is", "equals")},
    **{("operator", word): "Write 'operator: neq'." for word in ("!=", "<>", "ne", "not")},
    ("operator", ">"): "Write 'operator: gt'.",
    ("operator", ">="): "Write 'operator: gte'.",
    ("operator", "<"): "Write 'operator: lt'.",
    ("operator", "<="): "Write 'operator: lte'.",
    ("operator", "contains"): "Write 'operator: match', or 'in' with input and value exchanged.",
    ("operator", "regex"): "Write 'operator: match'.",
    **{("type", word): "Write 'type: for-each'." for word in ("map", "for", "each", "iterate")},
    **{("type", word): "Write 'type: loop'." for word in ("while", "until", "repeat")},
    **{("type", word): "Write 'type: if'." for word in ("condition", "conditional", "branch")},
    **{("type", word): "Write 'type: switch'." for word in ("choice", "case", "match")},
    **{("type", word): "Write 'type: accumulate'." for word in ("reduce", "fold")},
    **{("type", word): "Write 'type: delay'." for word in ("wait", "sleep", "pause")},
    ("type", "router"): "Write 'type: random-router', or 'if' or 'switch'.",
    **{
        (
            "type",
            word,
        ): "Jobs run at the same time unless one waits for another: write each as a job."
        for word in ("parallel", "sequence", "serial", "fan-out", "pipeline")
    },
    **{("type", word): "Write 'type: function'." for word in ("python", "script", "code")},
}
"""What people write for a key who know other tools, and where it belongs."""

_COMPARISON = "Write 'input: ${…}', 'operator' and 'value' below it."
_TO = "Write a job's id, or, below it, 'to: …' or 'output: …'."
_WRONG_VALUES = {
    "do": "It holds one job: write 'component: …' below it. Several are a workflow of their own,"
    " which a component of type workflow runs.",
    **dict.fromkeys(("until", "while", "where", "condition", "not"), _COMPARISON),
    **dict.fromkeys(("if_true", "if_false", "otherwise", "then"), _TO),
    "on_error": "Write 'ignore'; or, below it, 'to: …' or 'output: …'.",
    "retry": "Write how often it is tried, such as 'retry: 3'.",
    "routings": "Each begins with '- to: …' or '- output: …'.",
    "cases": "Each begins with '- value: …', and has 'then'.",
    "interrupt": "Write 'before: true' or 'after: true' below it.",
    **dict.fromkeys(("before", "after"), "Write 'true', or 'message: …' below it."),
    "depends_on": "Write an id, or a list of ids; of a list within it one is enough.",
}

MISSING = {
    "model": "Write a Hub id, a folder or bundled:storyteller.",
    "task": "Write 'task: text-generation' or 'task: chat-completion'.",
    "role": "Write 'role: user', say.",
    "content": "Write 'content: ${input.prompt as text}', say.",
    "type": "Write 'type: model' in a component, 'type: http-server' in a controller's adapter.",
    "max_iteration_count": "A loop has a bound: write 'max_iteration_count: 10', say.",
    "max_attempt_count": "Write how often it is tried, such as 'max_attempt_count: 3'.",
    "do": "It is the inner job: write 'do:', and 'component:' below it.",
    "input": "Write where its value comes from, such as 'input: ${input.list}'.",
    "value": "Write what it is compared with, such as 'value: true'.",
    "cases": "Write 'cases:', and below it '- value: …' with 'then: …' for each.",
    "then": "Write a job's id, or 'output: …' below it.",
    "routings": "Write 'routings:', and below it '- to: …' for each way.",
    "output": "Write 'output: …', a value, or 'to: …', the id of a job.",
    "function": "Write the name of a function of the notebook's, or module:name.",
}
"""What to write for keys that are missing."""

LISTS = {
    **dict.fromkeys(("components", "actions", "workflows", "jobs"), "'id'"),
    "cases": "'value' and 'then'",
    "routings": "'to' or 'output'",
    "conditions": "'operator', 'value' and 'if_true'",
    "adapters": "",
    **dict.fromkeys(("peft_adapter", "peft_adapters"), "'model'"),
}
"""Keys of lists of mappings, and what each of these has first."""


@dataclass(frozen=True)
class Keys:
    """Which keys a mapping may have.

    Attributes:
        known: by name.
        kinds: of a mapping that goes by its ``type``, those of each type.
    """

    known: tuple[str, ...] = ()
    kinds: Mapping[str, tuple[str, ...]] | None = None

    def meant(self, key: str) -> str:
        """What a key is called that goes by another name elsewhere, or is misspelt; else itself."""
        return self._other_name(key) or nearest(key, self.known) or key

    def unknown(self, key: str, owner: str) -> tuple[str, str]:
        """What is said of a key that is not known, of a mapping below ``owner``; and a hint."""
        if key in _NOT_OFFERED:
            return f"'{key}' is not supported", f"{_NOT_OFFERED[key]} do not run here."
        return f"unknown key '{key}'", self._hint(key, owner)

    def _hint(self, key: str, owner: str) -> str:
        for words, beside, sentence in _SENTENCES:
            if beside in self.known and key in words.split():
                return sentence
        if (other := self._other_name(key)) is not None:
            return f"Here it is called '{other}'."
        if "do" in self.known and key in (self.kinds or {}).get("component", ()):
            return "It belongs to the inner job: write it below 'do:'."
        if types := [name for name, keys in (self.kinds or {}).items() if key in keys]:
            *first, last = types
            listed = f"{', '.join(first)} or {last}" if first else last
            return f"'{key}' goes with type: {listed}."
        if (hint := did_you_mean(key, self.known)) is not None:
            return hint
        if owner in LISTS:
            return f"'{owner}' is a list: each of its elements begins with '- '."
        if key in PARAMETER_NAMES:
            return "Generation parameters belong to a component or its action."
        return f"Known here: {', '.join(self.known)}."

    def _other_name(self, key: str) -> str | None:
        return next((name for name in _HERE.get(key, ()) if name in self.known), None)


def keys_at(data: Any, path: KeyPath) -> Keys:
    """The keys that the mapping at a place of a document may have."""
    model: type[BaseModel] | None = Compose
    kinds: Mapping[str, type[BaseModel]] = {}
    one: type[BaseModel] | None = Compose
    for step in path:
        if isinstance(step, str):
            model = _of_type(one, kinds, data)
            if model is None or step not in keys_of(model):
                return Keys()
            one, kinds = _below(model, step)
        data = data[step]
    model = _of_type(one, kinds, data)
    by_type = {name: tuple(keys_of(each)) for name, each in kinds.items()}
    return Keys() if model is None else Keys(_offered(model), by_type)


def _of_type(
    one: type[BaseModel] | None, kinds: Mapping[str, type[BaseModel]], data: Any
) -> type[BaseModel] | None:
    type_ = data.get("type") if kinds and isinstance(data, Mapping) else None
    return kinds.get(type_, one) if isinstance(type_, str) else one


@lru_cache(maxsize=256)
def _below(
    model: type[BaseModel], key: str
) -> tuple[type[BaseModel] | None, Mapping[str, type[BaseModel]]]:
    """What a key holds: the mapping, or the first of several kinds, and these kinds."""
    annotation = keys_of(model)[key].annotation
    return next(iter(models_in(annotation)), None), models_by_type(annotation)


@lru_cache(maxsize=256)
def _offered(model: type[BaseModel]) -> tuple[str, ...]:
    return tuple(key for key in keys_of(model) if key not in without_effect(model))


def of_value(key: str, value: Any, expected: list[str]) -> str:
    """What may stand in place of a value that is none of those expected."""
    written = str(value)
    hint = _VALUES_ELSEWHERE.get((key, written)) or did_you_mean(written, expected)
    if hint is None:
        *first, last = expected
        hint = f"It is {', '.join(first)} or {last}." if first else f"It is {last}."
    if key in ("task", "driver") or (key == "type" and "loop" not in expected):
        hint = f"{hint} Other {key}s of model-compose do not run here."
    return hint


def of_form(key: str, value: Any) -> str | None:
    """What may stand in place of a value that has the wrong form."""
    name = key.partition("[")[0]
    if isinstance(value, str) and "${" in value and name not in _WRONG_VALUES:
        return "It is known when the document is read: no expression can stand here."
    return _WRONG_VALUES.get(name)
