"""Reading YAML: values, positions and bounds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelcompose_jupyter.document import load_document
from modelcompose_jupyter.document.reader import MAX_CHARACTERS, MAX_DEPTH, read
from modelcompose_jupyter.errors import DocumentError

from .conftest import HEAD

B_TWICE = "key 'b' stands twice in one mapping, on line 2 and line 3"


def data(text: str):
    return read(text + "\n").data


def problem(source, **options):
    with pytest.raises(DocumentError) as caught:
        read(source, **options)
    return caught.value.problems[0]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ('${input.a | "b: ${input.c}"}', '${input.a | "b: ${input.c}"}'),
        ('say ${input.a | "b: # c"} now # comment', 'say ${input.a | "b: # c"} now'),
        ("${input.a | {x: 1, y}} # comment", "${input.a | {x: 1, y}}"),
        ("${input.a}: not a key", None),
        ("${input.a} #comment", "${input.a}"),
        ("${input.a}#text", "${input.a}#text"),
        ("a ${input.a\n  | x: y\n  } b", "a ${input.a | x: y } b"),
        ("one\n  two ${input.a}\n\n  three", "one two ${input.a}\nthree"),
        ("'${input.a | ''b''}'", "${input.a | 'b'}"),
        ('"${input.a}\\n"', "${input.a}\n"),
        ("|\n  ### a: ${input.a}\n\n  b\n", "### a: ${input.a}\n\nb\n"),
        (">\n  a\n  ${input.a}\n", "a ${input.a}\n"),
        ("[${input.a | 1, 2}, b]", ["${input.a | 1, 2}", "b"]),
        (
            "{a: ${input.x | 1.0}, b: x ${input.y} z}",
            {"a": "${input.x | 1.0}", "b": "x ${input.y} z"},
        ),
        ("[a ${input.a | [1, {}]}]", ["a ${input.a | [1, {}]}"]),
        ("${input.a", "${input.a"),
        ("$", "$"),
        ("${HOME:-x} y", "${HOME:-x} y"),
    ],
)
def test_an_expression_needs_no_quotes(written, value):
    if value is None:
        assert "mapping values" in problem(f"key: {written}\n").message
    else:
        assert data(f"key: {written}") == {"key": value}


def test_an_expression_that_is_never_closed_ends_with_its_line():
    assert data('a: ${input.a\nb: ${input.b | "c: d"}') == {
        "a": "${input.a",
        "b": '${input.b | "c: d"}',
    }


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e3", 1000.0),
        ("010", 10),
        ("0o10", 8),
        ("0xff", 255),
        ("-1", -1),
        ("+.5", 0.5),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2001-01-01", "2001-01-01"),
        ("~", None),
        ("", None),
        ("true", True),
        ("False", False),
        ("TRUE", True),
        ("tRUE", "tRUE"),
        ("yes", "yes"),
        ("NO", "NO"),
        ("Off", "Off"),
        ("y", "y"),
        (".INF", float("inf")),
        ("-.inf", float("-inf")),
        ("1.", 1.0),
        ("-0o7", "-0o7"),
        ("! 1", "1"),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("<<", "<<"),
        ('"\\ud83d\\ude00"', "😀"),
    ],
)
def test_plain_values_are_those_of_yaml_1_2(written, value):
    assert data(f"key: {written}") == {"key": value}


TABBED = """\
component:\t# what it calls
\t
  type:\tmodel\t
  task:\t\ttext-generation # a tab\tin a comment
 \t# a tab before one
  params:\t{\ttemperature\t:\t0.5\t,
\t\ttop_k:\t5
\t}\t
  text: >-\t# folded
    one\ttwo\t
    \tthree
\t
  stop_sequences:
  -\ta\tb
  -\t"c\td"
  - e\t
    f
\t\t
    \tg
  x: ${input.a\t|\t"b: c"}\t
"""


def test_tabs_separate_wherever_they_do_not_indent():
    assert data(TABBED) == {
        "component": {
            "type": "model",
            "task": "text-generation",
            "params": {"temperature": 0.5, "top_k": 5},
            "text": "one\ttwo\t\n\tthree",
            "stop_sequences": ["a\tb", "c\td", "e f\ng"],
            "x": '${input.a\t|\t"b: c"}',
        }
    }
    assert data(TABBED.replace("\n", "\r\n")) == data(TABBED)
    assert data(TABBED.replace("\n", "\r")) == data(TABBED)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a:\n\tb: 1\n", (2, 1)),
        ("a:\n \tb: 1\n", (2, 2)),
        ("a:\n  b: 1\n  \tc: 2\n", (3, 3)),
        ("a:\n  b: 1\n\tc: 2\n", (3, 1)),
        ("\ta: 1\n", (1, 1)),
        ("a:\n\tb\n", (2, 1)),
        ("a: b\n\tc\n", (2, 1)),
        ("a:\n\t- b\n", (2, 1)),
        ("a:\n  - b\n  \t- c\n", (3, 3)),
        ("a:\n  -\tb: 1\n", (2, 4)),
        ("a:\n  -\t- b\n", (2, 4)),
        ("? a\n\t: b\n", (2, 1)),
        ("a: |\n\tb\n", (2, 1)),
        ("a\n\tb: c\n", (2, 1)),
        ("a: b\n \tc: d\n", (2, 2)),
        ("a: |\n  b\n\tc\n", (3, 1)),
        ("a:\n\t${input.a}: b\n", (2, 1)),
    ],
)
def test_tabs_do_not_indent(text, place):
    found = problem(text)
    assert (found.where.line, found.where.column) == place
    assert found.hint == "YAML is indented with spaces, not tabs."


def test_other_errors_say_nothing_of_tabs():
    for text in ("a:\tb: c\n", "{\n\t'a': 1\n\t'b': 2\n}", "[\n\t@a\n]"):
        assert "tabs" not in (problem(text).hint or "")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("a\x85b\u2028c\u2029d", "a\x85b\u2028c\u2029d"),
        ("'a\x85 b\u2028'", "a\x85 b\u2028"),
        ('"a\u2028 \u2029b"', "a\u2028 \u2029b"),
        ("|\n  a\u2028b\n  c\x85\n", "a\u2028b\nc\x85\n"),
        ("b # c\u2028d: e", "b"),
        ("${input.a | b\u2028\n  c}", "${input.a | b\u2028 c}"),
        ('"\x7f\x80\x9f\ufffe"', "\x7f\x80\x9f\ufffe"),
        ("'\x7f\ufeff'", "\x7f\ufeff"),
        ('"\\/\\e\\N\\_\\L\\P\\\t\\U0001f600"', "/\x1b\x85\xa0\u2028\u2029\t😀"),
        ('"a \\\n\t\n\t b"', "a \nb"),
        ("{a: what?, b?: c, d: ?e, f: [-1, -g, :h, ::i]}",
         {"a": "what?", "b?": "c", "d": "?e", "f": [-1, "-g", ":h", "::i"]}),
        ("{a :b, c: d:e}", {"a :b": None, "c": "d:e"}),
        ('{"a":1,"b" :[],\'c\'\n:"d","e"\n\n:{"f":null}}',
         {"a": 1, "b": [], "c": "d", "e": {"f": None}}),
        ('["a":1, "b", :c]', [{"a": 1}, "b", ":c"]),
        ("{? a : b, c\n  d: e}", {"a": "b", "c d": "e"}),
        ("[&이름 a, *이름 , &a.b:c 1, *a.b:c]", ["a", "a", 1, 1]),
        ("[!!str 1, !!str, !!int\t'2']", ["1", "", 2]),
        ("|\n \n\n   a\n", "\n\na\n"),
        ("|+\t# kept\n  a\n\t\n\n", "a\n\n\n\n"),
        ("|1-\n  a\n", " a"),
        ("a\n  --- b\n  ... c", "a --- b ... c"),
    ],
)  # fmt: skip
def test_words_are_those_of_yaml_1_2(written, value):
    assert data(f"key: {written}") == {"key": value}


def test_a_document_may_have_a_prologue_and_an_end():
    text = "%YAML\t1.2 # comment\n%OTHER a b\n# comment\n---\t# comment\na: 1\n...\t# end\n"
    assert data(text) == {"a": 1}
    assert data("%TAG !y! tag:yaml.org,2002:\n--- !y!map\na: !y!str 1") == {"a": "1"}
    assert data("--- |\nno\n  indentation\n...") == "no\n  indentation\n"


def test_only_line_breaks_count_as_lines():
    found = problem("a: 'b\u2028c'\n# \x85\nd: 'e\u2029\n  f'\ng: @h\n")
    assert (found.where.line, found.where.column) == (5, 4)
    (found,) = read("a: \u2028 1\nb: !x \u2028\n").problems
    assert (found.where.line, found.where.column) == (2, 4)


JSON_DATA = {
    "k" * 3000: [{"nested": {"ü": [1, -2.5, 1e-7, True, False, None, "", {}]}}, []],
    '\x7f\x80\x85\u2028\u2029\ufeff😀/\\"': "a: b # c, {d} [e] \t\n${input.a | 'x'}",
    "": "<<",
    "<<": {"a": "yes"},
    "numbers": [0, 10**4000, 1.5e300, -0.0],
}


@pytest.mark.parametrize("indent", [None, 1, "\t", "", " \t"])
@pytest.mark.parametrize(
    "separators", [(",", ":"), (", ", ": "), (",\t", "\t:\t"), ("\n,", "\n:\n")]
)
@pytest.mark.parametrize("ascii", [True, False])
def test_json_is_yaml(indent, separators, ascii):
    text = json.dumps(JSON_DATA, indent=indent, separators=separators, ensure_ascii=ascii)
    for written in (text, text.replace("\n", "\r\n"), text.replace("\n", "\r"), f"\t{text}\t\n"):
        source = read(written)
        assert (source.data, source.problems) == (JSON_DATA, [])


def test_keys_are_text():
    assert data("1: a\non: b\n~: c\n'': d") == {"1": "a", "on": "b", "~": "c", "": "d"}


def test_anchors_and_merges():
    text = "a: &a {x: 1, y: 2}\nb: {y: 3, <<: *a}\nc: {<<: [{x: 9}, *a]}\nd: *a"
    assert data(text) == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 1, "y": 3},
        "c": {"x": 9, "y": 2},
        "d": {"x": 1, "y": 2},
    }


def test_a_key_beside_a_merge_keeps_its_place():
    source = read("a: &a {x: 1}\nb:\n  x: 5\n  <<: *a\n")
    assert (source.where(("b", "x")).line, source.where(("b",)).line) == (3, 3)


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("a: b: c\n", (1, 5), "not YAML: mapping values are not allowed here"),
        ("a:\n\tb: 1\n", (2, 1), "not YAML: found character '\\t' that cannot start any token"),
        (
            "a: 1\n---\nb: 2\n",
            (2, 1),
            "not YAML: a second document begins here, and a file holds one",
        ),
        ("a: 'b\nc: d\n", (1, 4), "not YAML: a quoted text is never closed"),
        ("a: [1, 2\nb: 3\n", (2, 2), "not YAML: expected ',' or ']', but got ':'"),
        ("a: *b\n", (1, 4), "not YAML: found undefined alias 'b'"),
        ("a: &b 1\nc: &b 2\n", (2, 4), "not YAML: an anchor of this name stands above already"),
        ("a: @b\n", (1, 4), "not YAML: found character '@' that cannot start any token"),
        ("a: &a [*a]\n", (1, 4), "this anchor has an alias of itself inside"),
        ("a: &a\n  <<: *a\n", (1, 4), "this anchor has an alias of itself inside"),
        ("a: 한글\x07\n", (1, 6), "character U+0007 is not allowed in YAML"),
        ('a: "b\x7f"\nc: d\x7f\n', (2, 5), "character U+007F is not allowed in YAML"),
        ("# \ufffe\na: 'b\ufffe'\n", (1, 3), "character U+FFFE is not allowed in YAML"),
        ('a: "\\Uffffffff"\n', (1, 5), "not YAML: '\\U' needs 8 hexadecimal digits of a character"),
        ("a: [-]\n", (1, 5), "not YAML: found character '-' that cannot start any token"),
        ("a: [1]]\n", (1, 7), "not YAML: found ']' without the bracket that opens it"),
        ("%YAML x\n---\n", (1, 1), "not YAML: expected a version, as in '%YAML 1.2'"),
        (
            "a: |\n    \n  b\n",
            (2, 5),
            "not YAML: a blank line before a block of text is indented further than the text",
        ),
        ('["a"\n :b]', (2, 2), "not YAML: expected ',' or ']', but got '<scalar>'"),
        ("? [a]\n: 1\n", (1, 3), "a key must be text"),
        ("<<: 3\na: 1\n", (1, 5), "'<<' needs a mapping"),
        ("a: " + "[" * 60 + "\n", (1, 53), "it is nested more than 50 deep"),
    ],
)
def test_text_that_cannot_be_read(text, place, message):
    found = problem(text)
    assert (found.message, (found.where.line, found.where.column)) == (message, place)


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("a: !foo 1\n", (1, 4), "tag '!foo' is not known here"),
        ("a: !!binary aGk=\n", (1, 4), "tag '!!binary' is not known here"),
        ("a: !!set {b}\n", (1, 4), "tag '!!set' is not known here"),
        (
            "!!python/object:os.system {}\n",
            (1, 1),
            "tag '!!python/object:os.system' is not known here",
        ),
        ("a: !!int x\n", (1, 4), "'x' is not a number that fits"),
        ("a: 0x" + "f" * 4000 + "\n", (1, 4), f"'0x{'f' * 38}' is not a number that fits"),
        ("a: !!bool yes\n", (1, 4), "'yes' is not true or false"),
        ("a: 1\nb: 2\na: 3\n", (3, 1), "key 'a' stands twice in one mapping, on line 1 and line 3"),
        ("a:\r\n  b: 1\r\n  b: 2\r\n", (3, 3), B_TWICE),
        ("a:\r  b: 1\r  b: 2\r", (3, 3), B_TWICE),
        ('a: "\\ud800"\n', (1, 4), "it has half of a surrogate pair, which is no character"),
    ],
)
def test_values_that_are_wrong_leave_the_rest_readable(text, place, message):
    (found,) = read(text).problems
    assert (found.message, (found.where.line, found.where.column)) == (message, place)


def test_hints_say_what_to_do():
    assert problem("a:\n\tb: 1\n").hint == "YAML is indented with spaces, not tabs."
    assert "needs quotes" in problem("a: b: c\n").hint
    assert "'*name'" in problem("a: *b\n").hint


def test_size_is_bounded():
    assert f"{MAX_CHARACTERS:,}" in problem("a: " + "x" * MAX_CHARACTERS).message
    assert f"{MAX_CHARACTERS:,}" in problem(b"a: " + b"x" * 5 * MAX_CHARACTERS).message


def test_aliases_are_bounded_when_they_are_expanded():
    bomb = "a0: &a0 [1,1,1,1,1,1,1,1,1]\n"
    for level in range(1, 9):
        bomb += f"a{level}: &a{level} [{','.join([f'*a{level - 1}'] * 9)}]\n"
    assert "once its aliases are expanded" in problem(bomb).message


def test_aliases_may_not_nest_deeper_than_brackets():
    text = "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, MAX_DEPTH + 5))
    assert f"more than {MAX_DEPTH} deep" in problem(text).message


def test_a_byte_order_mark_takes_no_column(tmp_path):
    path = tmp_path / "a.yml"
    path.write_text("﻿a: 1\n", encoding="utf-8")
    for source in (path, "﻿a: 1\n", "﻿a: 1\n".encode()):
        read_source = read(source)
        assert read_source.data == {"a": 1}
        assert read_source.where(("a",), key=True).column == 1


@pytest.mark.parametrize(
    "before", ["\ufeff\ufeff", "# joined\n\ufeff", "\n\ufeff", "%YAML 1.2\n\ufeff---\n\ufeff"]
)
def test_byte_order_marks_are_no_text(before):
    for text in (
        f"{before}a: 1\nb: 2\n",
        f'{before}{{"a":1,"b":2}}\n',
        f"{before}\ta\n".replace("\ta", "a: 1\n\ufeffb: 2"),
    ):
        assert read(text).data == {"a": 1, "b": 2}
        assert read(text.encode()).data == {"a": 1, "b": 2}


ENCODINGS = ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("text", ["a: 1\n", "a: 한글 é😀\r\n"])
def test_utf_16_and_utf_32_have_a_mark(tmp_path, encoding, text):
    path = tmp_path / "a.yml"
    path.write_bytes(f"\ufeff{text}".encode(encoding.removesuffix("-le").removesuffix("-be")))
    assert read(path).data == data(text)
    path.write_bytes(f"\ufeff{text}".encode(encoding))
    if encoding[-2:] in ("le", "be"):
        assert read(path).data == data(text)
        for source in (text.encode(encoding), path):
            path.write_bytes(text.encode(encoding))
            found = problem(source)
            name = encoding[:6].upper()
            assert found.message == f"it is {name} without a byte order mark"
            assert found.hint == "Save it as UTF-8."


def test_utf_16_that_was_read_as_utf_8():
    found = problem("a: 1\n".encode("utf-16-be").decode())
    assert found.message == "it is UTF-16 without a byte order mark"
    assert problem("a: \0b\n").message == "character U+0000 is not allowed in YAML"
    assert problem(b"a: b\0").message == "character U+0000 is not allowed in YAML"
    assert problem(b"\xff\xfea").message == "it is not UTF-16 text (byte 2)"


@pytest.mark.parametrize(
    "text", ['{"a":1}', ' {"a":{"b":"c"}}\t', "a:\t1", "a: 1\rb: 2", '\ufeff{"a":1}', "a:\t"]
)
def test_text_in_one_line_is_no_path(text):
    assert "a" in read(text).data


def test_bytes_are_text():
    assert read("a: 한글".encode()).data == {"a": "한글"}
    assert problem(b"a: \xff").message == "it is not UTF-8 text (byte 3)"


@pytest.mark.parametrize(
    "name", ["nope.yml", "a\0b", ".", "~nobody-of-this-name/a.yml", "x" * 5000, ""]
)
def test_a_path_that_cannot_be_read(name):
    found = problem(Path(name))
    # The system's words for it follow; they differ between systems.
    assert found.message.startswith("cannot read it: ")
    assert str(found.where) == str(Path(name))


def test_a_file_that_is_no_utf_8(tmp_path):
    path = tmp_path / "latin.yml"
    path.write_bytes("a: é\n".encode("latin-1"))
    found = problem(path)
    assert str(found.where) == str(path)
    assert (found.message, found.hint) == ("it is not UTF-8 text (byte 3)", "Save it as UTF-8.")


@pytest.mark.parametrize(
    ("mapping", "where", "message"),
    [
        ({"a": {5: 1}}, "a", "a key must be text, and 5 is not"),
        ({"a": [{1}]}, "a[0]", "a value of type 'set' is not allowed"),
        ({"a": object()}, "a", "a value of type 'object' is not allowed"),
        ({"a": "\ud800"}, "a", "it has half of a surrogate pair, which is no character"),
        ({"a": [0] * 60_000}, "", "it has more than 50,000 values"),
    ],
    ids=["key", "set", "object", "surrogate", "many"],
)
def test_a_mapping_that_is_no_document(mapping, where, message):
    found = problem(mapping)
    assert (found.where.keys, found.message) == (where, message)


def test_a_mapping_that_holds_itself():
    mapping: dict = {}
    mapping["a"] = [mapping]
    assert problem(mapping).message == "it is nested more than 50 deep"


def test_a_mapping_is_copied():
    given = {"a": {"b": (1, 2)}}
    copied = read(given).data
    given["a"]["b"] = ()
    assert copied == {"a": {"b": [1, 2]}}


def test_the_caret_stands_under_the_place_also_after_wide_characters():
    with pytest.raises(DocumentError) as caught:
        load_document(f"{HEAD}  text: |\n    é한글 ${{input.x as txt}}\n    😀 ${{inptu.x}}\n")
    assert str(caught.value).splitlines() == [
        "<text>:6:9: unknown type 'txt' in ${input.x as txt}",
        "  6 |     é한글 ${input.x as txt}",
        "    |           ^",
        "  Did you mean 'text'?",
        "<text>:7:7: unknown source 'inptu' in ${inptu.x}",
        "  7 |     😀 ${inptu.x}",
        "    |        ^",
        "  Did you mean 'input'?",
    ]


def test_a_long_line_is_cut_around_the_place():
    with pytest.raises(DocumentError) as caught:
        load_document(f"{HEAD}  text: '{'x' * 500} ${{inptu}} {'y' * 500}'\n")
    _, excerpt, caret, _ = str(caught.value).splitlines()
    assert len(excerpt) < 200
    assert excerpt[caret.index("^") :].startswith("${inptu}")


@pytest.mark.parametrize(
    "text",
    [
        "component:\n" + "".join(f"  k{n}: ${{a\n" for n in range(2000)),
        "component:\n  text: " + "${" * 50_000,
        "component:\n  text: " + "${input.a | '" * 10_000,
        "component:\n  text: " + "${input.a @(" * 10_000,
        "component: [" + "${a @(b, " * 10_000 + "]\n",
        f"{HEAD}  text: '" + "${input.a as foo}" * 10_000 + "'\n",
    ],
    ids=range(6),
)
def test_reading_takes_time_in_proportion(text):
    # Quadratic reading would take minutes here, and the test's own time limit would end it.
    with pytest.raises(DocumentError):
        load_document(text)
