"""What tests take for granted of other people's software, and of the means they have.

None of it is a promise of the product: it is looked at when something else changes, such as the
versions of Jupyter or of Playwright.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import expect
from standins.kernel import kernel

from .conftest import chromium
from .pages import Jupyter, Lab, Voila
from .traffic import Traffic, size

pytestmark = pytest.mark.canary

UPDATES = 50

# Each press sets a value `UPDATES` times.
COUNTER = f"""
import ipywidgets as widgets

button, value = widgets.Button(description="Count"), widgets.IntText().add_class("value")

def count(_):
    for number in range(1, {UPDATES} + 1):
        value.value = number

button.on_click(count)
widgets.VBox([button, value])
"""

VERSION = "import ipykernel; print(ipykernel.__version__)"


@pytest.mark.stop
def test_kernels_of_all_applications_run_on_the_wanted_ipykernel(
    application: Jupyter | Voila, ipykernel: str
) -> None:
    opened = application.open(VERSION)
    opened.run_all()
    expect(opened.output(0)).to_have_text(ipykernel)


@pytest.mark.stop
def test_a_kernel_without_a_browser_runs_on_the_wanted_ipykernel(
    tmp_path: Path, ipykernel: str
) -> None:
    with kernel(tmp_path, ipykernel=ipykernel) as started:
        assert started.run(VERSION).stdout.strip() == ipykernel


def test_traffic_counts_every_update_of_a_widget(lab: Lab, traffic: Traffic) -> None:
    opened = lab.open(COUNTER)
    opened.run_all()
    form = opened.output(0)
    button = form.get_by_role("button", name="Count")
    button.wait_for()
    traffic.clear()
    button.click()
    expect(form.locator(".value input")).to_have_value(str(UPDATES))
    (click,) = traffic.sent("comm_msg")
    assert click.content["data"]["content"] == {"event": "click"}
    updates = traffic.received("comm_msg")
    values = [each.content["data"]["state"].get("value") for each in updates]
    assert values == [*range(1, UPDATES + 1)]
    assert all(each.size > len(json.dumps(each.content)) for each in updates)
    assert size(updates[:2]) == updates[0].size + updates[1].size


WRONG = """
from IPython.display import Javascript

Javascript('''
    console.error("logged");
    setTimeout(() => { throw new Error("thrown"); });
    fetch("http://example.org/").catch(() => { document.body.dataset.refused = "yes"; });
''')
"""


def test_what_goes_wrong_in_a_page_is_known(
    voila: Voila, errors: list[str], elsewhere: list[str]
) -> None:
    opened = voila.open(WRONG)
    expect(opened.page.locator("body")).to_have_attribute("data-refused", "yes")
    assert [error.split()[0] for error in errors] == ["logged", "thrown"]
    assert elsewhere[-1] == "http://example.org/"  # after what Voila's template asks for


@pytest.mark.parametrize(
    ("required", "outcome"),
    [("", pytest.skip.Exception), ("required", pytest.fail.Exception)],
)
def test_a_missing_browser_is_told(
    required: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELCOMPOSE_BROWSER", required)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CHROMIUM", raising=False)
    with pytest.raises(outcome, match="no Chromium"):
        chromium()
