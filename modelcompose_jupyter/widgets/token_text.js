/** Texts as their tokens, each coloured by its probability. */

import { element } from "./dom.js";
import { OF_MODEL, percent, probabilityOf, spoken, stepOf, visible } from "./token_words.js";
import { t } from "./words.js";

/** @typedef {import("./token_words.js").Group} Group */

const BREAKS = /^\s*\n\s*$/;
const LEADING = /^ +(?=\S)/; // it stays without colour: at the end of a line it would be a stripe

/** The texts of a run as tokens, as far as these are known. */
export class TokenTexts {
  /** @param {import("./token_popover.js").TokenPopover} popover */
  constructor(popover) {
    this.popover = popover;
    this.which = OF_MODEL;
    this.texts = [];
    this.parting = [];
  }

  /**
   * Begin anew.
   *
   * @param {{ start: number, groups: Group[] }[]} known of each text
   * @param {[text: number, token: number] | []} parting where one parts from that of another run
   */
  reset(known, parting) {
    this.popover.close();
    this.texts = [];
    this.parting = parting;
    known.forEach(({ start, groups }, index) => this.put(index, start, 0, groups));
  }

  /** What stands at a place among the groups of a text; nothing is behind it. */
  put(index, start, offset, groups) {
    const parting = this.parting[0] === index ? this.parting[1] : -1;
    this.texts[index] ??= new TokenText(index, start, this.popover, this.which, parting);
    this.texts[index].put(offset, groups);
  }

  /** @returns {TokenText | null} a text as tokens, if these are known */
  of(index) {
    return this.texts[index] ?? null;
  }

  /** Take what the texts are by now. */
  frame(texts) {
    for (const each of this.texts) each?.frame(texts[each.index] ?? "");
  }

  /** Have the focus where a text parts from another run's; whether it does, and does so by now. */
  focusParting() {
    const text = this.of(this.parting[0]);
    const place = text ? text.partingPlace : -1;
    if (place >= 0) text.focus(place, { quiet: true });
    return place >= 0;
  }

  /** Show the probabilities of the model, or those of the draw. */
  choose(which) {
    this.which = which;
    this.popover.close();
    for (const text of this.texts) text?.choose(which);
  }
}

/**
 * One text. What was drawn stays as it is while more comes, with a selection in it. Its lines are
 * blocks, so that those that are out of sight cost nothing.
 */
class TokenText {
  /**
   * @param {number} index of the text
   * @param {number} start the character where its tokens begin
   * @param {import("./token_popover.js").TokenPopover} popover
   * @param {number} which of the probabilities is shown
   * @param {number} parting the token where it parts from another run's text; -1 for none
   */
  constructor(index, start, popover, which, parting) {
    this.index = index;
    this.start = start;
    this.popover = popover;
    this.which = which;
    this.parting = parting;
    this.element = element("div", "modelcompose-tokens");
    this.element.dir = "auto"; // as its first letters are written
    this.before = null; // the text before the tokens, once it is known
    this.rest = element("span");
    this.groups = [];
    this.spans = [];
    this.places = new WeakMap();
    this.current = 0;
    this.isQuiet = false;
    this.#listen();
  }

  put(offset, groups) {
    this.rest.remove();
    if (offset < this.spans.length) this.popover.lose(this, offset);
    for (const span of this.spans.splice(offset)) {
      if (span.previousSibling?.nodeType === Node.TEXT_NODE) span.previousSibling.remove();
      span.remove();
    }
    this.groups.splice(offset, Infinity, ...groups);
    this.#draw();
  }

  /** Take what the text is by now: some of it may be before its tokens, and some behind them. */
  frame(text) {
    if (this.before === null || !text.startsWith(this.before)) {
      const before = [...text.slice(0, 2 * this.start)].slice(0, this.start);
      if (before.length < this.start) return; // it is still to come, and the tokens wait for it
      this.#begin(before.join(""));
    }
    const length = this.groups.reduce((sum, [added]) => sum + added.length, this.before.length);
    const rest = text.slice(length);
    if (this.rest.textContent !== rest) this.rest.textContent = rest;
    if (rest) this.#add(this.rest);
  }

  choose(which) {
    this.which = which;
    this.spans.forEach((span, place) => this.#colour(span, this.groups[place]));
  }

  /** Have the focus at one of the tokens; ``quiet``ly what is beside it is not shown. */
  focus(place, { quiet = false } = {}) {
    const fold = this.element.closest("details");
    if (fold) fold.open = true;
    this.#reach(Math.max(0, Math.min(place, this.spans.length - 1)));
    this.isQuiet = quiet;
    this.spans[this.current]?.focus();
    this.isQuiet = false;
  }

  /** The place where it parts from another run's text; -1 where it does not, or has yet to. */
  get partingPlace() {
    return this.groups.findIndex((group) => this.#parts(group));
  }

  /** What a token is called by a screen reader. */
  name(place) {
    const group = this.groups[place];
    const tokens = group[2];
    const probability = probabilityOf(group, this.which);
    const said = [spoken(group[0] || tokens[0][1])];
    if (probability !== null) said.push(percent(probability, "percent"));
    if (tokens.length === 1) said.push(t("rank {rank}", { rank: tokens[0][4] }));
    if (this.#parts(group)) said.push(t("here it parts from the other run"));
    return said.join(", ");
  }

  /** Draw the tokens behind the text that is before them. */
  #begin(before) {
    this.before = before;
    this.spans = [];
    this.element.replaceChildren();
    for (const line of before.match(/[^\n]*\n|[^\n]+/g) ?? []) this.#add(element("span", "", line));
    this.#draw();
  }

  #draw() {
    if (this.before === null) return;
    for (const group of this.groups.slice(this.spans.length)) {
      const [text, , tokens] = group;
      const leading = text.match(LEADING)?.[0] ?? "";
      const shown = text.slice(leading.length) || visible(tokens[0][1]);
      const span = element("span", "modelcompose-token", shown);
      if (!text) span.classList.add("modelcompose-token-beyond");
      if (BREAKS.test(text)) span.classList.add("modelcompose-token-break");
      if (this.#parts(group)) span.classList.add("modelcompose-token-parting");
      this.#colour(span, group);
      this.places.set(span, this.spans.length);
      this.spans.push(span);
      if (leading) this.#add(document.createTextNode(leading));
      this.#add(span);
    }
    this.#reach(Math.max(0, Math.min(this.current, this.spans.length - 1)));
  }

  #add(node) {
    for (let last; (last = this.element.lastChild) && !last.hasChildNodes(); ) last.remove();
    const before = this.element.lastChild?.lastChild;
    if (!before || before.textContent.endsWith("\n")) {
      this.element.append(element("div", "modelcompose-line"));
    }
    this.element.lastChild.append(node);
  }

  #colour(span, group) {
    span.dataset.step = stepOf(probabilityOf(group, this.which));
  }

  #parts([, first, tokens]) {
    return first <= this.parting && this.parting < first + tokens.length;
  }

  /** Have the Tab key come to one of the tokens, and to no other. */
  #reach(place) {
    const [before, now] = [this.spans[this.current], this.spans[place]];
    this.current = place;
    if (before !== now) before?.removeAttribute("tabindex");
    if (now && !now.hasAttribute("tabindex")) now.tabIndex = 0;
  }

  /** One listener for all tokens. */
  #listen() {
    const placeOf = ({ target }) => this.places.get(target.closest?.(".modelcompose-token"));
    const on = (type, hear) =>
      this.element.addEventListener(type, (event) => {
        const place = placeOf(event);
        if (place !== undefined) hear(place, event);
      });
    on("pointerover", (place, event) => {
      if (event.pointerType === "mouse") this.popover.hover(this, place, event);
    });
    this.element.addEventListener("pointerleave", () => this.popover.unhover());
    on("click", (place) => {
      if (document.getSelection().isCollapsed) this.focus(place);
    });
    on("focusin", (place, { target }) => {
      // Only now is it more than a piece of text to those who hear it.
      target.setAttribute("role", "button");
      target.setAttribute("aria-haspopup", "dialog");
      target.setAttribute("aria-label", this.name(place));
      if (!this.isQuiet) this.popover.open(this, place);
    });
    on("focusout", (_, { target, relatedTarget }) => {
      for (const each of ["role", "aria-haspopup", "aria-label"]) target.removeAttribute(each);
      this.popover.left(relatedTarget);
    });
    on("keydown", (place, event) => {
      if (!this.#press(place, event)) return;
      event.preventDefault();
      event.stopPropagation();
    });
  }

  /** Do what a key says at a token; whether it says anything. */
  #press(place, { key, target, altKey, ctrlKey, metaKey }) {
    if (altKey || ctrlKey || metaKey) return false;
    const forward = getComputedStyle(target).direction === "rtl" ? "ArrowLeft" : "ArrowRight";
    if (["ArrowLeft", "ArrowRight"].includes(key)) this.focus(key === forward ? place + 1 : place - 1);
    else if (key === "Home") this.focus(0);
    else if (key === "End") this.focus(this.spans.length - 1);
    else if (["Enter", " ", "ArrowDown"].includes(key)) this.popover.enter(this, place);
    else if (key === "Escape") this.popover.close();
    else return false;
    return true;
  }
}
