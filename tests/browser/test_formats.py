"""What comes of texts of a format, as people see it in a panel, on a page and in a notebook."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect

from .pages import Lab, Theme, Voila
from .test_panel import LOAD

RECORD = """\
%%compose family
workflow:
  title: A family
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
  max_output_length: 400
  seed: 3
  format:
    json_schema:
      type: object
      properties:
        name: {type: string, minLength: 3, maxLength: 12}
        age: {type: integer, minimum: 3, maximum: 9}
        tags: {type: array, items: {enum: [small, old, kind]}, minItems: 2, maxItems: 2}
        pets:
          type: array
          minItems: 2
          maxItems: 2
          items:
            type: object
            properties:
              kind: {enum: [cat, dog, owl]}
              name: {type: string, minLength: 20, maxLength: 40}
              tame: {type: boolean}
            required: [kind, name, tame]
            additionalProperties: false
      required: [name, age, tags, pets]
      additionalProperties: false
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_record_is_a_table_and_its_text_is_json_below_it(lab: Lab, theme: Theme) -> None:
    notebook = lab.open(LOAD, RECORD, theme=theme)
    notebook.run(0)
    notebook.run(1)
    panel = notebook.output(1).locator(".modelcompose-panel")
    panel.get_by_label("Prompt *", exact=True).fill("A girl")
    panel.get_by_role("button", name="Run Workflow").click()
    record = panel.locator(".modelcompose-output table").first
    expect(record.get_by_role("rowheader", name="age", exact=True)).to_be_visible()
    pets = record.locator("table")
    expect(pets.get_by_role("columnheader")).to_have_text(["kind", "name", "tame"])
    expect(pets.locator("tbody tr")).to_have_count(2)
    folded = panel.get_by_text("Generated text", exact=True)
    folded.click()
    written = json.loads(panel.locator(".modelcompose-text > div").last.inner_text())
    expect(record.locator("tr").nth(1)).to_contain_text(str(written["age"]))
    expect(record.locator("tr", has_text="tags").first).to_contain_text(", ".join(written["tags"]))
    folded.click()
    notebook.command("docmanager:save")
    kept = json.loads(notebook.file.read_text())["cells"][1]["outputs"]
    html = "".join("".join(each["data"].get("text/html", "")) for each in kept if "data" in each)
    assert html.count('<table style="margin:0">') == 2
    assert written["pets"][0]["kind"] in html


def test_an_error_is_set_off_and_its_words_are_whole(lab: Lab) -> None:
    notebook = lab.open(LOAD, RECORD.replace("400", "20"))
    notebook.run(0)
    notebook.run(1)
    panel = notebook.output(1).locator(".modelcompose-panel")
    panel.get_by_label("Prompt *", exact=True).fill("A girl")
    panel.get_by_role("button", name="Run Workflow").click()
    error = panel.get_by_role("alert").filter(has_text="the text was cut after 20 tokens")
    expect(error).to_have_css("word-break", "normal")
    expect(error).to_have_css("padding-left", "12px")
    expect(error).to_have_css("border-left-width", "3px")


@pytest.mark.viewport(400, 800)
def test_a_record_fits_a_narrow_page(voila: Voila) -> None:
    opened = voila.open(LOAD, RECORD)
    panel = opened.output(1).locator(".modelcompose-panel")
    panel.get_by_label("Prompt *", exact=True).fill("A girl")
    panel.get_by_role("button", name="Run Workflow").click()
    outputs = panel.locator(".modelcompose-outputs")
    expect(outputs.locator("table").first).to_be_visible()
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 400
