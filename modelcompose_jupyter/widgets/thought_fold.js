/** What a model thought before a text: folded above it, with a hint of it while it comes. */

import { element, standIn } from "./dom.js";
import { Following } from "./following.js";
import { t, tn } from "./words.js";

const HINT = 80; // characters

export class ThoughtFold {
  /** @param {Element} heading it comes behind it, once there is a thought */
  constructor(heading) {
    this.heading = heading;
    this.element = element("details", "modelcompose-thought");
    const summary = this.element.appendChild(element("summary"));
    summary.addEventListener("click", () => this.#draw(true)); // before it opens
    this.label = summary.appendChild(element("span"));
    this.hint = summary.appendChild(element("small"));
    this.hint.setAttribute("aria-hidden", "true"); // it changes all the time
    this.box = this.element.appendChild(element("div", "modelcompose-thought-box"));
    this.box.tabIndex = 0; // it may have to be scrolled
    this.box.setAttribute("role", "region");
    this.box.setAttribute("aria-label", t("Thoughts"));
    this.body = this.box.appendChild(element("div"));
    this.body.dir = "auto"; // as its first letters are written
    this.drawn = this.body.appendChild(document.createTextNode(""));
    this.end = new Following(this.box);
    this.text = "";
    this.tokens = null;
  }

  /** @param {{ text: string, tokens: number, thinks: boolean }} thought what there is of it by now */
  update({ text, tokens, thinks }) {
    if (!text.startsWith(this.text)) this.element.open = false; // it is another one
    this.text = text;
    if (!text) this.element.remove();
    else if (!this.element.parentNode) this.heading.after(this.element);
    this.element.classList.toggle("modelcompose-thinks", thinks);
    write(this.label, thinks ? t("Thinking…") : thoughtLabel(tokens));
    write(this.hint, thinks ? hintOf(text) : "");
    this.#draw();
    if (thinks && this.element.open) this.end.follow();
  }

  /** Show it as tokens, where there are any, in place of it as it is. */
  showTokens(tokens) {
    this.tokens = standIn(this.body, this.tokens, tokens);
  }

  /** Only what is looked at is drawn, and what is drawn already stays, with a selection in it. */
  #draw(isSeen = this.element.open) {
    if (!isSeen) return;
    const { data } = this.drawn;
    if (this.text.startsWith(data)) this.drawn.appendData(this.text.slice(data.length));
    else this.drawn.data = this.text;
  }
}

/** What the fold of a thought says; `thought_html.py` has the same. */
function thoughtLabel(tokens) {
  if (!tokens) return t("Thoughts");
  return tn("Thought for {count} token", "Thought for {count} tokens", tokens);
}

/** The end of a thought, from the beginning of a word on. */
function hintOf(text) {
  const line = text.trimEnd().slice(-2 * HINT).split("\n").at(-1);
  return line.length <= HINT ? line : `…${line.slice(-HINT).replace(/^\S*\s/, "")}`;
}

function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
