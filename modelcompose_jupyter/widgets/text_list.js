/** The texts of a run, growing in place; those of elements in tables. */

import { element, standIn } from "./dom.js";
import { Following } from "./following.js";
import { ItemTable } from "./item_table.js";
import { ThoughtFold } from "./thought_fold.js";
import { t } from "./words.js";

const NODE_LENGTH = 4096; // of one DOM text node: appending to a short one is cheap

/** One text, growing in place so that a selection in it stays. */
class TextBlock {
  /** @param {import("./markdown.js").MarkdownView | null} markdown draws it, where the text is markdown */
  constructor(markdown) {
    this.element = element("section", "modelcompose-text");
    this.label = this.element.appendChild(element("h4"));
    this.thought = new ThoughtFold(this.label);
    this.body = this.element.appendChild(element("div"));
    this.body.dir = "auto"; // as its first letters are written
    this.markdown = markdown;
    if (markdown) this.body.append(markdown.element);
    this.source = "";
    this.length = 0;
    this.tokens = null;
  }

  /** Show the text as tokens, where there are any, in place of it as it is. */
  showTokens(tokens) {
    this.tokens = standIn(this.body, this.tokens, tokens);
  }

  /** @param {number} offset @param {string} text */
  put(offset, text) {
    if (this.markdown) {
      this.source = this.source.slice(0, offset) + text;
      this.length = this.source.length;
      return;
    }
    while (this.length > offset) this.#shorten(this.length - offset);
    this.length += text.length;
    for (const piece of pieces(text)) {
      const last = this.body.lastChild;
      if (last && last.length + piece.length <= NODE_LENGTH) last.appendData(piece);
      else this.body.append(document.createTextNode(piece));
    }
  }

  /** Leaves a heading that says so already as it is, with a selection in it and its layout. */
  name(label) {
    if (this.label.textContent !== label) this.label.textContent = label;
  }

  draw(growing) {
    this.markdown?.update(this.source, { growing });
  }

  #shorten(count) {
    const last = this.body.lastChild;
    const removed = Math.min(count, last.length);
    last.deleteData(last.length - removed, removed);
    if (!last.length) last.remove();
    this.length -= removed;
  }
}

/** The texts of a run, one below the other. */
export class TextList {
  /**
   * @param {() => import("./markdown.js").MarkdownView | null} markdown makes what draws a text, where
   *   texts are markdown
   * @param {(index: number) => [job: string, row: number] | undefined} placeOf tells which texts stand
   *   in which row of a job's table
   */
  constructor(markdown, placeOf) {
    this.markdown = markdown;
    this.placeOf = placeOf;
    this.tables = new Map();
    this.element = element("div", "modelcompose-texts");
    this.element.tabIndex = 0;
    this.element.setAttribute("role", "log");
    this.element.setAttribute("aria-live", "off"); // a text in the making is not to be read aloud
    this.element.setAttribute("aria-label", t("Generated text"));
    this.blocks = [];
    this.end = new Following(this.element);
  }

  reset(texts, labels) {
    for (const block of this.blocks) block.markdown?.dispose();
    this.element.replaceChildren();
    this.blocks = [];
    this.tables.clear();
    this.end.following = true;
    texts.forEach((text, index) => this.put(index, 0, text));
    this.name(labels);
  }

  put(index, offset, text) {
    while (this.blocks.length <= index) {
      const block = new TextBlock(this.markdown());
      this.blocks.push(block);
      this.#settle(this.blocks.length - 1);
    }
    this.blocks[index].put(offset, text);
    if (text) this.#mark(this.blocks[index]);
  }

  /** Show the elements of jobs in tables. */
  showTables(tables) {
    const jobs = Object.keys(tables);
    for (const job of jobs) this.#table(job).update(tables[job]);
    if (jobs.length) this.blocks.forEach((_, index) => this.#settle(index));
  }

  #table(job) {
    if (!this.tables.has(job)) {
      const table = new ItemTable(job, () => this.blocks.forEach((_, index) => this.#settle(index)));
      this.tables.set(job, table);
      this.element.append(table.element);
    }
    return this.tables.get(job);
  }

  /** Put a text where it belongs: into its row, if that is shown, or behind the others. */
  #settle(index) {
    const place = this.placeOf(index);
    const block = this.blocks[index].element;
    const home = place ? this.#table(place[0]).cell(place[1]) : this.element;
    if (block.parentNode !== home) home?.append(block);
  }

  /** Show where text comes; blocks that have none yet are not seen. */
  #mark(block) {
    this.growing?.element.classList.remove("modelcompose-growing");
    this.growing = block;
    block.element.classList.add("modelcompose-growing");
  }

  name(labels) {
    this.blocks.forEach((block, index) => block.name(labels[index] ?? ""));
  }

  /** @param {(index: number) => HTMLElement | null} tokensOf gives a text as tokens */
  showTokens(tokensOf) {
    this.blocks.forEach((block, index) => block.showTokens(tokensOf(index)));
  }

  /**
   * @param {(index: number) => { text: string, tokens: number, thinks: boolean }} thoughtOf gives
   *   what was thought before a text
   * @param {(index: number) => HTMLElement | null} tokensOf gives that as tokens
   */
  showThoughts(thoughtOf, tokensOf) {
    this.blocks.forEach(({ thought }, index) => {
      thought.update(thoughtOf(index));
      thought.showTokens(tokensOf(index));
    });
  }

  draw(growing) {
    for (const block of this.blocks) block.draw(growing);
  }

  /** Keep the end in view, unless what grows stands in a table: there is no telling which row. */
  follow() {
    if (!this.growing?.element.closest(".modelcompose-items")) this.end.follow();
  }

  get hasText() {
    return this.tables.size > 0 || this.blocks.some((block) => block.length > 0 || block.thought.text);
  }
}

/** A text in pieces that fit a node, none ending in the middle of a character. */
function* pieces(text) {
  for (let start = 0, end; start < text.length; start = end) {
    end = start + NODE_LENGTH;
    if (/[\uD800-\uDBFF]/.test(text[end - 1] ?? "")) end++;
    yield text.slice(start, end);
  }
}
