/** What else was likely in a token's place: bars to look at, and to branch to. */

import { element } from "./dom.js";
import { OF_DRAW, percent, spoken, visible } from "./token_words.js";
import { t } from "./words.js";

/** @typedef {import("./token_words.js").Token} Token */

const REST = 100; // milliseconds for which a pointer rests on what it means
const LEAVE = 250; // milliseconds to come from a token to what is beside it
const MARGIN = 8; // pixels to the edges of the window

/**
 * One for all texts of a view. It is in the view, so that it has its colours and its keys, and on
 * top of the page, where no box cuts it off.
 */
export class TokenPopover {
  /**
   * @param {HTMLElement} root of the view
   * @param {(text: number, token: number, alternative: number, byKey: boolean) => void} branch has
   *   the text go on from another token in that place
   */
  constructor(root, branch) {
    this.root = root;
    this.branch = branch;
    this.branches = false;
    this.owner = null;
    this.place = -1;
    this.isPinned = false; // it stays though no pointer is there: the focus is
    this.timer = 0;
    this.still = ""; // where a pointer has pressed a button that is gone
    this.element = root.appendChild(element("div", "modelcompose-alternatives"));
    this.element.popover = "manual";
    this.element.hidden = true;
    this.element.setAttribute("role", "dialog");
    this.reposition = () => this.#position();
    const hear = (type, listener) => this.element.addEventListener(type, listener);
    hear("pointerenter", () => clearTimeout(this.timer));
    hear("pointerleave", () => this.unhover());
    hear("mousedown", (event) => event.preventDefault()); // the focus stays where it is
    hear("focusout", ({ relatedTarget }) => this.left(relatedTarget));
    hear("keydown", (event) => this.#onKeydown(event));
  }

  /** Whether a text may go on from another token now: not while it is in the making. */
  allow(branches) {
    const changed = branches !== this.branches;
    this.branches = branches;
    if (changed && this.owner) this.#fill();
  }

  /** A pointer is on a token. */
  hover(owner, place, { clientX, clientY }) {
    if (this.still === `${clientX} ${clientY}`) return; // it has not moved: the text has
    this.still = "";
    clearTimeout(this.timer);
    if (!this.isPinned) this.timer = setTimeout(() => this.#show(owner, place), REST);
  }

  /** The pointer has left. */
  unhover() {
    clearTimeout(this.timer);
    if (!this.isPinned) this.timer = setTimeout(() => this.close(), LEAVE);
  }

  /** Show what else was likely in the place of a token that has the focus. */
  open(owner, place) {
    clearTimeout(this.timer);
    this.isPinned = true;
    this.#show(owner, place);
  }

  /** Have the focus at the first of the alternatives to a token. */
  enter(owner, place) {
    this.open(owner, place);
    this.#buttons()[0]?.focus();
  }

  /** The focus has gone, and may be somewhere else now. */
  left(focused) {
    const stays = this.element.contains(focused) || this.owner?.element.contains(focused);
    if (!stays && this.isPinned) this.close();
  }

  /** The tokens of a text from a place on are drawn anew. */
  lose(owner, place) {
    if (this.owner === owner && this.place >= place) this.close();
  }

  close() {
    clearTimeout(this.timer);
    if (!this.owner) return;
    this.owner = null;
    this.isPinned = false;
    window.removeEventListener("scroll", this.reposition, true);
    window.removeEventListener("resize", this.reposition);
    this.element.hidePopover?.();
    this.element.hidden = true;
  }

  #show(owner, place) {
    const isOpen = this.owner !== null;
    [this.owner, this.place] = [owner, place];
    this.#fill();
    if (!isOpen) {
      this.element.hidden = false;
      this.element.showPopover?.();
      window.addEventListener("scroll", this.reposition, true);
      window.addEventListener("resize", this.reposition);
    }
    this.#position();
  }

  #fill() {
    const [, first, tokens] = this.owner.groups[this.place];
    this.element.setAttribute("aria-label", t("In place of {name}", { name: this.owner.name(this.place) }));
    const parts = tokens.flatMap((token, number) => this.#of(token, first + number));
    const isRuledOut = parts.some((part) => part.querySelector(".modelcompose-ruled-out"));
    const hints = [
      this.#isHeard && t("Choose one, and the text goes on from there."),
      isRuledOut && t("What is struck out could not be drawn: the parameters ruled it out."),
    ];
    this.element.replaceChildren(...parts, element("p", "", hints.filter(Boolean).join(" ")));
  }

  /** @param {Token} token @param {number} number its place */
  #of([id, text, probability, sampling, rank, alternatives], number) {
    const { which } = this.owner;
    const own = [id, text, probability, sampling];
    const head = element("header");
    head.append(
      named(text),
      element("span", "", `${percent(own[which] ?? 0)} · ${t("rank {rank}", { rank })}`),
    );
    const isListed = alternatives.some((each) => each[0] === id);
    const list = element("ul");
    for (const each of isListed ? alternatives : [...alternatives, own]) {
      const item = list.appendChild(element("li"));
      item.append(each[0] === id ? this.#row("div", each) : this.#choice(each, number));
    }
    return [head, list];
  }

  #choice(alternative, number) {
    const [id] = alternative;
    const made = this.#row("button", alternative);
    made.type = "button";
    made.disabled = !this.#isHeard;
    made.prepend(unseen(`${t("Continue with")} `));
    made.addEventListener("click", ({ clientX, clientY, detail }) => {
      this.still = `${clientX} ${clientY}`;
      this.branch(this.owner.index, number, id, detail === 0);
    });
    return made;
  }

  #row(tag, alternative) {
    const probability = alternative[this.owner.which] ?? 0;
    const made = element(tag, "modelcompose-alternative");
    made.append(named(alternative[1]));
    const bar = made.appendChild(element("i"));
    bar.style.setProperty("--share", probability);
    made.append(element("span", "modelcompose-share", percent(probability)));
    if (alternative[OF_DRAW] === null) {
      made.classList.add("modelcompose-ruled-out");
      made.append(unseen(", ruled out"));
    }
    return made;
  }

  /** Whether a choice has the text go on: not while it is in the making, nor without a kernel. */
  get #isHeard() {
    return this.branches && !this.root.closest(".jupyter-widgets-disconnected");
  }

  #buttons() {
    return [...this.element.querySelectorAll("button:enabled")];
  }

  #onKeydown(event) {
    const buttons = this.#buttons();
    const place = buttons.indexOf(document.activeElement);
    const { owner, place: token } = this;
    const { key } = event;
    if (key === "ArrowDown") buttons[Math.min(place + 1, buttons.length - 1)].focus();
    else if (key === "ArrowUp" && place > 0) buttons[place - 1].focus();
    else if (key === "Home") buttons[0].focus();
    else if (key === "End") buttons.at(-1).focus();
    else if (["ArrowUp", "Escape"].includes(key)) owner.focus(token);
    else if (key === "Tab") owner.focus(token); // and on from there
    else return;
    if (key !== "Tab") event.preventDefault();
    event.stopPropagation();
  }

  /** Below the token, or above it where there is more room; nowhere when that is out of sight. */
  #position() {
    const anchor = this.owner.spans[this.place];
    const token = anchor.getClientRects()[0];
    const box = anchor.closest(".modelcompose-texts, .modelcompose-chat").getBoundingClientRect();
    if (!token || token.bottom < box.top || token.top > box.bottom) {
      this.close();
      return;
    }
    const { offsetWidth: width, offsetHeight: height } = this.element;
    const { clientWidth, clientHeight } = document.documentElement;
    const fits = token.bottom + height + MARGIN <= clientHeight || token.top < height + MARGIN;
    const left = Math.max(MARGIN, Math.min(token.left, clientWidth - width - MARGIN));
    this.element.style.left = `${left}px`;
    this.element.style.top = `${fits ? token.bottom : token.top - height}px`;
  }
}

/** A token with signs for what is not seen, which are not read aloud. */
function named(text) {
  const made = element("code");
  const [blanks] = text.match(/^\s*/);
  const signs = made.appendChild(element("span", "", visible(blanks)));
  signs.setAttribute("aria-hidden", "true");
  made.append(blanks === text ? unseen(spoken(text)) : visible(text.slice(blanks.length)));
  return made;
}

/** What only those read who hear it. */
function unseen(text) {
  return element("span", "modelcompose-unseen", text);
}
