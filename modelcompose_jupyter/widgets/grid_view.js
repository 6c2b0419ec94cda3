/**
 * Shows runs for all combinations of values as a table that fills while texts come; above it, where the
 * kernel offers a choice of what to vary, a form.
 *
 * What cells say comes as custom messages: `{type: "cells", texts: [[index, offset, text], …], infos:
 * [[index, info], …]}`, where offsets count UTF-16 units as JavaScript does. A smaller offset than the
 * length replaces what was behind it; a larger one tells that something was lost, and the whole is asked
 * for. It comes as `{type: "whole", cells}`, also at the beginning, and a page that is loaded has it as the
 * state `cells`. Everything else is state.
 *
 * @typedef {object} Info how a cell is
 * @property {string} state of its run
 * @property {string} foot how it ended, in words
 * @property {string} error
 * @property {[start: number, end: number][]} marks what differs from the cell before
 */

import { button, element, setChildren, show } from "./dom.js";
import { keepKey } from "./form.js";
import { GridForm } from "./grid_form.js";
import { GridTable } from "./grid_table.js";
import { speak, t } from "./words.js";

const GRID_GONE_AFTER = 1000; // milliseconds; a cell that is moved loses its view and gets another

/** A model and its views: what cells say is kept once, whatever is in view. */
class GridModel {
  constructor(model) {
    this.model = model;
    this.views = new Set();
    this.isLeft = false;
    this.#reset(model.get("cells"));
    model.on("change:heads", () => this.#begin());
    model.on("msg:custom", (message) => {
      if (message.type === "cells") this.#change(message);
      if (message.type === "whole") this.#reset(message.cells);
    });
    this.ask(); // what was sent before there was somebody to hear it is lost
  }

  /** Ask for all that there is, once. */
  ask() {
    if (!this.asked) this.model.send({ type: "resync" });
    this.asked = true;
  }

  /** Another grid: of the one before nothing stays. */
  #begin() {
    this.cells = [];
    for (const view of this.views) view.begin();
  }

  #reset(cells) {
    this.asked = false;
    this.cells = cells.map((cell) => ({ ...cell }));
    for (const view of this.views) view.table.updateAll(this.cells);
  }

  #change({ texts, infos }) {
    const changed = new Set();
    for (const [index, offset, text] of texts) {
      const cell = this.cells[index];
      if (!cell || offset > cell.text.length) {
        this.ask();
        return;
      }
      cell.text = cell.text.slice(0, offset) + text;
      changed.add(index);
    }
    for (const [index, info] of infos) {
      if (!this.cells[index]) {
        this.ask();
        return;
      }
      Object.assign(this.cells[index], info);
      changed.add(index);
    }
    for (const view of this.views) view.table.update(this.cells, changed);
  }
}

class GridView {
  /** @param {GridModel} grid */
  constructor(grid, root) {
    this.grid = grid;
    this.model = grid.model;
    this.root = root;
    root.classList.add("modelcompose-grid");
    const isLost = () => root.closest(".jupyter-widgets-disconnected"); // its kernel is gone
    this.send = (message) => isLost() || this.model.send(message);
    const { send } = this;
    const choices = this.model.get("choices");
    this.form = choices.length ? new GridForm(choices, this.model.get("quick"), send) : null;
    this.failure = element("p", "modelcompose-error");
    this.failure.setAttribute("role", "alert");
    this.head = element("div", "modelcompose-grid-head");
    this.caption = this.head.appendChild(element("span", "modelcompose-grid-caption"));
    this.bar = this.head.appendChild(element("progress"));
    this.bar.setAttribute("aria-label", t("Runs that have ended"));
    this.count = this.head.appendChild(element("span", "modelcompose-grid-count"));
    this.status = this.head.appendChild(element("span", "modelcompose-grid-status"));
    this.status.setAttribute("role", "status"); // the end alone is to be read aloud
    this.stop = button(t("Stop all"), () => send({ type: "stop" }), {
      title: t("Stop within a token, and begin no other; the texts stay"),
    });
    this.table = new GridTable((index) => send({ type: "open", cell: index }));
    root.append(...(this.form ? [this.form.element] : []), this.failure, this.head, this.table.element);
    this.begin();
    this.update();
  }

  /** Draw the form anew, whose words are others. */
  reform() {
    const choices = this.model.get("choices");
    const form = new GridForm(choices, this.model.get("quick"), this.send);
    this.form?.element.replaceWith(form.element);
    this.form = form;
  }

  begin() {
    const heads = this.model.get("heads");
    const hasGrid = Boolean(heads.rows?.length);
    this.head.hidden = this.table.element.hidden = !hasGrid;
    this.root.hidden = !hasGrid && !this.form;
    this.table.begin(hasGrid ? heads : { corner: [], columns: [], rows: [] });
    this.table.updateAll(this.grid.cells);
    // Who asked for it is to see it.
    if (hasGrid && this.wasEmpty) this.head.scrollIntoView?.({ block: "nearest" });
    this.wasEmpty = !hasGrid;
  }

  /** Everything but what cells say. */
  update() {
    const { done = 0, total = 0 } = this.model.get("progress");
    const goes = done < total;
    const hadFocus = this.stop === document.activeElement;
    show(this.failure, this.model.get("failure"));
    show(this.caption, this.model.get("caption"));
    show(this.count, goes ? this.model.get("status") : "");
    show(this.status, goes ? "" : this.model.get("status"));
    this.bar.hidden = !goes;
    this.bar.max = Math.max(1, total);
    this.bar.value = done;
    const always = [this.caption, this.bar, this.count, this.status];
    setChildren(this.head, [...always, ...(goes ? [this.stop] : [])]);
    if (hadFocus && !goes) this.table.focus();
    if (this.table.choose(this.model.get("opened"))) this.#showRun();
  }

  /** Have the run that was opened seen: in the panel around the table, or in the one below it. */
  #showRun() {
    const box = this.root.closest(".modelcompose-grid-box") ?? this.root.closest(".modelcompose-panel");
    const find = () => box?.querySelector(".modelcompose-run");
    const into = () => find()?.scrollIntoView?.({ block: "nearest" });
    if (find()) {
      into();
      return;
    }
    const drawn = new MutationObserver(() => {
      if (!find()) return;
      drawn.disconnect();
      requestAnimationFrame(into);
    });
    if (box) drawn.observe(box, { childList: true, subtree: true });
  }

  onKeydown(event) {
    if (this.root.contains(event.target)) keepKey(event);
  }
}

const GRID_UPDATES = ["progress", "status", "caption", "failure", "opened"]
  .map((name) => `change:${name}`)
  .join(" ");

const GRID_FORM = "change:choices change:quick";

export default () => {
  let grid;
  return {
    initialize({ model }) {
      speak(model);
      grid = new GridModel(model);
    },
    render({ el }) {
      const view = new GridView(grid, el);
      const { model } = grid;
      // One update for all that a message changes.
      let due = false;
      const update = () => {
        if (!due) queueMicrotask(() => ((due = false), view.update()));
        due = true;
      };
      const onKeydown = (event) => view.onKeydown(event);
      grid.views.add(view);
      if (grid.isLeft) grid.ask();
      grid.isLeft = false;
      const reform = () => view.reform();
      model.on(GRID_UPDATES, update);
      model.on(GRID_FORM, reform);
      window.addEventListener("keydown", onKeydown, true); // before the application's own keys
      return () => {
        grid.views.delete(view);
        view.table.dispose();
        model.off(GRID_UPDATES, update);
        model.off(GRID_FORM, reform);
        window.removeEventListener("keydown", onKeydown, true);
        setTimeout(() => grid.views.size || leaveGrid(grid), GRID_GONE_AFTER);
      };
    },
  };
};

/** Say that nobody looks any more, if there is a kernel to hear it. */
function leaveGrid(grid) {
  grid.isLeft = true;
  try {
    grid.model.send({ type: "gone" });
  } catch {
    // It was restarted, or is gone.
  }
}
