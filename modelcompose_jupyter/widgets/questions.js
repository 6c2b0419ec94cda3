/** What a run asks people: each question with what it is about, and a form for its answer. */

import { button, element, setChildren, show } from "./dom.js";
import { moment, t } from "./words.js";

const MOST_BUTTONS = 6; // of more choices one is chosen from a list
const LONGEST_BUTTON = 40; // characters

// Each widget has this module for itself: ids that begin so are unique in the page all the same.
const QUESTION_IDS = `modelcompose-question-${Math.random().toString(36).slice(2)}`;
let questionIds = 0;

/**
 * @typedef {{ id: string, job: string, message: string, html: string, metadata: string[][],
 *   text: string, json: boolean, choices: string[], until: number }} Question
 */

/** One question. */
class QuestionForm {
  /**
   * @param {Question} question
   * @param {(answer: object) => void} answer gets `text`, `choice`, or neither to go on as it is
   * @param {() => import("./markdown.js").MarkdownView} markdown
   */
  constructor(question, answer, markdown) {
    this.answer = answer;
    this.element = element("form", "modelcompose-question");
    this.element.noValidate = true;
    this.element.tabIndex = -1;
    const heading = this.element.appendChild(element("div", "modelcompose-question-head"));
    heading.id = `${QUESTION_IDS}-${questionIds++}`;
    this.element.setAttribute("aria-labelledby", heading.id);
    this.message = markdown();
    this.message.update(question.message || t("Go on with this?"), { html: question.html });
    const until = new Date(question.until);
    const time = moment(until, { hour: "2-digit", minute: "2-digit" });
    const about = [question.job, t("open until {time}", { time })].filter(Boolean).join(" · ");
    heading.append(this.message.element, element("small", "", about));
    if (question.metadata.length) this.element.append(metadataTable(question.metadata));
    this.error = element("p", "modelcompose-question-error");
    this.error.setAttribute("role", "alert");
    this.error.hidden = true;
    this.controls = element("div", "modelcompose-question-controls");
    if (question.choices.length) this.#choose(question);
    else this.#edit(question);
    this.element.append(this.error, this.controls);
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#go();
    });
    this.element.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.isComposing) return;
      event.preventDefault();
      event.stopPropagation();
      this.#go();
    });
  }

  /** The value in question, to be changed. */
  #edit({ text, json }) {
    const label = this.element.appendChild(element("label"));
    label.append(element("span", "", json ? t("Value, as JSON") : t("Text")));
    this.field = label.appendChild(element("textarea"));
    this.field.value = text;
    this.field.rows = Math.min(12, Math.max(2, text.split("\n").length, Math.ceil(text.length / 70)));
    this.field.dir = "auto";
    this.field.classList.toggle("modelcompose-json", json);
    this.given = () => {
      if (this.field.value === text) return {};
      if (json) JSON.parse(this.field.value);
      return { text: this.field.value };
    };
    this.field.addEventListener("input", () => this.#say(""));
    this.#addContinue(t("Go on with what stands here"));
  }

  /** One of some answers: a button for each, or a list where these are many. */
  #choose({ text, choices }) {
    if (text) {
      const value = this.element.appendChild(element("div", "modelcompose-question-value", text));
      value.dir = "auto";
    }
    if (choices.length <= MOST_BUTTONS && choices.every((each) => each.length <= LONGEST_BUTTON)) {
      const buttons = choices.map((each, choice) => button(each, () => this.answer({ choice })));
      this.controls.append(...buttons);
      this.given = () => ({});
      this.#addContinue(t("Go on as it is"), "modelcompose-quiet");
      return;
    }
    const list = element("select");
    list.setAttribute("aria-label", t("Answer"));
    list.append(element("option", "", t("As it is")), ...choices.map((each) => element("option", "", each)));
    this.controls.append(list);
    this.given = () => (list.selectedIndex > 0 ? { choice: list.selectedIndex - 1 } : {});
    this.#addContinue(t("Go on with this answer"));
  }

  #addContinue(title, className = "modelcompose-primary") {
    const made = button(t("Continue"), () => {}, { title, className: `modelcompose-button ${className}` });
    made.type = "submit";
    this.controls.append(made);
  }

  #go() {
    let given;
    try {
      given = this.given();
    } catch (error) {
      this.#say(t("This is no JSON: {error}. A text stands in quotes.", { error: error.message }));
      this.field.focus();
      return;
    }
    this.answer(given);
  }

  #say(text) {
    show(this.error, text);
    if (text) this.field.setAttribute("aria-invalid", "true");
    else this.field.removeAttribute("aria-invalid");
  }

  /** Of choices none gets the focus: the next Enter would be an answer that nobody meant. */
  focus() {
    (this.field ?? this.element).focus();
  }

  dispose() {
    this.message.dispose();
  }
}

/** Questions one below the other; what is typed into one stays while others come. */
export class Questions {
  /**
   * @param {(question: string, answer: object) => void} answer
   * @param {() => import("./markdown.js").MarkdownView} markdown
   */
  constructor(answer, markdown) {
    this.answer = answer;
    this.markdown = markdown;
    this.element = element("div", "modelcompose-questions");
    this.forms = new Map();
  }

  /**
   * @param {string} run its id
   * @param {Question[]} questions
   * @returns {QuestionForm | null} the first form that is new
   */
  update(run, questions) {
    const before = this.forms;
    let fresh = null;
    this.forms = new Map();
    for (const question of questions) {
      const key = `${run} ${question.id}`;
      const known = before.get(key);
      const form =
        known ?? new QuestionForm(question, (given) => this.answer(question.id, given), this.markdown);
      if (!known) fresh ??= form;
      this.forms.set(key, form);
    }
    for (const [key, form] of before) if (!this.forms.has(key)) form.dispose();
    setChildren(this.element, [...this.forms.values()].map((form) => form.element));
    this.element.hidden = questions.length === 0;
    return fresh;
  }
}

function metadataTable(rows) {
  const table = element("table", "modelcompose-question-metadata");
  for (const [key, text] of rows) {
    const row = table.insertRow();
    const head = row.appendChild(element("th", "", key));
    head.scope = "row";
    row.insertCell().append(element("span", "", text));
  }
  return table;
}

/**
 * The run that waits for answers, which a tab of a page keeps: a page that is loaded again has
 * another kernel, and finds the run by it.
 */
export class RunKeeper {
  /** @param {string} name of the page and its workflow */
  constructor(name) {
    this.key = `modelcompose-run:${name}`;
  }

  read() {
    try {
      return sessionStorage.getItem(this.key);
    } catch {
      return null; // none is allowed: the page works without
    }
  }

  /** @param {string} id of the run; empty for none */
  write(id) {
    try {
      if (id) sessionStorage.setItem(this.key, id);
      else sessionStorage.removeItem(this.key);
    } catch {
      // as above
    }
  }
}
