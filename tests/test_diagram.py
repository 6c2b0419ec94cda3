"""Diagrams of workflows: the graph, and its three forms."""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from seed.blocks import SEED_BATCH

from modelcompose_jupyter.diagram import MAX_JOBS, Diagram, Link, Node, diagram
from modelcompose_jupyter.diagram.states import MARKS, edge_states, job_state
from modelcompose_jupyter.diagram.svg import label_size
from modelcompose_jupyter.document import load_document
from modelcompose_jupyter.errors import DocumentError

SVG = "{http://www.w3.org/2000/svg}"
COMPONENT = {
    "type": "model",
    "task": "text-generation",
    "model": "bundled:storyteller",
    "text": "${input.prompt as text}",
}
ODD = [
    'say "hi" [id] (x) {y}',
    "#35; #quot; &amp; <b>bold</b>",
    "`code` **bold** _em_",
    "end",
    "1. list",
    "- item",
    "---",
    "%%{init: {'theme': 'dark'}}%%",
    "click j0 href",
    "style x:#fff;",
    "이야기",
    "<script>alert(1)</script>",
    "]]> --> j0",
    "direction LR",
    "tab\tand\nline",
    "\x1b[31mred\x00\x7f\ufffe",
]


def drawn(jobs: list[dict[str, Any]], **workflow: Any) -> Diagram:
    document = load_document({"component": COMPONENT, "workflow": {"jobs": jobs, **workflow}})
    return diagram(document, document.workflow())


def job(id_: str, *after: str, **keys: Any) -> dict[str, Any]:
    return {"id": id_, **({"depends_on": list(after)} if after else {}), **keys}


CHAIN = drawn(
    [
        job("outline"),
        job("story", "outline", repeat_count="${input.n as integer | 3}"),
        job("title", "story", repeat_count=2),
    ],
    output={"title": "${output}"},
)
DIAMOND = drawn(
    [
        job("story", "hero", "villain"),
        job("outline"),
        job("hero", "outline", component={**COMPONENT, "model": "org/other"}),
        job("villain", "outline"),
    ]
)


def links(shown: Diagram) -> set[tuple[str, str]]:
    return {(shown.nodes[a].label, shown.nodes[b].label) for a, b in shown.edges}


# The graph


def test_first_jobs_follow_the_input_and_the_output_follows_last_jobs() -> None:
    shown = drawn([job("a"), job("b"), job("c", "a", "b"), job("d", "a")])
    assert links(shown) == {
        ("Input", "a"),
        ("Input", "b"),
        ("a", "c"),
        ("b", "c"),
        ("a", "d"),
        ("c", "Output"),
        ("d", "Output"),
    }
    assert shown.nodes[-1].details == ("c", "d")


def test_a_job_without_an_id_is_called_by_its_component_or_default() -> None:
    document = load_document({"component": COMPONENT})
    plain = diagram(document, document.workflow())
    document = load_document({"component": {**COMPONENT, "id": "writer"}, "workflow": {}})
    named = diagram(document, document.workflow())
    assert plain.text == "input(prompt) ─▶ Default [bundled:storyteller] ─▶ output(generated)"
    assert named.text == "input(prompt) ─▶ writer [bundled:storyteller] ─▶ output(generated)"
    assert "__" not in plain.text + plain.svg + plain.mermaid


def test_a_workflow_that_takes_anything_says_so() -> None:
    document = load_document({"component": {**COMPONENT, "text": "${input}"}})
    assert diagram(document, document.workflow()).nodes[0].details == ("…",)


def test_repeats_are_shown_without_type_and_default() -> None:
    batch = SEED_BATCH.replace("component: text-generator", "")
    document = load_document(
        batch + "component: {type: model, task: text-generation, model: m, text: '${input.prompt}'}"
    )
    assert diagram(document, document.workflow()).nodes[1].repeats == "× ${input.batch_size}"
    assert [node.repeats for node in CHAIN.nodes] == ["", "", "× ${input.n}", "× 2", ""]
    odd = drawn([job("a", repeat_count="${input.rows[0].n as integer | 2}")])
    assert odd.nodes[1].repeats == "× ${input.rows[0].n as integer | 2}"


def test_of_very_many_dependencies_the_implied_ones_are_left_out() -> None:
    ids = [f"j{number}" for number in range(30)]
    few = drawn([job(id_, *ids[:place]) for place, id_ in enumerate(ids[:10])])
    many = drawn([job(id_, *ids[:place]) for place, id_ in enumerate(ids)])
    assert len(few.edges) == 45 + 2
    assert list(many.edges) == sorted(itertools.pairwise(range(32)), key=lambda e: (e[0] > 0, e[1]))


# Text


def test_a_chain_is_one_line() -> None:
    assert CHAIN.text == (
        "input(prompt, n) ─▶ outline [bundled:storyteller] ─▶ story × ${input.n} ─▶ title × 2"
        " ─▶ output(title)"
    )
    assert repr(CHAIN) == CHAIN.text


def test_another_graph_is_a_list_in_an_order_in_which_it_can_run() -> None:
    assert DIAMOND.text == (
        "input(prompt)\n"
        "  outline [bundled:storyteller]\n"
        "  hero [org/other]  after: outline\n"
        "  villain [bundled:storyteller]  after: outline\n"
        "  story  after: hero, villain\n"
        "output(text)  after: story"
    )


def test_a_chain_with_a_shortcut_is_no_chain() -> None:
    shown = drawn([job("a"), job("b", "a"), job("c", "a", "b")])
    assert "  c  after: a, b" in shown.text.splitlines()


def test_a_long_chain_is_a_list() -> None:
    ids = [f"number-{number}" for number in range(12)]
    shown = drawn([job(id_, *ids[max(0, i - 1) : i]) for i, id_ in enumerate(ids)])
    assert len(shown.text.splitlines()) == 14


def test_text_steers_no_terminal() -> None:
    shown = drawn([job(id_) for id_ in ODD])
    assert "\x1b" not in shown.text
    assert "\x00" not in shown.text
    assert len(shown.text.splitlines()) == len(ODD) + 2


# Mermaid


def test_mermaid() -> None:
    assert CHAIN.mermaid.splitlines() == [
        "flowchart LR",
        '  input(["Input<br/>prompt<br/>n"])',
        '  j0["outline<br/>bundled#58;storyteller"]',
        '  j1["story#32;#215;#32;#36;#123;input#46;n#125;<br/>bundled#58;storyteller"]',
        '  j2["title#32;#215;#32;2<br/>bundled#58;storyteller"]',
        '  output(["Output<br/>title"])',
        "  input --> j0",
        "  j0 --> j1",
        "  j1 --> j2",
        "  j2 --> output",
    ]


def test_nothing_in_a_label_is_mermaids_own() -> None:
    shown = drawn([job(id_) for id_ in ODD])
    labels = re.findall(r'^  j\d+\["(.*)"\]$', shown.mermaid, re.MULTILINE)
    assert len(labels) == len(ODD)
    for node, label in zip(shown.nodes[1:-1], labels, strict=True):
        first, _, model = label.partition("<br/>")
        assert re.fullmatch(r"(?:[^\W_]|#\d+;)*", first)
        words = html.unescape(re.sub(r"#(\d+);", r"&#\1;", first))
        assert node.label.startswith(words.rstrip("…"))
        assert model == "bundled#58;storyteller"


@pytest.mark.parametrize(("count", "is_there"), [(250, True), (251, False)])
def test_mermaid_is_offered_where_pages_draw_it(count: int, is_there: bool) -> None:
    shown = drawn([job(f"j{number}") for number in range(count)])
    assert ("text/vnd.mermaid" in shown._repr_mimebundle_()) == is_there


# SVG


def texts(svg: str) -> list[str]:
    root = ElementTree.fromstring(svg)
    return ["".join(each.itertext()) for each in root.iter(f"{SVG}text")]


def test_the_picture_says_all() -> None:
    model = "bundled:storyteller"
    assert texts(CHAIN.svg) == [
        *("Input", "prompt", "n"),
        *("outline", model, "story × ${input.n}", model, "title × 2", model),
        *("Output", "title"),
    ]


def test_the_picture_is_well_formed_whatever_it_says() -> None:
    shown = drawn(
        [job(id_, component={**COMPONENT, "model": id_}) for id_ in ODD],
        output=dict.fromkeys(ODD, "${output}"),
    )
    found = texts(shown.svg)
    assert "<script>alert(1)</script>" in found
    assert "tab and line" in found
    assert "\ufffd[31mred\ufffd\ufffd\ufffd" in found
    assert ElementTree.fromstring(shown._repr_mimebundle_()["text/html"]).tag == "div"


def test_what_is_cut_is_in_a_tooltip() -> None:
    long, korean = "x" * 90, "가" * 60
    shown = drawn([job(long), job(korean), job("short")])
    root = ElementTree.fromstring(shown.svg)
    titles = ["".join(each.itertext()) for each in root.iter(f"{SVG}title")]
    assert titles == [
        f"{long}\nbundled:storyteller",
        f"{korean}\nbundled:storyteller",
        "\n".join(["Output", long, korean, "short"]),
    ]
    assert "x" * 27 + "…" in texts(shown.svg)
    assert "가" * 13 + "…" in texts(shown.svg)


def test_its_words_are_in_a_language_and_the_document_s_stay() -> None:
    jobs = [
        job("done", timeout=3),
        {
            "id": "which",
            "type": "switch",
            "input": "${jobs.done.output}",
            "cases": [{"value": "failed", "then": "Input"}],
            "otherwise": "other",
        },
        job("Input", on_error={"to": "other"}),
        job("other", repeat_count=2),
    ]
    shown = drawn(jobs).in_language("ko-KR")
    assert shown.in_language("ko") is shown.in_language("") is shown
    assert texts(shown.svg)[:2] == ["failed", "그 밖에"]
    for word in ("입력", "최대 3초", "오류 시", "Input", "done", "출력"):
        assert word in texts(shown.svg)
    assert shown.text.startswith("입력(prompt)\n")
    assert "  Input  조건: which: failed" in shown.text
    states = {"done": {"type": "component", "state": "completed", "seconds": 2.0}}
    assert ">완료 · 2.0초<" in shown.of_run(states)


def test_many_names_are_counted() -> None:
    node = Node("input", "Input", tuple(f"name{number}" for number in range(40)))
    shown = Diagram((node, Node("output", "Output", ())), {(0, 1): Link("waits")})
    assert texts(shown.svg) == ["Input", *(f"name{n}" for n in range(5)), "… +35", "Output"]


def test_the_picture_can_be_heard_and_scales() -> None:
    root = ElementTree.fromstring(DIAMOND.svg)
    assert root.get("role") == "img"
    assert root.get("aria-label") == " ".join(DIAMOND.text.split())
    _, _, width, height = root.get("viewBox", "").split()
    assert (root.get("width"), root.get("height")) == (width, height)
    assert "max-width:100%" in root.get("style", "")


def test_the_picture_needs_nothing_of_its_page_and_leaves_nothing_in_it() -> None:
    for shown in (CHAIN, DIAMOND):
        root = ElementTree.fromstring(shown.svg)
        assert not [each for each in root.iter() if each.get("id") or each.tag == f"{SVG}style"]
        assert not re.search(r"var\([^,()]*\)", shown.svg)  # each variable has a fallback
        assert all(each.get("fill") for each in root.iter(f"{SVG}rect"))


# Jobs of all types

TEST = {"input": "${jobs.draft.output}", "operator": "match", "value": ".*fox.*"}
MANY = drawn(
    [
        job("draft", retry=3, timeout=30, on_error={"output": ""}),
        {"id": "check", "type": "if", **TEST, "if_true": "publish", "if_false": "improve"},
        {
            "id": "improve",
            "type": "loop",
            "max_iteration_count": 5,
            "until": {**TEST, "input": "${output}"},
            "do": {"retry": 2},
            "interrupt": {"after": True},
            "on_error": {"to": "sorry"},
        },
        job("publish"),
        job("last", depends_on=[["improve", "publish"]]),
        {"id": "sorry", "type": "delay", "duration": "90s"},
        {"id": "each", "type": "for-each", "input": "${input.names as list}", "do": {}},
        {
            "id": "pick",
            "type": "switch",
            "input": "${input.kind | a}",
            "cases": [{"value": "a", "then": "one"}, {"value": "b", "then": "one"}],
            "otherwise": "two",
        },
        {
            "id": "chance",
            "type": "random-router",
            "routings": [{"to": "three", "weight": 1}, {"to": "four", "weight": 3}],
        },
        *(job(name) for name in ("one", "two", "three", "four")),
    ]
)


def test_what_jobs_of_each_type_do_is_told() -> None:
    told = {node.label: (node.heading[1:], node.details, node.marks) for node in MANY.nodes}
    model = "bundled:storyteller"
    assert told["draft"] == (
        (),
        (model,),
        ("up to 3 attempts", "at most 30 s", "a failure has a value"),
    )
    assert told["check"] == (("if",), ("${jobs.draft.output} matches .*fox.*",), ())
    assert told["improve"] == (
        ("loop",),
        (
            "until ${output} matches .*fox.*",
            "at most 5 rounds",
            f"do: {model}, up to 2 attempts",
        ),
        ("asks after",),
    )
    assert told["sorry"] == (("delay",), ("for 90 s",), ())
    assert told["each"] == (("for each",), ("of ${input.names}", f"do: {model}"), ())
    assert told["pick"] == (("switch",), ("${input.kind}",), ())
    assert told["chance"] == (("at random",), (), ())


def test_what_leads_to_a_job_stands_at_the_edge() -> None:
    names = {node.label: place for place, node in enumerate(MANY.nodes)}
    found = {
        (one, other): MANY.links[names[one], names[other]]
        for one, other in links(MANY)
        if MANY.links[names[one], names[other]] != Link("waits")
    }
    assert found == {
        ("check", "publish"): Link("route", "true"),
        ("check", "improve"): Link("route", "false"),
        ("improve", "sorry"): Link("error", "on error"),
        ("improve", "last"): Link("any", "or"),
        ("publish", "last"): Link("any", "or"),
        ("pick", "one"): Link("route", "a, b"),
        ("pick", "two"): Link("route", "otherwise"),
        ("chance", "three"): Link("route", "25 %"),
        ("chance", "four"): Link("route", "75 %"),
    }
    shown = texts(MANY.svg)
    assert {"true", "false", "on error", "a, b", "otherwise", "25 %"} <= set(shown)
    lines = MANY.mermaid.splitlines()
    assert '  j1{"check#32;if<br/>' in "".join(lines)
    assert '  j1 -.->|"true"| j3' in lines
    assert '  j2 -->|"or"| j4' in lines


def test_in_words_it_says_what_leads_where() -> None:
    lines = MANY.text.splitlines()
    model = "bundled:storyteller"
    assert f"  draft [{model}]  up to 3 attempts, at most 30 s, a failure has a value" in lines
    assert "  check [if ${jobs.draft.output} matches .*fox.*]  after: draft" in lines
    assert "  publish  where check: true" in lines
    assert "  sorry [delay for 90 s]  where improve fails" in lines
    assert "  last  after: improve or publish" in lines
    assert "  one  where pick: a, b" in lines
    assert "  chance [at random]" in lines
    alone = drawn([{"id": "wait", "type": "delay", "duration": 1}, job("b", "wait", retry=2)])
    assert len(alone.text.splitlines()) == 4  # a chain, but there is more to say


def test_guests_see_no_folders_in_what_jobs_do() -> None:
    test = {"input": "/srv/of jane/a", "operator": "eq", "value": "/srv/of jane/b"}
    document = load_document(
        {
            "component": COMPONENT,
            "workflow": {
                "jobs": [
                    {"id": "check", "type": "if", **test, "if_true": "b"},
                    {"id": "b", "input": {"prompt": "x"}},
                ]
            },
        }
    )
    own = diagram(document, document.workflow())
    public = diagram(document, document.workflow(), for_guests=True)
    assert "/srv" in own.svg
    assert "/srv" not in public.svg + public.text + public.mermaid + public.of_run({})
    assert "…/b" in public.text


# Runs

JOBS: dict[str, dict[str, Any]] = {
    "draft": {
        "type": "component",
        "state": "completed",
        "seconds": 1.23,
        "attempt": 2,
        "attempts": 3,
        "failed": 1,
    },
    "check": {"type": "if", "state": "completed", "route": "improve", "seconds": 0.001},
    "improve": {"type": "loop", "state": "running", "done": 1, "total": 5},
    "publish": {"type": "component", "state": "skipped"},
    "last": {"type": "component", "state": "pending"},
    "each": {"type": "for-each", "state": "running", "done": 3, "total": 10},
}


def test_how_jobs_are_is_told_by_marks_and_words() -> None:
    found = {name: job_state(each) for name, each in JOBS.items()}
    assert {name: (each.mark, each.words) for name, each in found.items()} == {
        "draft": ("✓", "done · 2nd attempt · 1.2 s"),
        "check": ("✓", "done"),
        "improve": ("●", "round 2 of at most 5"),
        "publish": ("–", "skipped"),
        "last": ("○", "pending"),
        "each": ("●", "3 / 10"),
    }
    wait = {"type": "component", "state": "waiting", "attempt": 3, "attempts": 3, "wait": 4.0}
    assert job_state(wait).words == "3rd attempt in 4.0 s"
    recovered = {"type": "delay", "state": "completed", "error": {"code": "x", "message": "y"}}
    assert (job_state(recovered).state, job_state(recovered).words) == ("recovered", "recovered")
    assert len(set(MARKS.values())) == len(MARKS) - 1  # what has recovered is done, too


def test_the_way_that_a_run_went_is_told_by_its_edges() -> None:
    places = {node.job: place for place, node in enumerate(MANY.nodes)}
    found = edge_states(MANY.nodes, MANY.links, JOBS)

    def state(one: str, other: str) -> str:
        return found[places[one], places[other]]

    assert state("check", "improve") == "taken"
    assert state("check", "publish") == "left"
    assert state("publish", "last") == "left"
    assert state("improve", "last") == "open"
    assert found[0, places["draft"]] == "taken"
    assert state("improve", "sorry") == "open"
    assert set(edge_states(MANY.nodes, MANY.links, {}).values()) == {"open"}


def test_the_picture_of_a_run_has_all_of_it_and_room_for_what_comes() -> None:
    shown = MANY.of_run(JOBS)
    root = ElementTree.fromstring(shown)
    nodes = {each.get("data-node"): each for each in root.iter(f"{SVG}g") if each.get("data-node")}
    assert len(nodes) == len(MANY.nodes) - 2
    assert nodes["3"].get("data-state") == "running"
    assert "● round 2 of at most 5" in texts(shown)
    assert "draft: done · 2nd attempt · 1.2 s" in root.get("aria-label", "")
    before = ElementTree.fromstring(MANY.of_run({}))
    assert before.get("viewBox") == root.get("viewBox")
    assert not any(each.get("data-state") for each in before.iter(f"{SVG}g"))
    assert not re.search(r"var\([^,()]*\)", shown)


def test_one_call_alone_has_no_steps_to_see() -> None:
    assert not drawn([job("a")]).says_more
    assert not drawn([job("a", repeat_count=3)]).says_more
    assert drawn([job("a"), job("b")]).says_more
    assert drawn([{"id": "each", "type": "for-each", "input": ["a"], "do": {}}]).says_more


Box = tuple[float, float, float, float]


def boxes(shown: Diagram) -> list[Box]:
    return [shown._layout.box(place) for place in range(len(shown.nodes))]


def is_apart(one: Box, other: Box) -> bool:
    (x, y, width, height), (x2, y2, width2, height2) = one, other
    return x + width < x2 or x2 + width2 < x or y + height < y2 or y2 + height2 < y


def points(path: str) -> Iterator[tuple[float, float]]:
    """Points on a path of lines and cubic curves."""
    start: list[float] = []
    for numbers in re.findall(r"[MLC]([-0-9. e]+)", path):
        values = list(map(float, numbers.split()))
        corners = [*start, *values]
        steps = [step / 8 for step in range(9)]
        yield from ((_bezier(corners[::2], t), _bezier(corners[1::2], t)) for t in steps)
        start = values[-2:]


def _bezier(corners: Sequence[float], t: float) -> float:
    if len(corners) == 1:
        return corners[0]
    return (1 - t) * _bezier(corners[:-1], t) + t * _bezier(corners[1:], t)


@st.composite
def graphs(draw: st.DrawFn) -> Diagram:
    count = draw(st.integers(1, 14))
    ids = [f"{'job' * draw(st.integers(1, 5))}{number}" for number in range(count)]
    after = [
        draw(st.sets(st.sampled_from(ids[:i]), max_size=3)) if i else set() for i in range(count)
    ]
    jobs = [job(id_, *sorted(others)) for id_, others in zip(ids, after, strict=True)]
    for number, each in enumerate(jobs):
        later = [id_ for id_ in ids[number + 1 :] if id_ not in each.get("depends_on", ())]
        if later and draw(st.booleans()):
            routes = draw(st.lists(st.sampled_from(later), min_size=1, max_size=3))
            cases = [{"value": value, "then": to} for value, to in enumerate(routes)]
            each |= {"type": "switch", "input": "${input.prompt}", "cases": cases}
    try:
        return drawn(jobs)
    except DocumentError:  # some can never run
        reject()


@given(graphs())
def test_boxes_stand_apart_within_the_picture_and_edges_run_forward_beside_them(
    shown: Diagram,
) -> None:
    layout = shown._layout
    placed = boxes(shown)
    assert all(is_apart(*pair) for pair in itertools.combinations(placed, 2))
    width, height = layout.size
    for x, y, w, h in placed:
        assert 0 <= x <= x + w <= width
        assert 0 <= y <= y + h <= height
    axis = 0 if layout.sideways else 1
    for first, last in shown.edges:
        assert placed[first][axis] + placed[first][axis + 2] < placed[last][axis]
    for (first, last), way in zip(shown.edges, layout.ways, strict=True):
        others = [box for place, box in enumerate(placed) if place not in (first, last)]
        for x, y in points(layout.curve(way)):
            assert all(is_apart((x, y, 0, 0), box) for box in others)
        if shown.links[first, last].label:
            (x, y), (w, h) = layout.label(way), label_size(shown.links[first, last])
            assert all(is_apart((x - w / 2, y - h / 2, w, h), box) for box in placed)


@given(graphs())
def test_text_names_every_job_after_those_it_waits_for(shown: Diagram) -> None:
    words = re.split(r" ─▶ |\n", shown.text)
    order = [word.split()[0] for word in words[1:-1]]
    assert sorted(order) == sorted(node.label for node in shown.nodes[1:-1])
    for first, last in links(shown):
        if first in order and last in order:
            assert order.index(first) < order.index(last)


def test_short_chains_lie_and_long_ones_stand() -> None:
    ids = [f"number-{number}" for number in range(12)]
    long = drawn([job(id_, *ids[max(0, i - 1) : i]) for i, id_ in enumerate(ids)])
    assert CHAIN._layout.sideways
    assert not long._layout.sideways
    assert long.mermaid.startswith("flowchart TD")


def test_jobs_stand_beside_those_they_wait_for() -> None:
    shown = drawn([job("a"), job("b"), job("after-b", "b"), job("after-a", "a")])
    _, a, b, after_b, after_a, _ = boxes(shown)
    assert (a[1], b[1]) == (after_a[1], after_b[1])


def test_a_chain_is_straight() -> None:
    middles = {y + height / 2 for _, y, _, height in boxes(CHAIN)}
    assert len(middles) == 1


def test_a_picture_shrinks_no_further_than_it_can_be_read() -> None:
    for shown in (CHAIN, DIAMOND):
        least = re.search(r"min-width:(\d+)px", shown.svg)
        assert least is not None
        assert int(least[1]) == pytest.approx(shown._layout.size[0] * 0.7, abs=1)


def test_thirty_jobs_fit_a_page() -> None:
    layers = [[f"job-{layer}-{number}" for number in range(5)] for layer in range(6)]
    jobs = [job(id_) for id_ in layers[0]]
    jobs += [job(id_, *before) for before, ids in itertools.pairwise(layers) for id_ in ids]
    assert drawn(jobs)._layout.size[0] <= 860


def test_hundreds_of_jobs_are_drawn() -> None:
    ids = [f"j{number}" for number in range(500)]
    chain = drawn([job(id_, *ids[max(0, i - 1) : i]) for i, id_ in enumerate(ids)])
    wide = drawn([job("start"), *(job(id_, "start") for id_ in ids), job("end", *ids)])
    for shown in (chain, wide):
        assert set(ids) <= set(texts(shown.svg))
        assert all(is_apart(*pair) for pair in itertools.pairwise(boxes(shown)))


def test_of_thousands_of_jobs_the_number_is_drawn() -> None:
    ids = [f"j{number}" for number in range(MAX_JOBS + 1)]
    shown = drawn([job(id_, *ids[max(0, i - 1) : i]) for i, id_ in enumerate(ids)])
    assert shown.text == "input(prompt) ─▶ 1,001 jobs [bundled:storyteller] ─▶ output(text)"
    assert "1,001 jobs" in texts(shown.svg)
    assert len(drawn([job(id_) for id_ in ids[1:]]).nodes) == MAX_JOBS + 2


def test_each_kind_of_page_finds_its_form() -> None:
    assert CHAIN._repr_mimebundle_(include=None, exclude=None) == {
        "text/plain": CHAIN.text,
        "text/html": f'<div style="overflow:auto">{CHAIN.svg}</div>',
        "image/svg+xml": CHAIN.svg,
        "text/vnd.mermaid": CHAIN.mermaid,
    }
