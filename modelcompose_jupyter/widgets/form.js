/** What a form of ipywidgets lacks: names, help at the control, the ends of ranges, keys that stay. */

import { button, element } from "./dom.js";
import { t } from "./words.js";

// Shortcuts of the application that make sense wherever the cursor is: save, and the palette.
const OF_APPLICATION = [
  { key: "s", shift: false },
  { key: "c", shift: true },
];
const SUPPRESSED = "data-lm-suppress-shortcuts"; // what JupyterLab looks at

/**
 * Have the application take no key that is pressed in a panel for one of its own: in command mode
 * of a notebook, ``x`` on a check box would cut the cell. To be called before the application
 * hears of the key. The mark is on the element itself: the notebook's keys match what has focus.
 *
 * @param {KeyboardEvent} event
 */
export function keepKey(event) {
  const accelerated = event.ctrlKey || event.metaKey;
  const passes = OF_APPLICATION.some(
    ({ key, shift }) => accelerated && event.key.toLowerCase() === key && event.shiftKey === shift,
  );
  event.target.toggleAttribute(SUPPRESSED, !passes);
}

// Each widget has this module for itself: ids that begin so are unique in the page all the same.
const OURS = `modelcompose-${Math.random().toString(36).slice(2)}`;
let ids = 0;

/** Complete the fields of a panel, once they are drawn. May be called again. */
export function completeForm(panel) {
  for (const row of panel.querySelectorAll(".modelcompose-input")) completeRow(row);
  for (const fold of panel.querySelectorAll("button.modelcompose-fold")) completeFold(fold);
  for (const group of panel.querySelectorAll(".modelcompose-controls")) completeButtons(group);
}

const watched = new WeakSet();

/**
 * From a button that is no longer there to be pressed, the focus moves to its neighbour: else it
 * would be nowhere, and the next key a notebook's own.
 */
function completeButtons(group) {
  if (watched.has(group)) return;
  watched.add(group);
  const move = (changes) => {
    if (!changes.some(({ target }) => target === document.activeElement && target.disabled)) return;
    group.querySelector("button:enabled")?.focus();
  };
  new MutationObserver(move).observe(group, { subtree: true, attributeFilter: ["disabled"] });
}

function completeRow(row) {
  const label = row.querySelector(".widget-label");
  const name = label?.textContent ?? "";
  const slider = row.querySelector(".slider-container");
  const handle = row.querySelector(".noUi-handle");
  for (const each of row.querySelectorAll(".noUi-handle, .widget-readout")) {
    each.setAttribute("aria-label", name); // ipywidgets leaves them without
  }
  row.querySelector(".widget-readout")?.setAttribute("role", "textbox"); // so that it has a name
  if (slider && handle && !row.querySelector(".modelcompose-ends")) completeRange(slider, handle);
  const help = row.querySelector(".modelcompose-help");
  if (help && !help.id) {
    help.id = `${OURS}-${ids++}`;
    const control = row.querySelector("textarea, input, select, .noUi-handle");
    control?.setAttribute("aria-describedby", help.id);
    if (help.classList.contains("modelcompose-on-demand") && label) foldHelp(help, label);
  }
  const ask = row.querySelector(".modelcompose-ask");
  if (ask) {
    ask.title = help.textContent.trim();
    ask.setAttribute("aria-label", t("About {name}", { name }));
  }
  if (label && !watched.has(row)) {
    watched.add(row); // in another language it has another name
    const complete = () => completeRow(row);
    new MutationObserver(complete).observe(label, { childList: true, characterData: true, subtree: true });
  }
}

/** The least and the most of a slider, at its ends; values beyond them move these. */
function completeRange(slider, handle) {
  const ends = slider.appendChild(element("div", "modelcompose-ends"));
  ends.setAttribute("aria-hidden", "true"); // the handle says them
  const [least, most] = [ends.appendChild(element("span")), ends.appendChild(element("span"))];
  const update = () => {
    least.textContent = tidy(handle.getAttribute("aria-valuemin"));
    most.textContent = tidy(handle.getAttribute("aria-valuemax"));
  };
  new MutationObserver(update).observe(handle, {
    attributeFilter: ["aria-valuemin", "aria-valuemax"],
  });
  update();
}

function tidy(number) {
  return number === null ? "" : String(Number(number));
}

/** Help that is seen when it is asked for. */
function foldHelp(help, label) {
  help.hidden = true;
  const toggle = button(
    "?",
    () => {
      help.hidden = !help.hidden;
      toggle.setAttribute("aria-expanded", String(!help.hidden));
    },
    { className: "modelcompose-ask" },
  );
  toggle.setAttribute("aria-expanded", "false");
  toggle.setAttribute("aria-controls", help.id);
  label.after(toggle);
}

/** A toggle that shows what is below it says so. */
function completeFold(fold) {
  if (fold.hasAttribute("aria-expanded")) return;
  const update = () =>
    fold.setAttribute("aria-expanded", String(fold.classList.contains("mod-active")));
  new MutationObserver(update).observe(fold, { attributeFilter: ["class"] });
  update();
}
