"""What may stand at a cursor in a document that is being written, and what stands there means.

The schema says which keys and values there are and what they are for, the outline where the cursor
stands. Documents may be as broken as they are while one types.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Literal, get_origin

from pydantic import BaseModel

from . import schema
from .fields import Meanings, Names, Sees, TemplateOr
from .outline import LONGEST_EXPRESSION, CursorContext, ExpressionEnds, Node, Outline
from .parameters import PARAMETER_NAMES, GenerationParameters
from .references import NOTES, SOURCES, references
from .schema import ModelComponent, ModelSource
from .schema_keywords import Holds, JsonSchemaKeywords
from .templates import parse_template
from .types import TYPE_HELP, ConversionError, Type, check_type

ModelNames = Callable[[str], Iterable[str]]
"""Gives the models that what is typed may stand for, as they are written in a document."""
FunctionNames = Callable[[], Iterable[str]]
"""Gives the names of Python functions that a document may name."""

# What most documents have: these keys come first in their mapping, after the required ones.
_COMMON = (
    "id", "title", "jobs", "component", "workflow", "text", "messages", "params", "input",
    "operator", "value", "if_true", "if_false", "until", "where", "duration", "accumulator",
    "otherwise", "depends_on", "output", "max_output_length", "temperature", "top_p",
    "stop_sequences", "include_prompt", "seed", "port", "components", "workflows", "controller",
    "device", "precision", "quantization",
)  # fmt: skip
_PATH = re.compile(r"\s*((?:\[[^\]]*(?:\]|$)|[^\s|@\[])*)")  # a path up to the cursor
_AS = re.compile(r"\s+(a?s?)")
_NOTE = re.compile(r"@\((\w*)$")
_TYPE = re.compile(r"\s+as\s+(\w*)")
_WORD = re.compile(r"[\w-]*")
_BUNDLED = "bundled:"
_AS_HELP = "What the value must be; it says which field a form has for it, too."
_WHENCE = {
    "name": "Ships with the package.",
    "path": "A model of this computer.",
    "repository": "From the Hugging Face Hub; it is on this computer already.",
}


@dataclass(frozen=True)
class Completion:
    """One text that may stand at the cursor: a word for what it is, and a sentence about it.

    ``help`` is empty where nothing is known of it, as of names that the document itself gives.
    """

    text: str
    kind: str
    help: str = ""


@dataclass(frozen=True)
class Completions:
    """What may stand at the cursor, the likeliest first, in place of the text from ``start`` on."""

    start: int
    items: tuple[Completion, ...] = ()


@dataclass(frozen=True)
class Explanation:
    """What the text from ``start`` to ``end`` is: its name, a word for what it is, a sentence."""

    start: int
    end: int
    name: str
    kind: str
    help: str


def explain(text: str, cursor: int) -> Explanation | None:
    """What a key, a value, a type or a source at a cursor means; None where nothing is known."""
    return _Completer(text, cursor).explain()


def complete(
    text: str,
    cursor: int,
    *,
    models: ModelNames = lambda typed: (),
    functions: FunctionNames = lambda: (),
    environ: Mapping[str, str] = os.environ,
) -> Completions:
    """What may stand at a cursor, an index in the text, of models, functions and variables too."""
    return _Completer(text, cursor, models, functions, environ).complete()


@dataclass(frozen=True)
class NamedModel:
    """A model that a document names, as ``model`` takes it, and where in the text it does."""

    source: str
    start: int
    end: int


def named_models(text: str) -> list[NamedModel]:
    """The models that any text names, as far as they can be told; not those of expressions."""
    root = Outline(text, 0).root
    jobs = [job for each in _listed(root, "workflow") for job in (each, *_listed(each, "job"))]
    components = [each for holder in (root, *jobs) for each in _listed(holder, "component")]
    keys = ("model", "draft_model")
    nodes = [node for each in components for key in keys if (node := each.child(key))]
    return [found for node in nodes if (found := _named_model(node)) is not None]


def _named_model(node: Node) -> NamedModel | None:
    """The model that the value of a key names; None where it names none, or not by a plain text."""
    prefix = ""
    if node.is_flow or not node.filled:
        kinds = (("name", _BUNDLED), ("path", "./"), ("repository", ""))
        given = [(child, lead) for key, lead in kinds if (child := node.child(key)) is not None]
        if len(given) != 1 or node.child("file") is not None:
            return None
        node, prefix = given[0]
    name = node.plain
    if not name or "${" in name or "\n" in name or node.is_flow:
        return None
    if prefix == "./" and name.startswith(("/", ".", "~")):
        prefix = ""
    start = node.text.find(name, node.value_start, node.end)
    return NamedModel(f"{prefix}{name}", start, start + len(name))


def input_names(text: str) -> list[str]:
    """The inputs that a document uses, as far as they can be told from any text."""
    return _names((node.value for node in Outline(text, 0).nodes), "input")


@dataclass(frozen=True)
class _Field:
    """What a key of the schema may hold."""

    required: bool
    model: type[BaseModel] | None
    by_type: dict[str, type[BaseModel]]  # of a mapping of several kinds; the model is the first
    is_list: bool
    is_plain: bool
    takes_template: bool
    values: dict[str, str]  # with what each does, where that is said
    names: str  # of what kind its value is the id; empty where it is none
    sees: tuple[str, ...]  # sources that its expressions have beside others
    help: str
    entries: bool = False  # a mapping of any names, with mappings of the model below them

    def model_of(self, mapping: Node) -> type[BaseModel] | None:
        """The model of a mapping that stands there."""
        type_ = mapping.child("type") if self.by_type else None
        return self.model if type_ is None else self.by_type.get(type_.plain, self.model)


@cache
def _fields(model: type[BaseModel]) -> dict[str, _Field]:
    """The keys of a mapping by name, the likeliest first."""
    fields = {name: _field(name, info) for name, info in schema.keys_of(model).items()}

    def rank(name: str) -> tuple[bool, int]:
        is_common = name in _COMMON and model is not JsonSchemaKeywords
        index = _COMMON.index(name) if is_common else len(_COMMON)
        return not fields[name].required, index

    return {name: fields[name] for name in sorted(fields, key=rank)}


def _field(name: str, info: Any) -> _Field:
    found = list(schema.parts(info.annotation))
    # What a file holds is not written in its place.
    models = [each for each in schema.models_in(info.annotation) if each is not schema.Compose]
    holds = [each for each in schema.metadata(info) if isinstance(each, Holds)]
    models += [each.model() for each in holds]
    values = [str(value) for value in info.examples or ()]
    values += [v for part in found if get_origin(part) is Literal for v in part.__args__]
    values += ["true", "false"] if bool in found else []
    said = schema.metadata(info)
    is_template = any(isinstance(each, TemplateOr) for each in said)
    meanings = [each for each in said if isinstance(each, Meanings)]
    names = next((each.kind for each in said if isinstance(each, Names)), "")
    return _Field(
        required=info.is_required(),
        model=models[0] if models else None,
        by_type=schema.models_by_type(info.annotation),
        is_list=any(get_origin(part) is list for part in found),
        is_plain=not models or str in found or Any in found,
        # The name of a model is checked when it is rendered, so any text goes.
        takes_template=is_template or (Any in found and names != "job") or name == "model",
        values={value: "".join(each.of(value) for each in meanings) for value in values},
        names=names,
        sees=tuple(name for each in said if isinstance(each, Sees) for name in each.sources),
        help=info.description or "",
        entries=any(each.entries for each in holds),
    )


@dataclass(frozen=True)
class _Spot:
    """A place of a document, in the schema's terms.

    Attributes:
        model: of the mapping that may stand there, or None.
        field: of the innermost key that the schema knows on the way there, or None.
        key: that key's node.
        mapping, owner: the mapping that the key stands in: its node, and its model.
        is_direct: whether the place is the key's value or an element of it, not deeper in it.
        above: the spot of that mapping.
    """

    model: type[BaseModel] | None
    field: _Field | None = None
    key: Node | None = None
    mapping: Node | None = None
    owner: type[BaseModel] | None = None
    is_direct: bool = True
    above: _Spot | None = None

    def at(self, node: Node) -> _Spot:
        """The same for a mapping that stands there, which says what kind it is."""
        is_of_kinds = self.model is not None and self.field is not None and self.field.by_type
        if not is_of_kinds or self.field is None:
            return self
        return dataclasses.replace(self, model=self.field.model_of(node))

    @property
    def keys(self) -> Iterator[tuple[type[BaseModel], _Field, str]]:
        """The keys that it is below, the innermost first: whose each is, what it may hold, its
        name."""
        spot: _Spot | None = self
        while spot is not None:
            if spot.owner and spot.field and spot.key:
                yield spot.owner, spot.field, spot.key.key
            spot = spot.above


def _spot(path: tuple[Node, ...]) -> _Spot | None:
    """The spot that a path from the root leads to; None where the schema has nothing there."""
    spot = _Spot(schema.Compose)
    for above, each in itertools.pairwise(path):
        spot = spot.at(above)
        if spot.field is not None and spot.field.entries and each.kind == "key":
            entry = dataclasses.replace(spot.field, entries=False)
            spot = _Spot(entry.model, entry, each, above)
        elif each.kind == "element" and spot.field is not None and spot.field.is_list:
            continue
        elif spot.model is None:
            if spot.field is None or not spot.field.takes_template:
                return None
            spot = dataclasses.replace(spot, is_direct=False)
        elif each.kind == "key" and (field := _known(spot, each.key)) is not None:
            model = None if field.entries else field.model
            spot = _Spot(model, field, each, above, spot.model, above=spot)
        else:
            return None
    return spot.at(path[-1])


def _known(spot: _Spot, key: str) -> _Field | None:
    """What a key of a mapping may hold; that of ``type`` whatever the others are."""
    is_of_kinds = key == "type" and spot.field is not None and spot.field.by_type
    model = spot.field.model if is_of_kinds and spot.field is not None else spot.model
    return None if model is None else _fields(model).get(key)


_COMPONENTS = (ModelComponent, schema.FunctionComponent, schema.WorkflowComponent)


class _Completer:
    def __init__(
        self,
        text: str,
        cursor: int,
        models: ModelNames = lambda typed: (),
        functions: FunctionNames = lambda: (),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._text = text
        self._cursor = cursor
        self._models = models
        self._functions = functions
        self._environ = environ or {}
        self._outline = Outline(text, cursor)

    def complete(self) -> Completions:
        context = self._outline.context
        spot = _spot(context.path) if context is not None else None
        # A word that follows at once would run into what is accepted.
        is_before_word = re.match(r"[\w-]", self._text[self._cursor : self._cursor + 1])
        if context is None or spot is None or is_before_word:
            return Completions(self._cursor)
        begin = max(context.start, self._cursor - LONGEST_EXPRESSION)
        expression = _open_expression(self._text[begin : self._cursor])
        if expression is not None:
            return self._in_expression(context, spot, begin + expression)
        quoted = self._text[context.start : self._cursor].startswith(("'", '"'))
        start = context.start + quoted
        keys = () if quoted else self._keys(context, spot)
        return self._fitting(
            start, [*keys, *self._values(context, spot, self._text[start : self._cursor])]
        )

    def _fitting(self, start: int, items: Iterable[Completion]) -> Completions:
        """Those that go on from what is typed; models were chosen by that already."""
        typed = self._text[start : self._cursor].lower()
        fitting = [
            item
            for item in dict.fromkeys(items)
            if item.kind == "model" or item.text.lower().startswith(typed)
        ]
        return Completions(start, tuple(fitting)) if fitting else Completions(self._cursor)

    # Keys

    def _keys(self, context: CursorContext, spot: _Spot) -> Iterator[Completion]:
        following = self._text[self._cursor :].partition("\n")[0].strip()[:1]
        if not context.takes_key or spot.model is None or following not in ("", ":", "#", ",", "}"):
            return
        others = [node for node in context.node.children if node is not context.word]
        given = {node.key for node in others if node.kind == "key"}
        hidden = {*given, *schema.excluded(spot.model, given), *schema.without_effect(spot.model)}
        if any(key == "do" for _, _, key in spot.keys):
            hidden.add("depends_on")
        if issubclass(spot.model, GenerationParameters):
            hidden |= _parameters_beside(context, spot.model) | _not_of_task(context)
        is_list = context.node is spot.key and spot.field is not None and spot.field.is_list
        dash = "- " if is_list and not given and not context.node.is_flow else ""
        fields = _fields(spot.model)
        # Of one thing alone there is little need of a name; what it is decides what it has.
        is_one = spot.field is None or not spot.field.is_list
        is_of_kinds = spot.field is not None and bool(spot.field.by_type)
        names = sorted(
            fields, key=lambda name: (is_one and name == "id") - (is_of_kinds and name == "type")
        )
        for name in names:
            field = fields[name]
            if name not in hidden:
                colon = "" if following == ":" else ": " if field.is_plain else ":"
                yield Completion(f"{dash}{name}{colon}", "key", field.help)

    # Values

    def _values(self, context: CursorContext, spot: _Spot, typed: str) -> Iterator[Completion]:
        if not (spot.field and spot.key and spot.owner and spot.mapping and spot.is_direct):
            return
        others = [node for node in context.node.children if node is not context.word]
        if any(node.kind == "key" for node in others):
            return  # it is a mapping already
        for value, meaning in spot.field.values.items():
            yield Completion(value, "value", meaning or spot.field.help)
        for name in self._named(context, spot):
            yield Completion(name, spot.field.names)
        if spot.owner is ModelSource or (spot.owner is ModelComponent and spot.key.key == "model"):
            yield from self._model_names(spot.key.key, typed)
        elif spot.owner is ModelComponent and spot.key.key == "draft_model":
            yield from self._model_names("model", typed)

    def _named(self, context: CursorContext, spot: _Spot) -> Iterable[str]:
        """The ids that a key may name."""
        assert spot.field is not None and spot.key is not None and spot.mapping is not None
        root = self._outline.root
        match spot.field.names:
            case "component":
                return _ids(_listed(root, "component"))
            case "action":
                return self._actions(spot.mapping)
            case "function":
                return self._functions()
            case "workflow":
                return _ids(each for each in _listed(root, "workflow") if each not in context.path)
            case "job" if all(key != "do" for _, _, key in spot.keys):
                nodes = [
                    node
                    for element in spot.key.children
                    for node in (element, *element.children)
                    if spot.field.is_list and node not in (*context.path, context.word)
                ]
                listed = {node.plain for node in nodes}
                return [name for name in self._other_jobs(context) if name not in listed]
        return ()

    def _actions(self, job: Node) -> list[str]:
        """The ids of the actions that a job may call."""
        components = _listed(self._outline.root, "component")
        named = job.child("component")
        if named is not None and named.elements():
            components = [named]
        elif named is not None and named.filled:
            components = [each for each in components if _ids([each]) == [named.plain]]
        return [name for each in components for name in _ids(_listed(each, "action"))]

    def _other_jobs(self, context: CursorContext) -> list[str]:
        """The ids of the jobs of the same workflow that the cursor is not in."""
        workflows = _listed(self._outline.root, "workflow")
        workflows = [each for each in workflows if each in context.path]
        jobs = [job for workflow in workflows for job in _listed(workflow, "job")]
        return _ids(job for job in jobs if job not in context.path)

    def _model_names(self, key: str, typed: str) -> Iterator[Completion]:
        """Models, as the key of their long form wants them."""
        for name in self._models(f"{_BUNDLED}{typed}" if key == "name" else typed):
            is_path = name.startswith((".", "/", "~"))
            kind = "name" if name.startswith(_BUNDLED) else "path" if is_path else "repository"
            if kind == key == "repository":
                name = "/".join(name.split("/")[:2])  # without a file in it
            if key in ("model", kind):
                shown = name if key == "model" else name.removeprefix(_BUNDLED)
                yield Completion(shown, "model", _WHENCE[kind])

    # Expressions

    def _in_expression(self, context: CursorContext, spot: _Spot, start: int) -> Completions:
        """What may stand at the cursor in the expression that starts at an index."""
        inner = self._text[start + 2 : self._cursor]
        found = _PATH.match(inner)
        path, rest = (found[1], inner[found.end() :]) if found else ("", inner)
        items: Iterable[Completion] = ()
        typed = ""
        if word := _NOTE.search(inner):
            typed = word[1]
            items = (Completion(f"{name} ", "note", about) for name, about in NOTES.items())
        elif word := _TYPE.fullmatch(rest):
            typed, items = word[1], map(_type_completion, TYPE_HELP)
        elif path and (word := _AS.fullmatch(rest)):
            typed, items = word[1], [Completion("as ", "keyword", _AS_HELP)]
        elif not rest:
            bracket = path.rfind("[") + 1 if path.rfind("[") > path.rfind("]") else 0
            *names, typed = path[bracket:].lstrip().split(".")
            items = self._in_path(context, spot, names, start)
        return self._fitting(self._cursor - len(typed), items)

    def _in_path(
        self, context: CursorContext, spot: _Spot, names: list[str], start: int
    ) -> Iterator[Completion]:
        """What may follow the names at the start of a path."""
        found: Iterable[str] = ()
        kind = "job"
        if not names:
            kind, found = "source", self._sources(context, spot)
        elif names == ["input"]:
            workflows = _listed(self._outline.root, "workflow")
            jobs = [job for each in workflows for job in (each, *_listed(each, "job"))]
            inputs = [node for job in jobs if (node := job.child("input")) is not None]
            passed = [node.key for input_ in inputs for node in input_.children if node.key]
            kind, found = "input", [*_names(self._texts(start), "input"), *passed]
        elif names == ["env"]:
            kind = "variable"
            found = [*_names(self._texts(start), "env"), *sorted(self._environ)]
        elif names == ["jobs"]:
            output = "" if self._text.startswith(".", self._cursor) else ".output"
            found = [name + output for name in self._other_jobs(context)]
        elif names[0] == "jobs" and len(names) == 2:
            found = ["output"]
        about = SOURCES if kind == "source" else {}
        return (Completion(name, kind, about.get(name, "")) for name in found)

    # What stands there

    def explain(self) -> Explanation | None:
        context = self._outline.context
        spot = _spot(context.path) if context is not None else None
        if context is None or spot is None:
            return None
        text, word = self._text, context.word
        if word is not None and word.kind == "key":
            known = _known(spot, word.key) if self._cursor <= word.colon else None
            about = "" if known is None else known.help
            return self._explained(word.start, word.colon, "key", about)
        begin = max(context.start, self._cursor - LONGEST_EXPRESSION)
        expression = _open_expression(text[begin : self._cursor])
        if expression is not None:
            return self._explain_in_expression(begin + expression + 2)
        end = context.node.end
        value = context.node.plain
        if spot.field is None or not spot.is_direct or not value or "\n" in value:
            return None
        start = text.find(value, context.start, end)
        meaning = spot.field.values.get(value)
        about = "" if meaning is None else meaning or spot.field.help
        return self._explained(start, start + len(value), "value", about)

    def _explained(self, start: int, end: int, kind: str, about: str) -> Explanation | None:
        name = self._text[start:end].strip().strip("\"'")
        return Explanation(start, end, name, kind, about) if about else None

    def _explain_in_expression(self, begin: int) -> Explanation | None:
        """What the word at the cursor is in the expression whose text begins at an index."""
        text, start = self._text, self._cursor
        while start > begin and _WORD.fullmatch(text[start - 1]):
            start -= 1
        word = _WORD.match(text, start)
        end = word.end() if word else start
        inner = text[begin:start]
        found = _PATH.match(inner)
        path, rest = (found[1], inner[found.end() :]) if found else ("", inner)
        name = text[start:end]
        if path and _TYPE.fullmatch(rest):
            return self._explained(start, end, "type", TYPE_HELP.get(name, ""))
        bracket = path.rfind("[") + 1 if path.rfind("[") > path.rfind("]") else 0
        if not rest and not path[bracket:].strip():
            return self._explained(start, end, "source", SOURCES.get(name, ""))
        return None

    def _sources(self, context: CursorContext, spot: _Spot) -> list[str]:
        """The sources that the checker knows there, the likeliest first."""
        if not (spot.field and spot.key and spot.field.takes_template):
            return []
        local = ["item", "index"] if _is_in_operator(context.path, spot.key) else []
        if spot.key.key == "input" and spot.mapping and spot.mapping.child("repeat_count"):
            local.append("index")
        for owner, field, _ in spot.keys:
            local += field.sees
            if issubclass(owner, _COMPONENTS):
                return list(dict.fromkeys((*local, "input", "env", "context")))
        if any(owner is schema.Controller for owner, _, _ in spot.keys):
            return ["env"]
        jobs = ["jobs"] if self._other_jobs(context) else []
        return list(dict.fromkeys((*local, "input", *jobs, "env", "context")))

    def _texts(self, expression: int) -> Iterator[str]:
        """The values of the document without the expression that is being written."""
        for node in self._outline.nodes:
            if node.value_start <= expression < node.end:
                yield self._text[node.value_start : expression]
                end = ExpressionEnds(self._text).closed_at(expression, node.end) or self._cursor
                yield self._text[end : node.end]
            else:
                yield node.value


def _open_expression(before: str) -> int | None:
    """Where the innermost expression begins that is not closed, or None."""
    found, ends = None, ExpressionEnds(before)
    start = before.find("${")
    while start >= 0:
        end = start + 2
        slashes = start - len(before[:start].rstrip("\\"))
        if slashes % 2 == 0:
            closed = ends.closed_at(start, len(before))
            found = start if closed is None else found
            end = closed or end
        start = before.find("${", end)
    return found


def _type_completion(name: str) -> Completion:
    about = TYPE_HELP[name]
    try:
        check_type(Type(name))
    except ConversionError:
        name += "/"  # what stands behind the slash is not optional
    return Completion(name, "type", about)


def _is_in_operator(path: tuple[Node, ...], template: Node) -> bool:
    """Whether a place in a template stands inside ``*`` or ``|``, which know ``item``."""
    operators = ("*", "|")
    inside = path[path.index(template) :]
    for above, each in itertools.pairwise(inside):
        if each.key == "where" and above.key in operators:
            return True
        if each.key not in operators and any(above.child(name) for name in operators):
            return True
    return False


def _parameters_beside(context: CursorContext, model: type[BaseModel]) -> set[str]:
    """The generation parameters that would be given twice if they were given there."""
    holder = context.path[-2] if model is GenerationParameters else context.node
    levels = [holder, *_listed(holder, "action")]
    levels += [
        above
        for above, each in itertools.pairwise(context.path)
        if each.key in ("action", "actions")
    ]
    groups = [*levels, *(params for each in levels if (params := each.child("params")))]
    nodes = [node for group in groups for node in group.children if node is not context.word]
    return {node.key for node in nodes}.intersection(PARAMETER_NAMES)


def _not_of_task(context: CursorContext) -> set[str]:
    """The keys that have no meaning for the task of the component around the cursor."""
    tasks = [task for each in reversed(context.path) if (task := each.child("task"))]
    return set(schema.NOT_OF_TASK.get(tasks[0].plain or "", ())) if tasks else set()


def _listed(mapping: Node, key: str) -> list[Node]:
    """The mappings that a key and its plural hold."""
    found = [mapping.child(key), mapping.child(f"{key}s")]
    return [element for node in found if node is not None for element in node.elements()]


def _ids(mappings: Iterable[Node]) -> list[str]:
    found = [mapping.child("id") for mapping in mappings]
    return [node.plain for node in found if node is not None and node.plain]


def _names(texts: Iterable[str], source: str) -> list[str]:
    """The names that expressions take from a source, each once."""
    found = (each for text in texts if "${" in text for each in _named(text))
    return list(dict.fromkeys(name for of, name in found if of == source))


@lru_cache(maxsize=1024)
def _named(text: str) -> tuple[tuple[str, str], ...]:
    """Source and first name of each expression in a text."""
    found: list[tuple[str, str]] = []
    ends = ExpressionEnds(text)
    start = text.find("${")
    while start >= 0:
        end = ends.closed_at(start, len(text)) or start + 2
        for reference in references(parse_template(text[start:end])):
            if reference.expression.keys:
                found.append((reference.expression.source, reference.expression.keys[0]))
        start = text.find("${", end)
    return tuple(found)
