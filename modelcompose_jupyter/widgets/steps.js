/**
 * The jobs of a run as a diagram: how each is by now, which ways were taken, and what there is to say
 * of one of them. It is drawn once in a language; `steps.py` says what comes of it.
 *
 * @typedef {{ name: string, state: string, mark: string, words: string, details: string[],
 *   elapsed?: number }} StepNode
 * @typedef {{ state: string, mark: string, word: string, label: string, output: string,
 *   error: string }} StepRow
 * @typedef {{ total?: number, done?: number, anew?: boolean, rows: Record<string, StepRow> }} StepTable
 * @typedef {{ nodes: Record<string, StepNode>, edges: Record<string, string>,
 *   tables: Record<string, StepTable>, places: Record<string, [job: string, row: number]> }} Steps
 */

import { element, show } from "./dom.js";
import { t } from "./words.js";

/** @returns {Steps} what is known where there is no run */
export function stepsOf({ nodes = {}, edges = {}, tables = {}, places = {} } = {}) {
  const known = { nodes: {}, edges: {}, tables: {}, places: {} };
  addSteps(known, { nodes, edges, tables, places });
  return known;
}

/** Add what has changed to what is known. */
export function addSteps(known, { nodes = {}, edges = {}, tables = {}, places = {} }) {
  Object.assign(known.nodes, nodes);
  Object.assign(known.edges, edges);
  Object.assign(known.places, places);
  for (const [job, { rows, anew, ...counts }] of Object.entries(tables)) {
    const table = (known.tables[job] ??= { rows: {} });
    if (anew) table.rows = {};
    Object.assign(table.rows, rows);
    Object.assign(table, counts);
  }
}

export class StepsView {
  /** @param {string} picture as SVG, made safe where it was drawn */
  constructor(picture) {
    this.element = element("details", "modelcompose-steps");
    this.element.open = true;
    const line = this.element.appendChild(element("summary"));
    line.append(t("Steps"));
    this.said = line.appendChild(element("small"));
    this.box = this.element.appendChild(element("div", "modelcompose-steps-picture"));
    this.box.innerHTML = picture;
    this.chosenBox = this.element.appendChild(element("div", "modelcompose-step"));
    this.chosenBox.setAttribute("role", "status");
    this.chosenBox.hidden = true;
    this.chosen = "";
    this.nodes = new Map();
    this.heard = new Map();
    const svg = this.box.querySelector("svg");
    svg.setAttribute("role", "group");
    svg.setAttribute("aria-label", t("Steps"));
    for (const drawn of svg.querySelectorAll("[data-node]")) this.#begin(drawn);
    this.edges = new Map([...svg.querySelectorAll("[data-edge]")].map((each) => [each.dataset.edge, each]));
    this.first = [...this.nodes.values()][0];
    this.first?.drawn.setAttribute("tabindex", "0");
  }

  #begin(drawn) {
    const key = drawn.dataset.node;
    const words = drawn.querySelector("[data-words]");
    const name = drawn.querySelector("text").firstChild.textContent.trim();
    this.nodes.set(key, { drawn, name, words, mark: words.previousElementSibling });
    drawn.setAttribute("role", "button"); // called what is written in it
    drawn.setAttribute("tabindex", "-1");
    drawn.setAttribute("aria-pressed", "false");
    drawn.addEventListener("click", () => this.#choose(key));
    drawn.addEventListener("keydown", (event) => this.#onKey(event, key));
    drawn.addEventListener("focus", () => this.#rove(key));
  }

  /** Show what is known of a run; of another one than before all is drawn anew. */
  update(known) {
    for (const [key, node] of this.nodes) this.#show(key, node, known.nodes[key]);
    for (const [key, drawn] of this.edges) {
      const state = known.edges[key] ?? "open";
      if (drawn.dataset.state !== state) drawn.dataset.state = state;
    }
    show(this.said, summaryOf(Object.values(known.nodes)));
    this.#showChosen();
  }

  /** @param {StepNode | undefined} known */
  #show(key, node, known) {
    if (node.known === known) return;
    node.known = known;
    if (known) node.drawn.dataset.state = known.state;
    else delete node.drawn.dataset.state;
    node.mark.textContent = known?.mark ?? "";
    if (known?.state === "running") this.#bringIntoView(node.drawn);
    if (known?.elapsed === undefined) this.heard.delete(key);
    else this.heard.set(key, performance.now() - 1000 * known.elapsed);
    node.words.textContent = this.#words(key, node);
  }

  /** Have what goes on seen, within the picture's own box, unless somebody looks at it there. */
  #bringIntoView(drawn) {
    if (this.box.matches(":hover, :focus-within")) return;
    const [seen, own] = [this.box.getBoundingClientRect(), drawn.getBoundingClientRect()];
    if (own.top < seen.top || own.bottom > seen.bottom) {
      this.box.scrollTop += (own.top + own.bottom - seen.top - seen.bottom) / 2;
    }
    if (own.left < seen.left || own.right > seen.right) {
      this.box.scrollLeft += (own.left + own.right - seen.left - seen.right) / 2;
    }
  }

  /** What is said of a job beside its mark, with the seconds that it has taken so far. */
  #words(key, { known }) {
    const began = this.heard.get(key);
    const seconds = began === undefined ? 0 : Math.floor((performance.now() - began) / 1000);
    return [known?.words ?? "", seconds ? t("{seconds} s", { seconds }) : ""].filter(Boolean).join(" · ");
  }

  tick() {
    for (const key of this.heard.keys()) {
      const node = this.nodes.get(key);
      const words = this.#words(key, node);
      if (node.words.textContent !== words) node.words.textContent = words;
    }
  }

  #choose(key) {
    this.nodes.get(this.chosen)?.drawn.setAttribute("aria-pressed", "false");
    this.chosen = this.chosen === key ? "" : key;
    this.nodes.get(this.chosen)?.drawn.setAttribute("aria-pressed", "true");
    this.#showChosen();
  }

  #showChosen() {
    const node = this.nodes.get(this.chosen);
    const lines = node ? [node.name, ...(node.known?.details ?? [t("It has not run yet.")])] : [];
    const text = lines.join("\n");
    if (text === this.shownText) return;
    this.shownText = text;
    this.chosenBox.hidden = !node;
    const [name, ...others] = lines.map((line, place) => element(place ? "div" : "strong", "", line));
    this.chosenBox.replaceChildren(...(node ? [name, ...others] : []));
  }

  #rove(key) {
    for (const [other, { drawn }] of this.nodes) drawn.setAttribute("tabindex", other === key ? "0" : "-1");
  }

  #onKey(event, key) {
    if (event.altKey || event.metaKey || event.ctrlKey) return;
    const keys = [...this.nodes.keys()];
    const place = keys.indexOf(key);
    const steps = {
      ArrowLeft: place - 1,
      ArrowUp: place - 1,
      ArrowRight: place + 1,
      ArrowDown: place + 1,
      Home: 0,
      End: keys.length - 1,
    };
    const presses = ["Enter", " "].includes(event.key);
    if (!presses && !(event.key in steps)) return;
    event.preventDefault();
    event.stopPropagation();
    if (presses) this.#choose(key);
    else this.nodes.get(keys[steps[event.key]])?.drawn.focus();
  }
}

const COUNTED = {
  failed: (count) => t("{count} failed", { count }),
  skipped: (count) => t("{count} skipped", { count }),
  cancelled: (count) => t("{count} cancelled", { count }),
};

/** How far all of it is, for those who have folded it away. */
function summaryOf(nodes) {
  const ended = nodes.filter(({ state }) => ["completed", "recovered"].includes(state)).length;
  const others = Object.entries(COUNTED).map(([state, words]) => {
    const count = nodes.filter((node) => node.state === state).length;
    return count ? words(count) : "";
  });
  if (!nodes.length) return "";
  const done = t("{ended} of {total} done", { ended, total: nodes.length });
  return [done, ...others].filter(Boolean).join(", ");
}
