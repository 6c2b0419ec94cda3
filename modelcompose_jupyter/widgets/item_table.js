/** The elements that a job goes through as a table that fills: each with its texts, as they come. */

import { button, element, show } from "./dom.js";
import { t } from "./words.js";

const ROWS_AT_ONCE = 100; // of which the page takes no notice; a thousand it would
const WAITING = { state: "pending", mark: "○", word: "waiting", label: "", output: "", error: "" };

/** One element: which, how it is, what it is, and what comes of it. */
class ItemRow {
  constructor(index) {
    this.element = element("tr");
    const head = this.element.appendChild(element("th", "", String(index + 1)));
    head.scope = "row";
    this.label = this.element.appendChild(element("td", "modelcompose-item-label"));
    this.label.dir = "auto";
    const state = this.element.appendChild(element("td", "modelcompose-item-state"));
    this.mark = state.appendChild(element("i"));
    this.mark.setAttribute("aria-hidden", "true");
    this.word = state.appendChild(element("span"));
    const result = this.element.appendChild(element("td", "modelcompose-item-result"));
    this.texts = result.appendChild(element("div"));
    this.output = result.appendChild(element("div", "modelcompose-item-output"));
    this.output.dir = "auto";
    this.error = result.appendChild(element("div", "modelcompose-item-error"));
    this.error.dir = "auto";
  }

  /** @param {import("./steps.js").StepRow} row */
  update(row) {
    if (row === this.shown) return;
    this.shown = row;
    this.element.dataset.state = row.state;
    if (this.label.textContent !== row.label) this.label.textContent = row.label;
    this.label.title = row.label;
    this.mark.textContent = row.mark;
    this.word.textContent = row.word;
    show(this.output, row.output);
    show(this.error, row.error);
  }
}

export class ItemTable {
  /** @param {string} job @param {() => void} onMore rows have come for texts that had none */
  constructor(job, onMore) {
    this.element = element("section", "modelcompose-items");
    const line = this.element.appendChild(element("h4", "", job));
    this.count = line.appendChild(element("small"));
    const table = this.element.appendChild(element("table"));
    table.setAttribute("aria-label", job);
    const top = table.appendChild(element("thead")).appendChild(element("tr"));
    for (const name of ["", t("Item"), t("State"), t("Result")]) {
      const head = top.appendChild(element("th", "", name));
      head.scope = "col";
    }
    this.body = table.appendChild(element("tbody"));
    this.rows = [];
    this.most = ROWS_AT_ONCE;
    this.more = button("", () => {
      this.most += ROWS_AT_ONCE;
      this.update(this.known);
      onMore();
    });
    this.more.hidden = true;
    this.element.append(this.more);
  }

  /** @param {import("./steps.js").StepTable} known */
  update(known) {
    this.known = known;
    const { total = 0, done = 0, rows } = known;
    const count = Math.max(total, ...Object.keys(rows).map((each) => Number(each) + 1));
    const shown = Math.min(count, this.most);
    while (this.rows.length > shown) this.rows.pop().element.remove();
    while (this.rows.length < shown) {
      const row = new ItemRow(this.rows.length);
      this.rows.push(row);
      this.body.append(row.element);
    }
    this.rows.forEach((row, index) => row.update(rows[index] ?? WAITING));
    const failed = Object.values(rows).filter(({ error }) => error).length;
    const parts = [total ? t("{done} of {total} items", { done, total }) : ""];
    parts.push(failed ? t("{failed} with errors", { failed }) : "");
    show(this.count, parts.filter(Boolean).join(" · "));
    show(this.more, count > shown ? t("and {more} more", { more: count - shown }) : "");
  }

  /** Where the texts of a row go; null while it is not shown. */
  cell(index) {
    return this.rows[index]?.texts ?? null;
  }
}
