"""What the Python source says to people: its strings and f-strings as templates.

Nothing is marked in the source. A string is a message where it has words; what has others than
people's (docstrings, logs, patterns, markup, errors of programmers) is left out by where it stands.
Of an f-string the parts between braces are placeholders ``{0}``, ``{1}``, …; conditional parts of
strings make a template for each case, also where a name stands for one, and
``'' if count == 1 else 's'`` a plural.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from inspect import cleandoc
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "modelcompose_jupyter"

# What is for programs, for maintainers, or for models.
_LEFT_OUT = {
    "diagram/svg.py",
    "extension/page.py",
    "models/native/build.py",
    "models/tokenization/tool_calls.py",
    "models/tokenization/tool_prompt.py",
    "models/tokenization/thinking.py",
    "models/tokenization/tokenizer_limits.py",
    "models/weights/tokenizer_snapshot.py",
    "redaction.py",
    "server/logs.py",
    "server/metrics.py",
    "server/openapi.py",
    "server/openai_schemas.py",
    "server/schemas.py",
    "tools/docstrings.py",
    "tools/user_traceback.py",
    "translation.py",
    "widgets/esm.py",
    "widgets/markdown.py",
    "widgets/update_thread.py",
}
_PROGRAMMERS = {
    "AssertionError",
    "AttributeError",
    "ImportError",
    "KeyError",
    "NotImplementedError",
    "RuntimeError",
    "TypeError",
    "compile",
    "getLogger",
    "import_module",
    "Float",
    "Integer",
    "Unicode",
    "Bool",
    "Route",
}
_LOGS = {"debug", "info", "warning", "error", "exception", "log"}
_LOGGERS = {"log", "_log", "logger", "_logger", "logging"}

# Where one word alone is a label, and not a name.
_SURFACES = (
    "callable.py",
    "cell_output.py",
    "cli/",
    "comparing/",
    "dashboard/page_view.py",
    "dashboard/login.py",
    "dashboard/page_notebook.py",
    "diagram/graph.py",
    "diagram/states.py",
    "grid.py",
    "history.py",
    "notebook/table.py",
    "progress.py",
    "server/hub_page.py",
    "thought_html.py",
    "token_html.py",
    "up/lifecycle.py",
    "widgets/",
)
_NAMES = ("document/hints.py",)
"""Where words alone are names of keys."""
_KEYS = re.compile(r"[\w -]+")
_STATES = (
    "alive",
    "arguments",
    "asks",
    "branch",
    "called",
    "calls",
    "default",
    "cancelled",
    "completed",
    "done",
    "error",
    "failed",
    "ended",
    "fails",
    "generated",
    "host",
    "hint",
    "idle",
    "input",
    "interrupted",
    "job",
    "loaded",
    "loading",
    "memory",
    "model",
    "models",
    "or",
    "otherwise",
    "page",
    "pending",
    "processing",
    "queued",
    "recovered",
    "result",
    "run",
    "running",
    "runs",
    "seed",
    "skipped",
    "state",
    "started",
    "stopped",
    "text",
    "tokens",
    "type",
    "waiting",
    "waits",
    "warning",
    "workflow",
)
"""Words for states of things, of edges, and heads of columns, which are values elsewhere."""
_COMPLETED = ("flag", "key", "keyword", "note", "value")
"""What is completed in an editor, beside what is above."""
_SYSTEM = ("no such file or directory", "permission denied", "is a directory")
"""What systems say, as far as people meet it often."""
_ORDINALS = ("st", "nd", "rd", "th")
_INPUTS = (
    "Prompt",
    "Text",
    "Message",
    "Messages",
    "System",
    "Seed",
    "Temperature",
    "Top k",
    "Top p",
    "Min p",
    "Typical p",
    "Max output length",
    "Max output length (tokens)",
    "Min output length (tokens)",
    "Max input length (tokens)",
    "Repetition penalty",
    "No repeat ngram size",
    "Length penalty",
    "Num beams",
    "Num return sequences",
    "Early stopping",
    "Stop sequences",
    "Do sample",
    "Include prompt",
    "Thinking",
    "Thinking budget",
    "Model",
)
"""Names of inputs as forms have them: of those that are parameters of all models."""

_SENTENCE = re.compile(r"[A-Za-z}][,;:'’]? ['“(]?[A-Za-z{]")
_WORD = re.compile(r"\b[A-Za-z][a-z]+\b")
_LABEL = re.compile(r"[A-Z][a-z]+…?")
_FORMAT = re.compile(r"(?<![${\\])\{([a-z_]*)\}(?!\})")
_NOT_WORDS = (
    r"^\s*<",
    r"<(div|p)>",
    r"<div",
    r"[a-z-]+:[^\s;]+;",
    r"text-decoration",  # markup, styles
    r"%s",
    r"\\[wsb.]",
    r"\(\.\*\)",
    r"\[\^;",
    r"\{\d+,\d+\}",
    r"regex parse error",
    r"^start: CHOICE",
    r"^ *-H ",
    r"^curl ",
    r"^python -m ",
    r"^from \S+ import ",
    r"^pip install",
    r"^%compose \{0\}",
    r"charset=",
    r"'self'|default-src",
    r"^[a-z]+-src |^(base-uri|frame-ancestors) ",
    r"^(Location|Host)$",
    r"^%%compose \w+$|^  (type|task|text|messages): ",
    r"^Bearer ",
    r"^X-Task",
    r"^(event|id|retry): ",
    r"^: still",
    r"websocket_ping",
    r"^[a-z_]+=",
    r"^[#.]\w+",
    r"^flowchart ",
    r"^JupyterLab Light$",
    r"^\$\{input\.prompt as",
)
"""What markup, commands, patterns, headers and formats have."""
_MARKUP = re.compile("|".join(_NOT_WORDS))


@dataclass
class Message:
    """A template, where it stands, and what its placeholders are."""

    text: str
    plural: str | None = None
    has_holes: bool = False
    places: list[tuple[str, int]] = field(default_factory=list)
    holes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Hole:
    source: str


class _Count:
    """What a plural is made of: its form for one, or for others."""

    def __init__(self, one: str, many: str) -> None:
        self.one, self.many = one, many


_Part = str | _Hole | _Count
_MOST_CASES = 12
_MANY = _Hole("…")
"""Of a message in more cases than that, a part that is a message of its own."""


def messages() -> Iterator[Message]:
    """All messages of the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name not in _LEFT_OUT and not name.startswith(("bundled/", "labextension/")):
            yield from _of_file(path, takes_labels=name.startswith(_SURFACES))
    yield from (Message(each) for each in (*_STATES, *_COMPLETED, *_INPUTS, *_SYSTEM))
    yield from (Message(f"{{0}}{each}", has_holes=True, holes=["n"]) for each in _ORDINALS)
    yield from (Message(f"{each} {{0}}", has_holes=True, holes=["value"]) for each in _INPUTS)


def _of_file(path: Path, *, takes_labels: bool) -> Iterator[Message]:
    tree = _Named().visit(ast.parse(path.read_text(encoding="utf-8")))
    where = path.relative_to(ROOT).as_posix()
    name = path.relative_to(PACKAGE).as_posix()
    # Of documents and their formats alone fields are explained to people.
    explained = name.startswith("document/") or name == "notebook/magics.py"
    for node in _strings(tree, _PROGRAMMERS | (set() if explained else {"Field"})):
        for parts in _cases(node):
            message = _message(parts)
            if message is None or (name in _NAMES and _KEYS.fullmatch(message.text)):
                continue
            if takes_labels or not _LABEL.fullmatch(message.text):
                message.places.append((where, node.lineno))
                yield message


class _Named(ast.NodeTransformer):
    """Puts conditional strings in place of the names that a function gives them for an f-string of
    its own, so that messages are whole."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self.generic_visit(self._whole(node))

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self.generic_visit(self._whole(node))

    def _whole(self, node: ast.AST) -> ast.AST:
        inner = [each for each in ast.walk(node) if isinstance(each, ast.Name)]
        stored = [each.id for each in inner if isinstance(each.ctx, ast.Store)]
        loaded = [each.id for each in inner if isinstance(each.ctx, ast.Load)]
        shown = [
            each.value.id
            for each in ast.walk(node)
            if isinstance(each, ast.FormattedValue) and isinstance(each.value, ast.Name)
        ]
        named = {
            each.targets[0].id: each
            for each in ast.walk(node)
            if isinstance(each, ast.Assign)
            and isinstance(each.targets[0], ast.Name)
            and isinstance(each.value, ast.IfExp)
            and _is_string(each.value)
            and _count(each.value) is None
        }
        whole = {
            name: assigned
            for name, assigned in named.items()
            if stored.count(name) == 1 and 0 < loaded.count(name) == shown.count(name)
        }
        values = {name: assigned.value for name, assigned in whole.items()}
        for each in ast.walk(node):
            if isinstance(each, ast.FormattedValue) and isinstance(each.value, ast.Name):
                each.value = values.get(each.value.id, each.value)
        for assigned in whole.values():
            assigned.value = ast.copy_location(ast.Constant(""), assigned)
        return node


def _strings(tree: ast.AST, skipped: set[str]) -> Iterator[ast.expr]:
    """The largest expressions that are strings, where people's words may stand."""
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if _is_left_out(node, skipped):
            continue
        if isinstance(node, ast.expr) and _is_string(node):
            yield node
            inner = [each for each in ast.walk(node) if isinstance(each, ast.FormattedValue)]
            is_whole = not any(part == _MANY for case in _cases(node) for part in case)
            todo += [each for each in inner if not (is_whole and _is_string(each.value))]
            continue
        children = list(ast.iter_child_nodes(node))
        body = getattr(node, "body", None)
        if isinstance(body, list):  # docstrings, and strings that stand for comments
            said = [
                e for e in body if isinstance(e, ast.Expr) and isinstance(e.value, ast.Constant)
            ]
            command = [e for e in said if _is_command(node) and e is body[0]]
            children = [each for each in children if each not in said]
            for each in command:
                yield ast.copy_location(ast.Constant(cleandoc(each.value.value)), each)
        todo += reversed(children)


def _is_command(node: ast.AST) -> bool:
    """Whether a function's docstring is the help of a command of the terminal."""
    decorators = getattr(node, "decorator_list", [])
    return any(
        ast.unparse(each).startswith(("main.command", "click.group", "click.command"))
        for each in decorators
    )


def _is_left_out(node: ast.AST, skipped: set[str]) -> bool:
    if isinstance(node, ast.Raise):
        return isinstance(node.exc, ast.Call) and _name(node.exc.func) in skipped
    if isinstance(node, ast.Call):
        owner = _name(node.func.value) if isinstance(node.func, ast.Attribute) else ""
        return _name(node.func) in skipped or (_name(node.func) in _LOGS and owner in _LOGGERS)
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return any(_name(each) in ("__all__", "_esm", "_css") for each in targets)
    return isinstance(node, ast.Assert | ast.arg)


def _name(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _is_string(node: ast.expr) -> bool:
    if isinstance(node, ast.JoinedStr):
        return True
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str)
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.Add) and (_is_string(node.left) or _is_string(node.right))
    if isinstance(node, ast.IfExp):
        return _is_string(node.body) and _is_string(node.orelse)
    return False


def _cases(node: ast.expr) -> list[list[_Part]]:
    """What an expression may come to, as parts of text and placeholders."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [_parts(node.value)]
    if isinstance(node, ast.JoinedStr):
        return _joined(
            [
                [[str(each.value)]] if isinstance(each, ast.Constant) else _cases(each)
                for each in node.values
            ]
        )
    if isinstance(node, ast.FormattedValue):
        return _cases(node.value) if _is_string(node.value) else [[_Hole(ast.unparse(node.value))]]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _joined([_cases(node.left), _cases(node.right)])
    if isinstance(node, ast.IfExp) and _is_string(node):
        if (count := _count(node)) is not None:
            return [[count]]
        return [*_cases(node.body), *_cases(node.orelse)]
    return [[_Hole(ast.unparse(node))]]


def _parts(text: str) -> list[_Part]:
    """The parts of what ``format`` is called of: ``{}`` and ``{name}`` are placeholders."""
    pieces: list[_Part] = list(_FORMAT.split(text))
    if len(pieces) == 1:
        return [text]
    return [
        _Hole(str(each)) if index % 2 else each
        for index, each in enumerate(pieces)
        if each or index % 2
    ]


def _joined(each: list[list[list[_Part]]]) -> list[list[_Part]]:
    total = 1
    for cases in each:
        total *= len(cases)
    if total > _MOST_CASES:  # conditional parts are placeholders, and messages of their own
        each = [cases if len(cases) == 1 else [[_MANY]] for cases in each]
    return [[part for case in chosen for part in case] for chosen in product(*each)]


def _count(node: ast.IfExp) -> _Count | None:
    """A plural: ``'' if count == 1 else 's'``, or the other way around."""
    ends = (node.body, node.orelse)
    if not all(isinstance(each, ast.Constant) and " " not in str(each.value) for each in ends):
        return None
    body, orelse = (str(each.value) for each in ends if isinstance(each, ast.Constant))
    test = ast.unparse(node.test)
    if re.search(r"== 1$", test) or re.search(r"<= 1$", test):
        return _Count(body, orelse)
    return _Count(orelse, body) if re.search(r"(!= 1|> 1)$", test) else None


def _message(parts: list[_Part]) -> Message | None:
    has_holes = any(isinstance(each, _Hole) for each in parts)
    counts = any(isinstance(each, _Count) for each in parts)
    one, holes = _text(parts, has_holes, is_one=True)
    many, _ = _text(parts, has_holes, is_one=False)
    if not is_for_people(one):
        return None
    return Message(one, many if counts else None, has_holes, holes=holes)


def _text(parts: list[_Part], has_holes: bool, *, is_one: bool) -> tuple[str, list[str]]:
    text, holes = "", list[str]()
    for each in parts:
        if isinstance(each, _Hole):
            text += f"{{{len(holes)}}}"
            holes.append(each.source)
        else:
            part = each if isinstance(each, str) else each.one if is_one else each.many
            text += part.replace("{", "{{").replace("}", "}}") if has_holes else part
    return text, holes


def is_for_people(text: str) -> bool:
    """Whether a string has words that people read."""
    bare = re.sub(r"\{\d+\}", "{}", text)
    if _MARKUP.search(text) or not _WORD.search(bare):
        return bool(re.fullmatch(r"\{0\} (s|ms|min \{1\} s|h \{1\} min)", text))
    return bool(_SENTENCE.search(bare) or _LABEL.fullmatch(text.strip()))
