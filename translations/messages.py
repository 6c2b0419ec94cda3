"""Keeps the catalogs of translations: ``python translations/messages.py [update | check]``.

``update`` brings each language's ``.po`` up to what the source says, keeping what is translated,
and makes from it what is read: the ``.json`` of the package and of JupyterLab, the ``.mo`` of
click.
``check`` changes nothing, says what is wrong, and fails where something is.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

sys.path.insert(0, str(Path(__file__).parent))
from source_messages import PACKAGE, ROOT, Message, messages

from modelcompose_jupyter.translation import DOMAIN, LOCALES
from modelcompose_jupyter.widgets.esm import messages as script_messages

LANGUAGES = {"ko": "ko_KR"}
"""The languages, and what JupyterLab calls their folders."""
NO_DATE = datetime(2000, 1, 1, tzinfo=UTC)
"""What is made of the same catalog is the same on each day."""
GLOSSARY = Path(__file__).parent / "glossary-ko.tsv"

_CALLS = re.compile(
    r"""\btrans\.(?:__|_n)\(\s*(['"])((?:[^\\\n]|\\.)*?)\1(?:,\s*(['"])((?:[^\\\n]|\\.)*?)\3)?"""
)
_IN_PAGES = re.compile(r"\{%-?\s*trans\s*-?%\}(.*?)\{%-?\s*endtrans\s*-?%\}", re.DOTALL)
_CLICK = (
    "Usage:",
    "Options",
    "Commands",
    "Arguments",
    "Show this message and exit.",
    "Show the version and exit.",
    "Error: {message}",
    "Error",
    "Aborted!",
    "default: {default}",
    "required",
    "Try '{command} {option}' for help.",
    "No such command {name!r}.",
    "No such option: {name}",
    "No such option {name!r}.",
    "Missing command.",
    "Missing {param_type}",
    "Missing parameter: {param_name}",
    "Missing argument",
    "Missing option",
    "Missing parameter",
    "Invalid value: {message}",
    "Invalid value for {param_hint}: {message}",
    "{name} {filename!r} does not exist.",
    "{value!r} is not a valid {number_type}.",
    "{value} is not in the range {range}.",
    "Option {name!r} does not take a value.",
    "file",
    "directory",
    "path",
    "{name} {filename!r} is a directory.",
    "{name} {filename!r} is not readable.",
)
"""What click says for itself, whichever of its versions there is."""
_CLICK_COUNTS = {
    "Did you mean {possibility}?": "(Did you mean one of: {possibilities}?)",
    "Got unexpected extra argument ({args})": "Got unexpected extra arguments ({args})",
    "Option {name!r} requires an argument.": "Option {name!r} requires {nargs} arguments.",
    "{value!r} is not {choice}.": "{value!r} is not one of {choices}.",
}


def said() -> Iterator[Message]:
    """All that the package says, by what sees it first."""
    scripts = [*sorted(PACKAGE.glob("widgets/*.js")), *sorted(PACKAGE.glob("dashboard/*.js"))]
    for path in scripts:
        for one, many in script_messages(path.read_text(encoding="utf-8")):
            yield Message(one, many, places=[(_relative(path), 0)])
    for path in sorted((ROOT / "labextension" / "src").glob("*.ts")):
        if not path.name.endswith(".test.ts"):
            for found in _CALLS.finditer(path.read_text(encoding="utf-8")):
                one, many = (each and _unescaped(each) for each in found.group(2, 4))
                yield Message(one, many, places=[(_relative(path), 0)])
    schema = ROOT / "labextension" / "schema" / "plugin.json"
    for text in _titles(json.loads(schema.read_text(encoding="utf-8"))):
        yield Message(text, places=[(_relative(schema), 0)])
    yield from messages()
    yield from (Message(each, places=[("click", 0)]) for each in _CLICK)
    for one, many in _CLICK_COUNTS.items():
        yield Message(one, many, places=[("click", 0)])


def _titles(schema: dict) -> Iterator[str]:
    """What the extension's settings are called, and what is said of them and of its templates."""
    todo = [schema]
    for each in todo:
        yield from (each[key] for key in ("title", "description") if key in each)
        todo += [*each.get("properties", {}).values(), *filter(None, [each.get("items")])]
    for each in schema["properties"]["templates"]["default"]:
        yield from (each["name"], each["description"])


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: {"n": "\n"}.get(found[1], found[1]), text)


def _relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def template() -> Catalog:
    """All messages, each once."""
    catalog = Catalog(domain=DOMAIN, fuzzy=False)
    for each in said():
        known = catalog.get(each.text)
        plural = each.plural if known is None or isinstance(known.id, str) else known.id[1]
        flags = ["python-brace-format"] if each.has_holes else []
        notes = [f"{number} = {hole}" for number, hole in enumerate(each.holes)]
        places = [(file, None) for file, _ in each.places]
        added = catalog.get(each.text)
        if added is not None:
            added.locations += [place for place in places if place not in added.locations]
            if plural and isinstance(added.id, str):
                added.id = (each.text, plural)
                added.string = ("",)
        else:
            catalog.add(
                (each.text, plural) if plural else each.text,
                locations=places,
                flags=flags,
                auto_comments=notes if not known else [],
            )
    return catalog


def updated(language: str) -> Catalog:
    """A language's catalog as the source is now, with the translations that it has."""
    path = po_path(language)
    before = read_po(path.open("rb"), locale=language) if path.is_file() else Catalog(language)
    catalog = template()
    catalog.locale = language
    catalog.header_comment = (
        f"# Messages of modelcompose-jupyter: {language}. See docs/translation.md."
    )
    for each in catalog:
        known = before.get(_id(each)) if each.id else None
        if known is not None and known.string:
            forms = [known.string] if isinstance(known.string, str) else list(known.string)
            each.string = forms[0] if isinstance(each.id, str) else tuple(forms)
    return catalog


def _id(message) -> str:
    return message.id if isinstance(message.id, str) else message.id[0]


def _forms(message) -> list[str]:
    text = message.string or ""
    return [text] if isinstance(text, str) else list(text)


def po_path(language: str) -> Path:
    return LOCALES / language / "LC_MESSAGES" / f"{DOMAIN}.po"


def files(language: str) -> dict[Path, bytes]:
    """What a language's files are to be."""
    catalog = updated(language)
    po = io.BytesIO()
    write_po(po, catalog, width=100, include_lineno=False, omit_header=False)
    text = re.sub(
        rb'"(POT-Creation-Date|PO-Revision-Date|Last-Translator|Language-Team|Project-Id-Version|'
        rb"Report-Msgid-Bugs-To|Generated-By): .*\n",
        b"",
        po.getvalue(),
    )
    data: dict[str, object] = {
        "": {
            "domain": DOMAIN,
            "language": LANGUAGES[language].replace("_", "-"),
            "plural_forms": catalog.plural_forms,
        }
    }
    clicks = Catalog(language, domain="click", creation_date=NO_DATE, revision_date=NO_DATE)
    for each in catalog:
        if each.id and all(_forms(each)):
            for id in [each.id] if isinstance(each.id, str) else each.id:
                data[id] = _forms(each)
            if ("click", None) in each.locations:
                clicks.add(each.id, each.string)
    mo = io.BytesIO()
    write_mo(mo, clicks)
    folder = LOCALES / LANGUAGES[language] / "LC_MESSAGES"
    return {
        po_path(language): text,
        folder / f"{DOMAIN}.json": json.dumps(data, ensure_ascii=False, indent=0).encode() + b"\n",
        LOCALES / language / "LC_MESSAGES" / "click.mo": mo.getvalue(),
    }


def problems(language: str) -> Iterator[str]:
    """What is wrong with a language's catalog."""
    terms = [line.split("\t") for line in GLOSSARY.read_text(encoding="utf-8").splitlines()]
    for each in updated(language):
        if not each.id:
            continue
        forms = _forms(each)
        if not all(forms):
            yield f"not translated: {_id(each)}"
            continue
        for form in forms:
            wanted, has = _holes(_id(each)), _holes(form)
            if has - wanted or (wanted - has and not _may_leave_out(each)):
                yield f"placeholders differ: {_id(each)} | {form}"
        for english, korean in terms if language == "ko" else ():
            if re.search(rf"\b{english}s?(?![A-Za-z])", _prose(" ".join(forms))):
                yield f"'{english}' is '{korean}': {' '.join(forms)}"


def _prose(text: str) -> str:
    """A text without what is written in a document, in code or in a terminal, or named as there."""
    quoted = r"'[^']*'|\"[^\"]*\"|`[^`]*`|\{[^}]*\}"
    return re.sub(rf"{quoted}|\S*[-=.:(/_$<%|]\S*|\w+ 유형|%compose \w+|task \S+", " ", text)


def _holes(text: str) -> set[str]:
    return set(re.findall(r"(?<!\{)\{(\w+)(?:![rs])?\}", text))


def _may_leave_out(message) -> bool:
    """Whether a placeholder is an ending of English, as ``s`` is, that other languages lack."""
    return any("'s'" in note or "plural" in note for note in message.auto_comments)


def main(command: str) -> int:
    wrong = 0
    for language in LANGUAGES:
        if command == "update":
            for path, content in files(language).items():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        else:
            for path, content in files(language).items():
                if not path.is_file() or path.read_bytes() != content:
                    print(f"{_relative(path)} is not up to date: make messages", file=sys.stderr)
                    wrong += 1
        for problem in problems(language):
            print(problem, file=sys.stderr)
            wrong += 1
    return int(bool(wrong) and command == "check")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2] or ["check"]))
