/** The form above a grid: which inputs vary, and by which values. */

import { button, element } from "./dom.js";
import { t } from "./words.js";

/**
 * @typedef {object} Choice an input that may vary
 * @property {string} name
 * @property {string} label
 * @property {"numbers" | "lines" | "options"} kind how its values are entered
 * @property {string[]} options those of a menu
 * @property {string} values to begin with
 */

const NOTHING_ELSE = t("nothing else");

/** One input and its values. */
class AxisFields {
  /** @param {Choice[]} choices @param {boolean} isOptional whether nothing may be chosen */
  constructor(choices, isOptional, onChange) {
    this.choices = choices;
    this.onChange = onChange;
    this.element = element("div", "modelcompose-axis");
    this.select = this.element.appendChild(element("select"));
    this.select.setAttribute("aria-label", isOptional ? t("And what else varies") : t("What varies"));
    if (isOptional) this.select.append(new Option(NOTHING_ELSE, ""));
    this.select.append(...choices.map(({ name, label }) => new Option(label, name)));
    this.select.addEventListener("change", () => this.#choose());
    this.#choose();
  }

  get choice() {
    return this.choices.find(({ name }) => name === this.select.value);
  }

  /** @returns {string[]} the values, as they are entered */
  get values() {
    if (!this.choice) return [];
    if (this.choice.kind === "options") {
      return [...this.field.querySelectorAll("input:checked")].map(({ value }) => value);
    }
    const separator = this.choice.kind === "numbers" ? /[\s,;]+/ : /\n/;
    return this.field.value.split(separator).filter((value) => value.trim());
  }

  #choose() {
    this.field?.remove();
    this.field = this.choice ? this.#field(this.choice) : null;
    if (this.field) this.element.append(this.field);
    this.onChange();
  }

  #field({ label, kind, options, values }) {
    if (kind === "options") return this.#boxes(label, options);
    const isLine = kind === "numbers";
    const field = element(isLine ? "input" : "textarea");
    field.value = values;
    field.placeholder = isLine ? t("With commas between") : t("One a line");
    field.setAttribute("aria-label", t("Values of {label}", { label }));
    field.addEventListener("input", this.onChange);
    return field;
  }

  #boxes(label, options) {
    const group = element("div", "modelcompose-axis-options");
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", t("Values of {label}", { label }));
    for (const option of options) {
      const line = group.appendChild(element("label"));
      const box = line.appendChild(element("input"));
      box.type = "checkbox";
      box.value = option;
      box.checked = true;
      box.addEventListener("change", this.onChange);
      line.append(option);
    }
    return group;
  }
}

export class GridForm {
  /**
   * @param {Choice[]} choices the one to begin with first
   * @param {string} quick what a grid is called that is one click away; empty where there is none
   * @param {(message: object) => void} send to the kernel
   */
  constructor(choices, quick, send) {
    this.send = send;
    this.element = element("div", "modelcompose-grid-form");
    this.toggle = button(t("Compare values"), () => this.#fold(!this.body.hidden), {
      className: "modelcompose-grid-fold",
    });
    this.quick = button(quick, () => send({ type: "quick" }), {
      title: t("Run with each of them, with one seed"),
    });
    const head = this.element.appendChild(element("div", "modelcompose-runs-head"));
    head.append(this.toggle, ...(quick ? [this.quick] : []));
    this.body = this.element.appendChild(element("div", "modelcompose-axes"));
    this.run = button("", () => this.#run(), { className: "modelcompose-button modelcompose-primary" });
    const update = () => this.#count();
    this.axes = [];
    this.axes = [new AxisFields(choices, false, update)];
    if (choices.length > 1) this.axes.push(new AxisFields(choices, true, update));
    this.body.append(...this.axes.map((each) => each.element), this.run);
    this.body.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.isComposing) return;
      event.preventDefault();
      this.#run();
    });
    this.#count();
    this.#fold(true);
  }

  #fold(isFolded) {
    this.body.hidden = isFolded;
    this.toggle.setAttribute("aria-expanded", String(!isFolded));
  }

  get #chosen() {
    const names = new Set();
    return this.axes.filter(({ choice }) => choice && !names.has(choice.name) && names.add(choice.name));
  }

  #count() {
    const total = this.#chosen.reduce((product, { values }) => product * values.length, 1);
    this.run.textContent = total === 1 ? t("Run it") : t("Run {total} together", { total });
    this.run.disabled = total === 0;
  }

  #run() {
    if (this.run.disabled) return;
    const axes = this.#chosen.map(({ choice, values }) => [choice.name, values]);
    this.send({ type: "grid", axes });
  }
}
