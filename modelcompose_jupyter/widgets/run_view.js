/**
 * Shows one run: progress, its texts as they grow, its output and how it ended.
 *
 * Texts come as custom messages that append: `{type: "text", changes: [[index, offset, text], …]}`, where
 * offsets count UTF-16 units as JavaScript does. A smaller offset than the length replaces what was
 * behind it; a larger one tells that something was lost, and the whole is asked for. The state
 * `texts` is always the whole. Everything else is state.
 *
 * @typedef {import("@anywidget/types").AnyModel} Model
 */

const NODE_LENGTH = 4096; // of one DOM text node: appending to a short one is cheap
const NEAR_END = 24; // pixels; who reads the end wants to see what comes
const GONE_AFTER = 1000; // milliseconds; a cell that is moved loses its view and gets another

/** One text of a run, growing in place so that a selection in it stays. */
class TextBlock {
  constructor() {
    this.element = element("section", "modelcompose-text");
    this.label = this.element.appendChild(element("h4"));
    this.body = this.element.appendChild(element("div"));
    this.length = 0;
  }

  /** @param {number} offset @param {string} text */
  put(offset, text) {
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

  #shorten(count) {
    const last = this.body.lastChild;
    const removed = Math.min(count, last.length);
    last.deleteData(last.length - removed, removed);
    if (!last.length) last.remove();
    this.length -= removed;
  }
}

/** The texts of a run, one below the other, in a box that follows the end unless it is read. */
class TextList {
  constructor() {
    this.element = element("div", "modelcompose-texts");
    this.element.tabIndex = 0;
    this.element.setAttribute("role", "log");
    this.element.setAttribute("aria-live", "off"); // a text in the making is not to be read aloud
    this.element.setAttribute("aria-label", "Generated text");
    this.blocks = [];
    this.following = true;
    this.element.addEventListener("scroll", () => {
      const { scrollHeight, scrollTop, clientHeight } = this.element;
      this.following = scrollHeight - scrollTop - clientHeight < NEAR_END;
    });
  }

  reset(texts, labels) {
    this.element.replaceChildren();
    this.blocks = [];
    this.following = true;
    texts.forEach((text, index) => this.put(index, 0, text));
    this.name(labels);
  }

  put(index, offset, text) {
    while (this.blocks.length <= index) {
      const block = new TextBlock();
      this.blocks.push(block);
      this.element.append(block.element);
    }
    this.blocks[index].put(offset, text);
    if (text) this.#mark(this.blocks[index]);
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

  follow() {
    const selection = document.getSelection();
    const reading = !selection.isCollapsed && this.element.contains(selection.anchorNode);
    if (this.following && !reading) this.element.scrollTop = this.element.scrollHeight;
  }
}

/** A model and its views: the texts are kept once, whatever is in view. */
class RunModel {
  constructor(model) {
    this.model = model;
    this.texts = [...model.get("texts")];
    this.views = new Set();
    this.asked = false;
    model.on("change:texts", () => this.#reset());
    // Of a run that was replaced there may be text that never became state.
    model.on("change:run_id", () => this.#redraw());
    model.on("msg:custom", (message) => {
      if (message.type === "text") this.#change(message.changes);
    });
  }

  #reset() {
    const texts = this.model.get("texts");
    this.asked = false;
    // The whole at the end of a run is mostly what is there: drawing it again would take a while.
    if (texts.length === this.texts.length && texts.every((text, i) => text === this.texts[i])) return;
    this.#redraw();
  }

  #redraw() {
    this.texts = [...this.model.get("texts")];
    for (const view of this.views) view.resetTexts();
  }

  #change(changes) {
    for (const [index, offset, text] of changes) {
      const known = this.texts[index] ?? "";
      if (offset > known.length) {
        if (!this.asked) this.model.send({ type: "resync" });
        this.asked = true;
        return;
      }
      this.texts[index] = known.slice(0, offset) + text;
      for (const view of this.views) view.list.put(index, offset, text);
    }
    for (const view of this.views) view.grown();
  }
}

class RunView {
  /** @param {RunModel} run */
  constructor(run, root) {
    this.run = run;
    this.model = run.model;
    this.root = root;
    root.classList.add("modelcompose-run");
    this.progress = element("div", "modelcompose-progress");
    this.bar = this.progress.appendChild(element("progress"));
    this.bar.setAttribute("aria-label", "Progress");
    this.progressText = this.progress.appendChild(element("span"));
    this.list = new TextList();
    this.folded = element("details");
    this.folded.append(element("summary", "", "Generated text"));
    this.outputs = element("div", "modelcompose-outputs");
    this.error = element("pre", "modelcompose-error");
    this.error.setAttribute("role", "alert");
    this.status = element("div", "modelcompose-status");
    this.status.setAttribute("role", "status");
    this.warnings = element("ul", "modelcompose-warnings");
    this.actions = element("div", "modelcompose-actions");
    this.history = element("select");
    this.history.setAttribute("aria-label", "Earlier runs");
    this.history.title = "Go back to an earlier run and its inputs";
    this.history.addEventListener("change", () =>
      this.model.send({ type: "show", run: this.history.value }),
    );
    root.append(this.progress, this.list.element, this.outputs, this.error, this.status);
    root.append(this.warnings, this.actions);
    this.resetTexts();
    this.update();
  }

  resetTexts() {
    this.list.reset(this.run.texts, this.model.get("labels"));
    this.grown();
  }

  grown() {
    this.list.name(this.model.get("labels"));
    this.list.element.hidden = !this.list.blocks.some((block) => block.length > 0);
    this.list.follow();
  }

  /** Everything but the texts. */
  update() {
    const state = this.model.get("state");
    this.root.dataset.state = state;
    this.list.element.setAttribute("aria-busy", String(state === "running"));
    this.#updateProgress();
    this.#updateOutputs();
    show(this.error, this.model.get("error"));
    show(this.status, this.model.get("status"));
    const warnings = this.model.get("warnings");
    this.warnings.replaceChildren(...warnings.map((text) => element("li", "", text)));
    this.#updateActions();
  }

  /** Names what ipywidgets leaves without a name: the handle of a slider, and its number. */
  nameInputs() {
    const panel = this.root.closest(".modelcompose-panel");
    for (const row of panel?.querySelectorAll(".modelcompose-input") ?? []) {
      const label = row.querySelector(".widget-label")?.textContent;
      for (const input of row.querySelectorAll(".noUi-handle, .widget-readout")) {
        input.setAttribute("aria-label", label);
      }
    }
  }

  #updateProgress() {
    const { text, share } = this.model.get("progress");
    this.progress.hidden = text === undefined;
    this.progressText.textContent = text ?? "";
    if (typeof share === "number") this.bar.value = share;
    else this.bar.removeAttribute("value");
  }

  #updateOutputs() {
    const outputs = this.model.get("outputs");
    this.outputs.replaceChildren(...outputs.map(outputElement));
    if (outputs.length) {
      this.folded.append(this.list.element);
      this.outputs.after(this.folded);
    } else if (this.folded.isConnected || this.folded.contains(this.list.element)) {
      this.folded.remove();
      this.progress.after(this.list.element);
    }
  }

  #updateActions() {
    const buttons = [];
    if (this.model.get("ended")) {
      buttons.push(copyButton("Copy text", () => this.#text()));
      for (const { label, text } of this.model.get("snippets")) {
        buttons.push(copyButton(label, () => text));
      }
    }
    const runs = this.model.get("history");
    this.history.replaceChildren(
      ...runs.map(({ id, label }) => {
        const option = element("option", "", label);
        option.value = id;
        return option;
      }),
    );
    this.history.value = this.model.get("run_id");
    if (runs.length > 1 && this.model.get("ended")) buttons.push(this.history);
    this.actions.replaceChildren(...buttons);
  }

  #text() {
    const outputs = this.model.get("outputs");
    const texts = outputs.length ? outputs.map(({ text }) => text) : this.run.texts;
    return texts.join("\n\n");
  }

  /** Ctrl+Enter anywhere in the panel around this view runs it. */
  onKeydown(event) {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    if (!this.root.closest(".modelcompose-panel")?.contains(event.target)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    // What was typed is sent when its field is left: have that happen before the run.
    if (event.target.isContentEditable) event.target.blur();
    else event.target.dispatchEvent(new Event("change", { bubbles: true }));
    this.model.send({ type: "run" });
  }
}

const STATE = ["state", "progress", "outputs", "error", "status", "warnings", "ended"];
const ACTIONS = ["snippets", "history", "run_id"];
const UPDATES = [...STATE, ...ACTIONS].map((name) => `change:${name}`).join(" ");

export default () => {
  let run;
  return {
    initialize({ model }) {
      run = new RunModel(model);
    },
    render({ el }) {
      const view = new RunView(run, el);
      const { model } = run;
      // One update for all that a message changes.
      let due = false;
      const update = () => {
        if (!due) queueMicrotask(() => ((due = false), view.update()));
        due = true;
      };
      const relabel = () => view.list.name(model.get("labels"));
      const onKeydown = (event) => view.onKeydown(event);
      run.views.add(view);
      requestAnimationFrame(() => view.nameInputs()); // when the panel around it is there, too
      model.on(UPDATES, update);
      model.on("change:labels", relabel);
      window.addEventListener("keydown", onKeydown, true); // before the application's own keys
      return () => {
        run.views.delete(view);
        model.off(UPDATES, update);
        model.off("change:labels", relabel);
        window.removeEventListener("keydown", onKeydown, true);
        setTimeout(() => run.views.size || model.send({ type: "gone" }), GONE_AFTER);
      };
    },
  };
};

/** A text in pieces that fit a node, none ending in the middle of a character. */
function* pieces(text) {
  for (let start = 0, end; start < text.length; start = end) {
    end = start + NODE_LENGTH;
    if (/[\uD800-\uDBFF]/.test(text[end - 1] ?? "")) end++;
    yield text.slice(start, end);
  }
}

function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

function show(node, text) {
  node.hidden = !text;
  if (node.textContent !== text) node.textContent = text;
}

function outputElement({ label, html }) {
  const made = element("section", "modelcompose-output jp-RenderedHTMLCommon");
  if (label) made.append(element("h4", "", label));
  const body = made.appendChild(element("div"));
  body.innerHTML = html; // made safe where it was rendered
  return made;
}

function copyButton(label, text) {
  const button = element("button", "modelcompose-button", label);
  button.type = "button";
  button.addEventListener("click", async () => {
    const copied = await copy(text(), button);
    button.textContent = copied ? "Copied" : "Select the text and press Ctrl+C";
    setTimeout(() => (button.textContent = label), 1500);
  });
  return button;
}

async function copy(text, near) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Pages that are not served over HTTPS have no clipboard; the old way needs a field.
    const field = near.parentElement.appendChild(element("textarea"));
    field.value = text;
    field.select();
    const copied = document.execCommand("copy");
    field.remove();
    return copied;
  }
}
