/**
 * Markdown that a model wrote, as JupyterLab shows it: with the application's own parser,
 * highlighter, MathJax and mermaid, which its rendermime registry has.
 *
 * The text is not trusted. The parser's HTML is read where nothing is fetched or run
 * (`DOMParser`), and the page gets elements made anew, of a short list. Raw HTML stays text, links
 * are those of the web and open beside the page, pictures become links: showing a text asks no
 * other host for anything. Formulas and diagrams reach MathJax and mermaid only where their source
 * can ask for nothing and is small enough to be drawn at once.
 *
 * The text grows. It is cut into blocks, of which an update looks at the last ones only; what is
 * equal to before keeps its nodes, and with them a selection, formulas and diagrams.
 *
 * @typedef {object} RenderMime What is used of JupyterLab's `IRenderMimeRegistry`.
 * @property {{render(source: string): Promise<string>} | null} [markdownParser]
 * @property {{typeset(node: HTMLElement): unknown} | null} [latexTypesetter]
 *
 * @typedef {object} MarkdownOptions
 * @property {(text: string, near: HTMLElement) => Promise<boolean>} [copy] Puts a text into the
 *   clipboard; tells whether it did.
 * @property {() => void} [onChange] Called when what is shown has changed, such as to keep the end
 *   in view.
 *
 * @typedef {object} MarkdownBlock
 * @property {number} start Where it begins in the source.
 * @property {"text" | "code"} kind
 * @property {string} text Markdown, or what stands between a code block's fences.
 * @property {string} language The word after the opening fence; of text "".
 * @property {boolean} closed Whether a code block has its closing fence; of text true.
 */

import { t } from "./words.js";

const MARKDOWN_INTERVAL = 60; // milliseconds between two drawings of a text that grows
const MARKDOWN_SHARE = 4; // a drawing that took long is followed by so many times as long a rest
const MARKDOWN_PAUSE = 30; // milliseconds of drawing, after which the page has its turn
// UTF-16 units. Parsers take more than linear time for hostile texts, a block at a time.
const MARKDOWN_TEXT_LIMIT = 16_384;
const MARKDOWN_EMPHASIS_LIMIT = 1000; // marks of it in a block
const MARKDOWN_LIST_LENGTH = 4096; // a longer list goes on in another block
const MARKDOWN_CODE_LIMIT = 32_768;
const MARKDOWN_FORMULA_LIMIT = 2000;
const MARKDOWN_DIAGRAM_LIMIT = 5000;
const MARKDOWN_NESTING_LIMIT = 40;

// Characters of Unicode's private use stand for what the parser must not see.
const MARKDOWN_HIDDEN = /[\uE000-\uE004]/g;
const FORMULA_START = "\uE000";
const FORMULA_END = "\uE001";
const LESS_THAN = "\uE002";
const NO_LANGUAGE = "\uE003";
const QUOTE = "\uE004";

/** Shows a markdown text that may grow, in {@link MarkdownView#element}. */
export class MarkdownView {
  #rendermime;
  #options;
  #source = "";
  #growing = false;
  #html = "";
  /** @type {{key: string, block: MarkdownBlock, definitions: string[], element: HTMLElement}[]} */
  #parts = [];
  #parsed = "";
  #timer = 0;
  #rested = 0; // when the next drawing may begin
  #drawing = null;
  #stale = false;
  #disposed = false;
  #seen = null;

  /**
   * @param {RenderMime | null | undefined} rendermime Of the widget manager:
   *   `model.widget_manager?.rendermime`. Where there is none, the kernel's HTML is shown.
   * @param {MarkdownOptions} [options]
   */
  constructor(rendermime, options = {}) {
    this.#rendermime = rendermime?.markdownParser ? rendermime : null;
    this.#options = options;
    this.element = markdownElement("div", "modelcompose-markdown jp-RenderedHTMLCommon");
    this.element.classList.add("mathjax_ignore"); // but for what is marked as a formula
    this.element.addEventListener("click", (event) => this.#onClick(event));
  }

  /**
   * Shows a text: at once if it has ended, else with others that come soon.
   *
   * @param {string} source The whole text, not what is new.
   * @param {{growing?: boolean, html?: string}} [state] Whether more is to come; and the text as
   *   HTML of `markdown.py`, for applications without a parser, where text that grows stays plain.
   */
  update(source, { growing = false, html = "" } = {}) {
    if (source === this.#source && growing === this.#growing && html === this.#html) return;
    this.#source = source;
    this.#growing = growing;
    this.#html = html;
    if (!this.#rendermime) return this.#showHtml();
    this.#schedule();
  }

  /** @returns {Promise<void>} When all that {@link update} was given is shown. */
  async drawn() {
    while (!this.#disposed && (this.#timer || this.#drawing)) {
      if (this.#drawing) await this.#drawing;
      else await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  /** Ends drawing; what is shown stays. */
  dispose() {
    this.#disposed = true;
    clearTimeout(this.#timer);
    this.#seen?.disconnect();
  }

  #showHtml() {
    if (this.#html && !this.#growing) {
      this.element.innerHTML = this.#html; // made safe where it was rendered
      for (const pre of this.element.querySelectorAll("pre")) {
        const [, language] = /language-(\S+)/.exec(pre.firstElementChild?.className ?? "") ?? [];
        const frame = codeFrame(language ?? "");
        pre.removeAttribute("style"); // for where there is no stylesheet
        pre.replaceWith(frame);
        frame.append(pre);
      }
    } else {
      const plain = markdownElement("div", "modelcompose-markdown-plain");
      plain.textContent = this.#source;
      const whole = markdownElement("div");
      whole.append(plain);
      patchChildren(this.element, whole);
    }
    this.#options.onChange?.();
  }

  #schedule() {
    this.#stale = true;
    if (this.#drawing || this.#disposed) return;
    clearTimeout(this.#timer);
    const rest = this.#growing ? Math.max(0, this.#rested - performance.now()) : 0;
    this.#timer = setTimeout(() => {
      this.#timer = 0;
      this.#drawing = this.#draw()
        .catch((error) => console.error(error))
        .finally(() => {
          this.#drawing = null;
          if (this.#stale) this.#schedule();
        });
    }, rest);
  }

  async #draw() {
    const began = performance.now();
    let pause = began + MARKDOWN_PAUSE;
    this.#stale = false;
    const growing = this.#growing;
    const due = this.#cut();
    this.#options.onChange?.();
    for (const part of due) {
      if (performance.now() > pause) {
        await new Promise((resolve) => setTimeout(resolve));
        pause = performance.now() + MARKDOWN_PAUSE;
      }
      if (this.#disposed) return;
      const last = growing && part === this.#parts.at(-1);
      const drawn = await drawBlock(part.block, part.definitions, this.#rendermime, last);
      patchChildren(part.element, drawn);
      part.element.classList.remove("modelcompose-markdown-plain");
      await this.#typeset(part.element);
      this.#options.onChange?.();
    }
    const ended = performance.now();
    this.#rested = ended + Math.max(MARKDOWN_INTERVAL, MARKDOWN_SHARE * (ended - began));
  }

  /** Cuts the source into parts, keeps those that are as before, and returns the others. */
  #cut() {
    const source = this.#source.replace(MARKDOWN_HIDDEN, "\uFFFD");
    // What was appended changes the last block, or makes one of the last two.
    const kept = source.startsWith(this.#parsed) ? this.#parts.slice(0, -2) : [];
    const start = kept.length ? this.#parts[kept.length].block.start : 0;
    this.#parsed = source;
    const blocks = [...kept.map(({ block }) => block), ...markdownBlocks(source, start)];
    const last = blocks.at(-1);
    if (this.#growing && last) blocks.splice(-1, 1, settled(last));
    // What links refer to may come after them: they are known when the text has ended.
    const definitions = this.#growing ? new Map() : linkDefinitions(blocks);
    const due = [];
    const parts = blocks.map((block, index) => {
      const before = this.#parts[index];
      if (index < kept.length && !definitions.size) return before;
      const used = block.kind === "text" ? usedDefinitions(block.text, definitions) : [];
      const open = this.#growing && index === blocks.length - 1;
      const key = JSON.stringify([block.kind, block.language, block.closed && !open, used]);
      const whole = `${key}${block.text}`;
      const element = before?.element ?? this.#element(block);
      const part = { key: whole, block, definitions: used, element };
      if (before?.key !== whole) due.push(part);
      return part;
    });
    for (const { element } of this.#parts.slice(parts.length)) element.remove();
    for (const { element } of parts.slice(this.#parts.length)) this.element.append(element);
    this.#parts = parts;
    return due;
  }

  /** Shows the text of a block until it is drawn. */
  #element(block) {
    const made = markdownElement("div", "modelcompose-markdown-plain mathjax_ignore");
    made.textContent = block.text;
    return made;
  }

  async #typeset(element) {
    const typesetter = this.#rendermime?.latexTypesetter;
    const formulas = [...element.querySelectorAll(".mathjax_process")];
    if (!typesetter || !formulas.length) return;
    if (!this.element.isConnected || !this.element.getClientRects().length) {
      this.#typesetWhenSeen();
      if (this.#seen) return;
    }
    try {
      await typesetter.typeset(element);
    } catch (error) {
      console.warn(error);
    }
    for (const formula of formulas) {
      formula.classList.remove("mathjax_process");
      // MathJax shows what it does not understand in red; the source says more.
      if (formula.querySelector("merror, mjx-merror")) formula.textContent = formula.dataset.source;
      for (const named of formula.querySelectorAll("[id]")) named.removeAttribute("id");
    }
  }

  /** MathJax measures the text around a formula, which must be on the page for that. */
  #typesetWhenSeen() {
    if (this.#seen || typeof ResizeObserver === "undefined") return;
    this.#seen = new ResizeObserver(() => {
      if (!this.element.isConnected || !this.element.getClientRects().length) return;
      this.#seen.disconnect();
      this.#seen = null;
      this.#typeset(this.element).then(() => this.#options.onChange?.());
    });
    this.#seen.observe(this.element);
  }

  async #onClick(event) {
    const button = event.target.closest?.(".modelcompose-code-copy");
    if (!button || !this.element.contains(button)) return;
    const frame = button.closest(".modelcompose-code");
    const text = frame.dataset.source ?? frame.querySelector("pre").textContent;
    const copy = this.#options.copy ?? copyMarkdown;
    button.textContent = (await copy(text, button)) ? t("Copied") : t("Press Ctrl+C");
    setTimeout(() => (button.textContent = t("Copy")), 1500);
  }
}

async function copyMarkdown(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

// Blocks

const FENCE = /^( {0,3})(`{3,}|~{3,})([^\n]*)/;
const LIST_ITEM = /^ {0,3}(?:[-+*]|\d{1,9}[.)])(?:[ \t]|$)/;

/**
 * Cuts markdown where a parser makes the same of the pieces as of the whole: code between fences,
 * and text up to an empty line that ends its last list. Takes linear time.
 *
 * @param {string} source
 * @param {number} [from] Where a block begins.
 * @returns {Generator<MarkdownBlock>}
 */
export function* markdownBlocks(source, from = 0) {
  let start = from;
  let end = from; // of the lines that are not empty
  let list = false; // whether the text has a list, which empty lines do not end
  let empty = false; // whether an empty line came after `end`
  const text = () => ({
    start,
    kind: "text",
    text: source.slice(start, end),
    language: "",
    closed: true,
  });
  for (let at = from, next; at < source.length; at = next) {
    const newline = source.indexOf("\n", at);
    next = newline < 0 ? source.length : newline + 1;
    const line = source.slice(at, newline < 0 ? next : newline).replace(/\r$/, "");
    if (!line.trim()) {
      empty = true;
      continue;
    }
    const [, indent, fence, info] = FENCE.exec(line) ?? [];
    const opens = fence && !(fence[0] === "`" && info.includes("`"));
    if (opens && !(list && indent.length >= 2)) {
      if (end > start) yield text();
      const code = codeBlock(source, at, next, { indent: indent.length, fence, info });
      yield code.block;
      start = end = next = code.end;
      list = empty = false;
      continue;
    }
    const item = LIST_ITEM.test(line);
    const more = list && (item ? at - start < MARKDOWN_LIST_LENGTH : /^(?: {2}|\t)/.test(line));
    if (empty && end > start && !more) {
      yield text();
      list = false;
    }
    if (end <= start || (empty && !more)) start = at;
    list ||= item;
    empty = false;
    end = next;
  }
  if (end > start) yield text();
}

function codeBlock(source, start, body, { indent, fence, info }) {
  let end = source.length;
  let after = source.length;
  let closed = false;
  for (let at = body, next; at < source.length && !closed; at = next) {
    const newline = source.indexOf("\n", at);
    next = newline < 0 ? source.length : newline + 1;
    const line = source.slice(at, next).trimEnd();
    const marks = line.trimStart();
    closed =
      line.length - marks.length < 4 &&
      marks.length >= fence.length &&
      marks === fence[0].repeat(marks.length);
    if (closed) [end, after] = [at, next];
  }
  let text = source.slice(body, end).replace(/\r\n?/g, "\n").replace(/\n$/, "");
  if (indent) text = text.replace(new RegExp(`^ {1,${indent}}`, "gm"), "");
  const language = info.trim().split(/\s/, 1)[0];
  return { block: { start, kind: "code", text, language, closed }, end: after };
}

/**
 * The last block of a text that grows, without what would be taken for something else until more
 * has come, and with what is open closed.
 *
 * @param {MarkdownBlock} block
 * @returns {MarkdownBlock}
 */
export function settled(block) {
  let { text } = block;
  if (block.kind === "code") {
    if (block.closed) return block;
    text = text.replace(/(^|\n) {0,3}(?:`+|~+)$/, "");
    return { ...block, text };
  }
  if (text.length > MARKDOWN_TEXT_LIMIT || /`{20}/.test(text)) return block;
  const line = text.lastIndexOf("\n") + 1;
  if (/^(?:[-+*_#>|`~$\\=:[\]! \t]{1,99}|[ \t]{0,9}\d+[.)]?[ \t]*)$/.test(text.slice(line))) {
    text = text.slice(0, line).trimEnd();
  }
  text = text.replace(/\[([^[\]\n]*)\]\([^()\n]*$/, "$1"); // a link whose address is to come
  if (/^ {0,3}\|[^\n]*(?:\n[-|: ]*)?$/.test(text)) return { ...block, text: "" }; // a table's head
  const outside = text.replace(/\\[^\n]/g, "  ").replace(/(`+)[^`]+\1(?!`)/g, "");
  const [, open] = /(?<!`)(`{1,2})(?!`)[^`]*$/.exec(outside) ?? [];
  if (open) text = text.endsWith(open) ? text.slice(0, -open.length) : text + open;
  else if ((outside.split("**").length - 1) % 2) {
    if (/(?:\s|\*\*)\*{0,2}$/.test(text)) text = text.replace(/\**\s*$/, "");
    else text += text.endsWith("*") ? "*" : "**";
  }
  return { ...block, text };
}

const DEFINITION = /^ {0,3}\[([^[\]\n]{1,200})\]:[ \t]*\S[^\n]{0,2000}$/gm;

function linkDefinitions(blocks) {
  const found = new Map();
  for (const { kind, text } of blocks) {
    if (kind !== "text" || !text.includes("]:")) continue;
    for (const [line, label] of text.matchAll(DEFINITION)) {
      if (found.size < 200) found.set(label.toLowerCase(), found.get(label.toLowerCase()) ?? line);
    }
  }
  return found;
}

function usedDefinitions(text, definitions) {
  if (!definitions.size || !text.includes("[")) return [];
  const labels = new Set();
  for (const [, label] of text.matchAll(/\[([^[\]\n]{1,200})\]/g)) labels.add(label.toLowerCase());
  return [...definitions].filter(([label]) => labels.has(label)).map(([, line]) => line);
}

// Drawing

/** @returns {Promise<HTMLElement>} An element whose children are the block. */
async function drawBlock(block, definitions, rendermime, open) {
  const drawn = markdownElement("div");
  try {
    if (block.kind === "code") drawn.append(await drawCode(block, rendermime, open));
    else if (isTooLarge(block.text)) drawn.append(plainText(block.text));
    else await drawText(drawn, block.text, definitions, rendermime, open);
  } catch (error) {
    console.warn(error); // such as a parser that is too deep in brackets
    drawn.replaceChildren(plainText(block.text));
  }
  return drawn;
}

function isTooLarge(text) {
  if (text.length > MARKDOWN_TEXT_LIMIT) return true;
  return (text.match(/\*+|_+|~+/g)?.length ?? 0) > MARKDOWN_EMPHASIS_LIMIT;
}

function plainText(text) {
  const made = markdownElement("div", "modelcompose-markdown-plain");
  made.textContent = text;
  return made;
}

async function drawText(drawn, text, definitions, rendermime, open) {
  const hidden = hideFromParser([text, ...definitions].join("\n\n"), open);
  const html = await rendermime.markdownParser.render(hidden.text);
  const inert = new DOMParser().parseFromString(html, "text/html").body;
  const blocks = []; // of code, which are drawn by themselves
  drawn.append(...cleaned(inert, { formulas: hidden.formulas, blocks }, 0));
  for (const { element, language, text } of blocks) {
    const block = { start: 0, kind: "code", text, language, closed: !open };
    element.replaceWith(await drawCode(block, rendermime, open));
  }
}

const LANGUAGE = /^[\w+#.-]{1,40}$/;

async function drawCode({ text, language, closed }, rendermime, open) {
  const frame = codeFrame(language);
  const diagram = language === "mermaid" && closed && !open;
  const figure = diagram ? await drawDiagram(text, rendermime) : null;
  if (figure) {
    frame.dataset.source = text;
    frame.append(figure);
    return frame;
  }
  const pre = markdownElement("pre");
  pre.tabIndex = 0; // it may be wider than the page, and keys scroll it
  const code = markdownElement("code");
  code.append(...(await highlighted(text, language, rendermime)));
  pre.append(code);
  frame.append(pre);
  return frame;
}

function codeFrame(language) {
  const frame = markdownElement("div", "modelcompose-code");
  frame.dir = "ltr"; // also in Arabic and Hebrew texts
  const head = frame.appendChild(markdownElement("div", "modelcompose-code-head"));
  const name = head.appendChild(markdownElement("span"));
  name.textContent = LANGUAGE.test(language) ? language : "";
  const button = head.appendChild(markdownElement("button", "modelcompose-code-copy"));
  button.type = "button";
  button.textContent = t("Copy");
  button.setAttribute("aria-label", t("Copy code"));
  return frame;
}

async function parsedCode(text, language, rendermime) {
  const longest = Math.max(2, ...[...text.matchAll(/`+/g)].map(([run]) => run.length));
  const fence = "`".repeat(longest + 1);
  const html = await rendermime.markdownParser.render(`${fence}${language}\n${text}\n${fence}\n`);
  return new DOMParser().parseFromString(html, "text/html").body;
}

async function highlighted(text, language, rendermime) {
  const plain = [document.createTextNode(text)];
  if (!text || text.length > MARKDOWN_CODE_LIMIT) return plain;
  if (!LANGUAGE.test(language) || language === "mermaid") return plain;
  const code = (await parsedCode(text, language, rendermime)).querySelector("pre > code");
  const nodes = [...(code?.childNodes ?? [])].map((node) => {
    if (node.nodeName !== "SPAN") return document.createTextNode(node.textContent);
    const span = markdownElement("span", node.className);
    span.textContent = node.textContent;
    return span;
  });
  const last = nodes.at(-1);
  if (last && !text.endsWith("\n")) last.textContent = last.textContent.replace(/\n$/, "");
  return nodes.map((node) => node.textContent).join("") === text ? nodes : plain;
}

const DIAGRAMS = new RegExp(
  "^\\s*(?:flowchart|graph|sequenceDiagram|classDiagram|stateDiagram(?:-v2)?|erDiagram|pie|gantt" +
    "|mindmap|timeline|journey|gitGraph|quadrantChart)(?![\\w-])",
);
// Settings of mermaid's, addresses and ways to write these otherwise, what in CSS and in shapes
// fetches something, and tags.
const NO_DIAGRAM = new RegExp(
  "%%\\s*\\{|//|\\\\|&?#\\w+;|&\\w+;|\\w:/|(?:https?|ftp|wss?|data|file|javascript)\\s*:" +
    "|(?:url|src|image|image-set|cross-fade|element)\\s*\\(|@import|\\bimg\\b" +
    "|<(?!br\\s*/?>)[a-z/!?]|[\uE000-\uE004]",
  "i",
);
const ENDLESS_GANTT = /^\s*gantt\b[^]*?^[ \t]*(?:tickInterval|excludes|includes)\b/m;

/** Whether mermaid may draw a diagram: of a known kind, small, and with nothing to fetch. */
export function isDrawable(text) {
  return (
    text.length <= MARKDOWN_DIAGRAM_LIMIT &&
    DIAGRAMS.test(text) &&
    !NO_DIAGRAM.test(text.replace(/<<[\w ]+>>/g, "")) &&
    !ENDLESS_GANTT.test(text) &&
    text.split("&").length <= 20 // edges of each with each
  );
}

async function drawDiagram(text, rendermime) {
  if (!isDrawable(text)) return null;
  const drawn = await parsedCode(text, "mermaid", rendermime);
  const picture = drawn.querySelector(".jp-RenderedMermaid:not(.jp-mod-warning) img");
  const source = picture?.getAttribute("src") ?? "";
  if (!source.startsWith("data:image/svg+xml,")) return null;
  const figure = markdownElement("figure", "modelcompose-diagram");
  const image = figure.appendChild(document.createElement("img"));
  image.src = source;
  image.alt = picture.getAttribute("alt") ?? t("Diagram");
  const width = Number(picture.getAttribute("width"));
  if (width > 0 && width < 10_000) image.width = width;
  return figure;
}

// What the parser does not see

const MARKS = /\\[\s\S]|`+|\$\$?|</g;
const KEPT_TAG = /^<(?:br\s*\/?>|(sub|sup|kbd|mark|u)>[^<>\n]{0,200}<\/\1>)/i;
const AUTOLINK = /^<(?:https?:\/\/|mailto:)[^\s<>]{1,2000}>/i;
const FENCE_INFO = /((?<!`)`{3,}(?!`)|(?<!~)~{3,}(?!~))([^\S\n]*[^\s`~][^\n]*)/g;

/**
 * Markdown for a parser that knows neither formulas nor what is allowed: formulas stand behind
 * marks, `<` of raw HTML is another character, and code has no language, which is given to it when
 * it is drawn by itself.
 *
 * @typedef {object} Formula
 * @property {string} tex
 * @property {string} source With its delimiters.
 * @property {boolean} display
 * @property {boolean} open Whether its end is to come.
 *
 * @param {string} source
 * @param {boolean} [open] Whether the text grows, and a formula may lack its end.
 * @returns {{text: string, formulas: Formula[]}}
 */
export function hideFromParser(source, open = false) {
  const formulas = [];
  const missing = new Set(); // what was sought in vain up to the end
  let text = "";
  let done = 0;
  const find = (closer, from) => {
    if (missing.has(closer)) return -1;
    const at = source.indexOf(closer, from);
    if (at < 0) missing.add(closer);
    return at;
  };
  const formula = (start, inner, end, after, display) => {
    if (end < 0) {
      if (open && display) formula(start, inner, source.length, source.length + 1, true);
      return;
    }
    const tex = source.slice(inner, end);
    if (!tex.trim() || tex.length > MARKDOWN_FORMULA_LIMIT || /\n[ \t>]*\n/.test(tex)) return;
    text += source.slice(done, start) + FORMULA_START + formulas.length + FORMULA_END;
    const whole = source.slice(start, after);
    formulas.push({ tex, source: whole, display, open: after > source.length });
    MARKS.lastIndex = done = after;
  };
  MARKS.lastIndex = 0;
  for (let match = MARKS.exec(source); match; match = MARKS.exec(source)) {
    const [mark] = match;
    const at = match.index;
    const after = at + mark.length;
    if (mark[0] === "`") {
      const end = codeEnd(source, mark, after, missing);
      if (end < 0) continue;
      text += source.slice(done, end).replace(/</g, LESS_THAN);
      MARKS.lastIndex = done = end;
    } else if (mark === "<") {
      const rest = source.slice(at, at + 2048);
      const [kept] = AUTOLINK.exec(rest) ?? KEPT_TAG.exec(rest) ?? [];
      text += source.slice(done, at) + (kept ?? LESS_THAN);
      MARKS.lastIndex = done = at + (kept?.length ?? 1);
    } else if (mark === "\\(" || mark === "\\[") {
      const end = find(mark === "\\(" ? "\\)" : "\\]", after);
      formula(at, after, end, end + 2, mark === "\\[");
    } else if (mark === "\\b") {
      const [begin, name] = /^\\begin\{(\w{1,20}\*?)\}/.exec(source.slice(at, at + 32)) ?? [];
      const close = `\\end{${name}}`;
      const end = begin ? find(close, after) : -1;
      if (end >= 0) formula(at, at, end + close.length, end + close.length, true);
      else if (begin) formula(at, at, -1, -1, true);
    } else if (mark === "$$") {
      const end = find("$$", after);
      formula(at, after, end, end + 2, true);
    } else if (mark === "$") {
      const end = dollarEnd(source, after);
      formula(at, after, end, end + 1, false);
    }
  }
  text += source.slice(done);
  // JupyterLab has a language stand in HTML as it is.
  text = text.replace(FENCE_INFO, (_, fence, info) => {
    return fence + NO_LANGUAGE + info.replaceAll('"', QUOTE);
  });
  return { text, formulas };
}

/** Where code ends that a run of backticks begins: after another such run. */
function codeEnd(source, run, from, missing) {
  if (missing.has(run)) return -1;
  const runs = /`+/g;
  runs.lastIndex = from;
  for (let match = runs.exec(source); match; match = runs.exec(source)) {
    if (match[0].length === run.length) return runs.lastIndex;
  }
  missing.add(run);
  return -1;
}

/** Where the formula ends that a dollar begins, as pandoc has it, so that prices stay prices. */
function dollarEnd(source, from) {
  if (/\s/.test(source[from] ?? " ")) return -1;
  const limit = Math.min(source.length, from + MARKDOWN_FORMULA_LIMIT);
  for (let at = from; at < limit; at++) {
    const character = source[at];
    if (character === "\\") at++;
    else if (character === "`") return -1;
    else if (character === "\n" && /^[ \t]*\n/.test(source.slice(at + 1, at + 80))) return -1;
    else if (character === "$") {
      const fits = !/\s/.test(source[at - 1]) && !/\d/.test(source[at + 1] ?? "");
      return fits ? at : -1;
    }
  }
  return -1;
}

// Commands that define others for all formulas of the page, make links, name things, or style; and
// lengths of pages.
const NO_FORMULA = new RegExp(
  "\\\\(?:href|url|require|class|cssId|style|data|html\\w*|unicode|bbox|[egx]?def|(?:future)?let" +
    "|(?:re)?newcommand|providecommand|(?:re)?newenvironment|Declare\\w+|csname|mmlToken" +
    "|includegraphics|(?:eq)?ref|input|include|special|catcode|setOptions|texttip|mathtip" +
    "|toggle)(?![a-zA-Z])|\\*\\s*\\{\\s*\\d{3,}" +
    "|(?:(?<!\\\\text)\\{|\\[|\\\\(?:h|m|v)?(?:kern|skip)|\\\\(?:raise|lower|move(?:lef|righ)t))" +
    "\\s*[-+]?\\d{3,}\\.?\\d*\\s*(?:e[mx]|p[tcx]|cm|mm|in|mu|[bds][pd]|cc)(?![a-zA-Z])" +
    "|[\uE000-\uE004]",
);

/** Whether MathJax may typeset a formula: without definitions and links, and not too deep. */
export function isTypesettable(tex) {
  if (tex.length > MARKDOWN_FORMULA_LIMIT || NO_FORMULA.test(tex)) return false;
  let depth = 0;
  let deepest = 0;
  for (const [mark] of tex.matchAll(/\\begin|\\end|\\left|\\right|\\.|[{}^_]|\\sqrt|\\frac/g)) {
    if (mark === "{" || mark === "\\begin" || mark === "\\left") depth++;
    if (mark === "}" || mark === "\\end" || mark === "\\right") depth--;
    deepest = Math.max(deepest, depth);
  }
  return deepest <= MARKDOWN_NESTING_LIMIT;
}

function formulaElement({ tex, source, display, open }) {
  const body = tex.replace(/\\label\s*\{[^{}]*\}/g, "");
  if (open || !isTypesettable(body) || /\\[()[\]]/.test(body.replace(/\\\\/g, ""))) {
    const code = markdownElement("code");
    code.textContent = source;
    return code;
  }
  const made = markdownElement("span", "modelcompose-formula mathjax_process");
  if (display) made.classList.add("modelcompose-formula-display");
  made.dataset.source = source;
  const whole = body.startsWith("\\begin") && display;
  made.textContent = whole ? body : display ? `\\[${body}\\]` : `\\(${body}\\)`;
  return made;
}

// What the page gets

const ELEMENTS = new Set(
  ("P H1 H2 H3 H4 H5 H6 UL OL LI BLOCKQUOTE CODE EM STRONG DEL BR HR TABLE THEAD TBODY TR TH TD " +
    "SUB SUP KBD MARK U").split(" "),
);
const BETWEEN_BLOCKS = /^(?:BODY|BLOCKQUOTE|UL|OL|LI|TABLE|THEAD|TBODY|TR)$/;
const WEB = /^(?:https?:\/\/|mailto:)/i;

/** The children of an inert node, made anew of what is allowed. */
function cleaned(parent, context, depth) {
  return [...parent.childNodes].flatMap((node) => cleanedNode(node, context, depth + 1));
}

function cleanedNode(node, context, depth) {
  if (node.nodeType === Node.TEXT_NODE) return cleanedText(node.data, context, node.parentNode);
  if (node.nodeType !== Node.ELEMENT_NODE) return [];
  const tag = node.nodeName;
  if (depth > 4 * MARKDOWN_NESTING_LIMIT) return [document.createTextNode(restored(node, context))];
  if (tag === "PRE") return [cleanedCode(node, context)];
  if (tag === "IMG") return [webLink(node.getAttribute("src"), node, context, node.alt)];
  if (tag === "A") {
    const link = webLink(node.getAttribute("href"), node, context);
    link.append(...cleaned(node, context, depth));
    return [link];
  }
  if (tag === "INPUT") return [taskBox(node)];
  if (!ELEMENTS.has(tag)) return cleaned(node, context, depth);
  const made = document.createElement(tag);
  const align = node.getAttribute("align");
  if (/^(?:left|right|center)$/.test(align ?? "")) made.style.textAlign = align;
  if (tag === "OL" && node.start !== 1) made.start = node.start;
  if (tag === "LI" && node.querySelector(":scope > input, :scope > p:first-child > input")) {
    made.className = "modelcompose-task";
  }
  made.append(...cleaned(node, context, depth));
  if (tag !== "TABLE") return [made];
  const wide = markdownElement("div", "modelcompose-table");
  wide.tabIndex = 0;
  wide.append(made);
  return [wide];
}

function cleanedText(data, context, parent) {
  if (!data.trim() && BETWEEN_BLOCKS.test(parent.nodeName) && data.includes("\n")) return [];
  if (parent.closest("code")) return [document.createTextNode(restoredText(data, context))];
  return data.split(/(\uE000\d+\uE001)/).flatMap((piece) => {
    const formula = context.formulas[/^\uE000(\d+)\uE001$/.exec(piece)?.[1]];
    if (formula) return [formulaElement(formula)];
    return piece ? [document.createTextNode(restoredText(piece, context))] : [];
  });
}

function restoredText(data, { formulas }) {
  return data
    .replace(/\uE000(\d+)\uE001/g, (_, index) => formulas[index]?.source ?? "")
    .replaceAll(LESS_THAN, "<")
    .replaceAll(NO_LANGUAGE, "")
    .replaceAll(QUOTE, '"');
}

/** A URL as it was written, of which the parser has percent-encoded what is no ASCII. */
function restoredUrl(url, context) {
  const known = url.replace(/%EE%80%8([0-4])/gi, (_, last) => String.fromCharCode(0xe000 + +last));
  return restoredText(known, context);
}

function restored(node, context) {
  return restoredText(node.textContent, context);
}

function cleanedCode(pre, context) {
  const element = markdownElement("div");
  const name = /(?:^|\s)language-(\S*)/.exec(pre.querySelector("code")?.className ?? "")?.[1];
  const language = restoredText(name ?? "", context);
  context.blocks.push({ element, language, text: restored(pre, context).replace(/\n$/, "") });
  return element;
}

/** A link that opens beside the page; without an address of the web only its text. */
function webLink(address, node, context, text = "") {
  const href = restoredUrl(address ?? "", context);
  let link;
  if (WEB.test(href) && !node.parentNode.closest("a")) {
    link = document.createElement("a");
    link.href = href;
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
    const title = node.getAttribute("title");
    if (title) link.title = restoredText(title, context);
  } else {
    link = document.createElement("span");
  }
  if (node.nodeName === "IMG") link.textContent = restoredText(text || href, context);
  return link;
}

function taskBox(node) {
  const box = document.createElement("input");
  box.type = "checkbox";
  box.disabled = true;
  box.checked = node.hasAttribute("checked");
  if (box.checked) box.setAttribute("checked", "");
  return box;
}

// Nodes that stay

/** Makes the children of a node like another's, which are used up; what is alike stays as it is. */
export function patchChildren(old, made) {
  const wanted = [...made.childNodes];
  wanted.forEach((node, index) => {
    const present = old.childNodes[index];
    if (!present) old.append(node);
    else if (!patchNode(present, node)) present.replaceWith(node);
  });
  while (old.childNodes.length > wanted.length) old.lastChild.remove();
}

function patchNode(old, made) {
  if (old.nodeType !== made.nodeType || old.nodeName !== made.nodeName) return false;
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data === made.data) return true;
    if (made.data.startsWith(old.data)) old.appendData(made.data.slice(old.data.length));
    else old.data = made.data;
    return true;
  }
  if (old.dataset.source !== made.dataset.source) return false;
  if (old.dataset.source !== undefined) return true; // drawn of the same source
  for (const { name } of [...old.attributes]) {
    if (!made.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of made.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  patchChildren(old, made);
  return true;
}

function markdownElement(tag, className = "") {
  const made = document.createElement(tag);
  made.className = className;
  return made;
}
