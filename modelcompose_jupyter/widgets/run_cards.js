/** Runs to go back to, to keep, and to put side by side. */

import { button, element } from "./dom.js";
import { t } from "./words.js";

/**
 * @typedef {object} Card a run in the list
 * @property {string} id
 * @property {string} time when it began
 * @property {string} title what it was given first
 * @property {string[]} details what else tells it from the others
 * @property {string} status how it ended
 * @property {boolean} pinned whether it stays in the list
 *
 * @typedef {object} Column a run beside others
 * @property {string} id
 * @property {string} label
 * @property {[kind: "same" | "other", text: string][]} parts
 */

export class RunCards {
  /** @param {(message: object) => void} send to the kernel */
  constructor(send) {
    this.send = send;
    this.chosen = new Set();
    this.element = element("section", "modelcompose-runs");
    this.element.setAttribute("aria-label", t("Runs"));
    const head = this.element.appendChild(element("div", "modelcompose-runs-head"));
    head.append(element("h4", "", t("Runs")));
    this.compare = button(t("Compare"), () => this.#compare(), {
      title: t("Put the chosen runs side by side"),
    });
    head.append(this.compare);
    this.beside = this.element.appendChild(element("div", "modelcompose-beside"));
    const title = this.beside.appendChild(element("div", "modelcompose-runs-head"));
    title.append(
      element("h4", "", t("Side by side")),
      button(t("Close"), () => send({ type: "compare", runs: [] }), { title: t("Put them away") }),
    );
    this.columns = this.beside.appendChild(element("div", "modelcompose-compared"));
    this.columns.setAttribute("aria-live", "off");
    this.list = this.element.appendChild(element("ul"));
  }

  /**
   * @param {Card[]} cards the latest first
   * @param {string} current the id of the run in view
   * @param {Column[]} compared
   */
  update(cards, current, compared) {
    const known = new Set(cards.map(({ id }) => id));
    for (const id of this.chosen) if (!known.has(id)) this.chosen.delete(id);
    this.element.hidden = cards.length < 2 && !compared.length;
    const focused = document.activeElement?.closest?.(".modelcompose-card")?.dataset.run;
    const name = document.activeElement?.dataset?.name;
    // What is equal to before stays, with the button that is being pressed and what is selected.
    if (cards !== this.shownCards || current !== this.shownCurrent) {
      this.list.replaceChildren(...cards.map((card) => this.#card(card, card.id === current)));
      this.#focus(focused, name);
    }
    this.list.hidden = cards.length < 2;
    this.compare.hidden = cards.length < 2;
    this.#countChosen();
    this.beside.hidden = !compared.length;
    if (compared !== this.shownCompared) {
      this.columns.replaceChildren(...this.#columns(compared));
      // Who asked for them is to see them.
      if (compared.length && this.shownCompared) this.beside.scrollIntoView?.({ block: "nearest" });
    }
    [this.shownCards, this.shownCurrent, this.shownCompared] = [cards, current, compared];
  }

  #focus(run, name) {
    if (!run || !name) return;
    const found = this.list.querySelector(`[data-run="${run}"] [data-name="${name}"]`);
    found?.focus({ preventScroll: true });
  }

  #card({ id, time, title, details, status, pinned }, isCurrent) {
    const card = element("li", "modelcompose-card");
    card.dataset.run = id;
    if (isCurrent) card.setAttribute("aria-current", "true");
    const choose = element("input");
    choose.type = "checkbox";
    choose.dataset.name = "choose";
    choose.checked = this.chosen.has(id);
    choose.setAttribute("aria-label", t("Choose {title}, {time}", { title, time }));
    choose.addEventListener("change", () => {
      if (choose.checked) this.chosen.add(id);
      else this.chosen.delete(id);
      this.#countChosen();
    });
    const open = button("", () => this.send({ type: "show", run: id }), {
      className: "modelcompose-card-open",
      title: t("Show this run, with its inputs"),
    });
    open.dataset.name = "open";
    open.append(element("strong", "", title));
    if (details.length) open.append(element("span", "", details.join(" · ")));
    open.append(element("small", "", `${time} · ${status}`));
    const pin = button("", () => this.send({ type: "pin", run: id, pinned: !pinned }), {
      className: "modelcompose-pin",
      title: pinned ? t("Let it go when there are many") : t("Keep it, however many runs follow"),
    });
    pin.dataset.name = "pin";
    pin.textContent = pinned ? "★" : "☆";
    pin.setAttribute("aria-label", t("Pin"));
    pin.setAttribute("aria-pressed", String(pinned));
    card.append(choose, open, pin);
    return card;
  }

  #countChosen() {
    this.compare.disabled = this.chosen.size < 2;
  }

  #compare() {
    this.send({ type: "compare", runs: [...this.chosen] });
  }

  #columns(compared) {
    return compared.map(({ label, parts }) => {
      const column = element("article");
      column.append(element("h5", "", label));
      const text = column.appendChild(element("div", "modelcompose-compared-text"));
      text.dir = "auto";
      text.append(...parts.map(([kind, piece]) => element(kind === "same" ? "span" : "mark", "", piece)));
      return column;
    });
  }
}
