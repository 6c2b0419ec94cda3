/** The table of a grid: heads, and cells whose texts grow in place. */

import { element, show } from "./dom.js";
import { t } from "./words.js";

/**
 * @typedef {object} Heads
 * @property {string[]} corner what varies from row to row
 * @property {[name: string, label: string][]} columns
 * @property {[label: string, span: number][][]} rows the labels that begin at each row
 */

/** One cell: its text, which is cut where there is more of it than fits, and how it ended. */
class GridCell {
  /** @param {string} head of its column; empty where there is none */
  constructor(head) {
    this.element = element("td");
    if (head) this.element.dataset.head = head;
    this.element.setAttribute("role", "gridcell");
    this.element.tabIndex = -1;
    this.box = this.element.appendChild(element("div", "modelcompose-grid-text"));
    this.body = this.box.appendChild(element("div"));
    this.body.dir = "auto"; // as its first letters are written
    this.error = this.element.appendChild(element("p", "modelcompose-grid-error"));
    this.foot = this.element.appendChild(element("small"));
    this.text = "";
    this.marks = "";
  }

  /** @param {{text: string} & import("./grid_view.js").Info} cell */
  update({ text, state, foot, error, marks }) {
    this.element.dataset.state = state;
    show(this.error, error);
    show(this.foot, foot);
    const key = JSON.stringify(marks);
    if (key !== this.marks) {
      this.body.replaceChildren(...pieces(text, marks));
    } else if (!marks.length && text.startsWith(this.text) && this.body.firstChild) {
      this.body.firstChild.appendData(text.slice(this.text.length));
    } else if (text !== this.text) {
      this.body.replaceChildren(...pieces(text, marks));
    }
    [this.text, this.marks] = [text, key];
  }

  get isLonger() {
    return this.box.scrollHeight > this.box.clientHeight + 1;
  }
}

/** A text in nodes, those marked that differ. */
function pieces(text, marks) {
  const found = [];
  let end = 0;
  for (const [from, to] of marks) {
    found.push(document.createTextNode(text.slice(end, from)));
    found.push(element("mark", "", text.slice(from, to)));
    end = to;
  }
  return [...found, document.createTextNode(text.slice(end))];
}

export class GridTable {
  /** @param {(index: number) => void} open a cell was chosen */
  constructor(open) {
    this.open = open;
    this.element = element("div", "modelcompose-grid-scroll");
    this.table = this.element.appendChild(element("table"));
    this.table.setAttribute("role", "grid");
    this.table.setAttribute("aria-label", t("Runs"));
    this.table.setAttribute("aria-readonly", "true");
    this.table.setAttribute("aria-live", "off"); // texts in the making are not to be read aloud
    this.cells = [];
    this.chosen = -1;
    this.table.addEventListener("click", (event) => this.#onClick(event));
    this.table.addEventListener("keydown", (event) => this.#onKey(event));
    this.table.addEventListener("focusin", (event) => this.#onFocus(event));
    this.unmeasured = new Set();
    const measure = () => this.#measureSoon(this.cells.keys());
    this.sizes = typeof ResizeObserver === "undefined" ? null : new ResizeObserver(measure);
    this.sizes?.observe(this.element);
  }

  dispose() {
    this.sizes?.disconnect();
  }

  /** @param {Heads} heads */
  begin({ corner, columns, rows }) {
    this.width = columns.length;
    this.table.style.setProperty("--mc-columns", String(this.width)); // all are as wide
    this.cells = [];
    this.chosen = -1;
    this.element.toggleAttribute("data-nested", corner.length > 1);
    const head = element("thead");
    const top = head.appendChild(element("tr"));
    top.append(...corner.map((name) => columnHead("", name)));
    top.append(...columns.map(([name, label]) => columnHead(name, label)));
    const body = element("tbody");
    for (const labels of rows) {
      const row = body.appendChild(element("tr"));
      row.setAttribute("role", "row"); // however it is laid out
      const names = corner.slice(corner.length - labels.length); // the outer ones go on
      row.append(...labels.map(([label, span], depth) => rowHead(names[depth], label, span)));
      for (const [name, label] of columns) {
        const cell = new GridCell(name && `${name} ${label}`);
        this.cells.push(cell);
        row.append(cell.element);
      }
    }
    if (this.cells.length) this.cells[0].element.tabIndex = 0;
    this.table.replaceChildren(head, body);
  }

  updateAll(cells) {
    if (cells.length === this.cells.length) this.update(cells, cells.keys());
  }

  /** @param {Iterable<number>} changed which of the cells */
  update(cells, changed) {
    const indices = [...changed].filter((index) => index < this.cells.length);
    for (const index of indices) this.cells[index].update(cells[index]);
    this.#measureSoon(indices);
  }

  /** See which cells have more text than fits: all of them at once, since it costs a layout. */
  #measureSoon(indices) {
    if (!this.unmeasured.size) requestAnimationFrame(() => this.#measure());
    for (const index of indices) this.unmeasured.add(index);
  }

  #measure() {
    const cells = [...this.unmeasured].map((index) => this.cells[index]).filter(Boolean);
    this.unmeasured.clear();
    const longer = cells.map((cell) => cell.isLonger);
    cells.forEach((cell, i) => cell.element.toggleAttribute("data-longer", longer[i]));
  }

  /** Mark the cell whose run is in view; tells whether it is another one than before. */
  choose(index) {
    if (index === this.chosen) return false;
    this.cells[this.chosen]?.element.removeAttribute("aria-selected");
    this.cells[index]?.element.setAttribute("aria-selected", "true");
    this.chosen = index;
    return index >= 0;
  }

  focus() {
    this.table.querySelector("td[tabindex='0']")?.focus({ preventScroll: true });
  }

  #indexOf(node) {
    const element_ = node.closest?.("td");
    return this.cells.findIndex((cell) => cell.element === element_);
  }

  #onFocus({ target }) {
    const index = this.#indexOf(target);
    if (index < 0) return;
    for (const cell of this.cells) cell.element.tabIndex = -1;
    this.cells[index].element.tabIndex = 0;
  }

  #onClick({ target }) {
    const index = this.#indexOf(target);
    const selects = !document.getSelection().isCollapsed; // what is copied is not opened
    if (index >= 0 && !selects) this.open(index);
  }

  #onKey(event) {
    const index = this.#indexOf(event.target);
    if (index < 0 || event.altKey || event.metaKey) return;
    const row = Math.floor(index / this.width) * this.width;
    const last = this.cells.length - 1;
    const steps = {
      ArrowLeft: Math.max(row, index - 1),
      ArrowRight: Math.min(row + this.width - 1, index + 1),
      ArrowUp: index < this.width ? index : index - this.width,
      ArrowDown: index + this.width > last ? index : index + this.width,
      Home: event.ctrlKey ? 0 : row,
      End: event.ctrlKey ? last : row + this.width - 1,
    };
    const opens = ["Enter", " "].includes(event.key);
    if (!opens && !(event.key in steps)) return;
    event.preventDefault();
    if (opens) this.open(index);
    else this.cells[steps[event.key]].element.focus();
  }
}

function columnHead(name, label) {
  const head = element("th");
  head.scope = "col";
  if (name) head.append(element("small", "", name), " ");
  head.append(element("span", "", label));
  head.dir = "auto";
  return head;
}

function rowHead(name, label, span) {
  const head = element("th");
  head.scope = "row";
  head.setAttribute("role", "rowheader");
  head.rowSpan = span;
  head.dataset.head = name;
  const text = head.appendChild(element("div", "", label));
  text.dir = "auto";
  text.title = label;
  return head;
}
