/**
 * Shows one run: what it waits for, its texts as they grow, its output and how it ended; in a chat the
 * conversation with the reply at its end; and the runs before it.
 *
 * Texts come as custom messages that append: `{type: "text", changes: [[index, offset, text], …]}`, where
 * offsets count UTF-16 units as JavaScript does. A smaller offset than the length replaces what was
 * behind it; a larger one tells that something was lost, and the whole is asked for. The state
 * `texts` is always the whole. The same message has what was thought before texts, as
 * `thoughts: [[index, offset, text, tokens, isOver], …]`, with how many tokens that has by now; and
 * while tokens are to be shown these, as `tokens: [[index, start, offset, groups], …]`, where ``start`` is
 * the character of the text where its tokens begin; those of what was thought have `"reasoning"`
 * behind that. How jobs are comes as `{type: "steps", nodes, edges, tables, places}`, before the texts,
 * which may stand in a table; the state `steps` is the whole. Everything else is state.
 *
 * @typedef {import("@anywidget/types").AnyModel} Model
 */

import { ChatLog, isSend } from "./chat_log.js";
import { ConversationBar, Keeper } from "./conversations.js";
import { button, copy, copyButton, element, setChildren, show } from "./dom.js";
import { completeForm, keepKey } from "./form.js";
import { MarkdownView } from "./markdown.js";
import { Questions, RunKeeper } from "./questions.js";
import { RunCards } from "./run_cards.js";
import { addSteps, stepsOf, StepsView } from "./steps.js";
import { TextList } from "./text_list.js";
import { ToolCalls } from "./tool_calls.js";
import { TokenLegend } from "./token_legend.js";
import { TokenPopover } from "./token_popover.js";
import { TokenTexts } from "./token_text.js";
import { speak, t } from "./words.js";

const GONE_AFTER = 1000; // milliseconds; a cell that is moved loses its view and gets another
const NOTHING = [];
const ELAPSED_EVERY = 100; // milliseconds
const NOTE_FOR = 6000; // milliseconds
const READ_ALOUD = 1000; // characters of a text that has ended

/** A model and its views: the texts are kept once, whatever is in view. */
class RunModel {
  constructor(model) {
    this.model = model;
    this.texts = [...model.get("texts")];
    this.thoughts = [...model.get("thoughts")];
    this.steps = stepsOf(model.get("steps"));
    this.tokens = { text: [], reasoning: [] };
    this.views = new Set();
    this.asked = false;
    this.#takeTokens(model.get("tokens"));
    model.on("change:texts", () => this.#reset());
    // Of a run that was replaced there may be text that never became state.
    model.on("change:run_id", () => {
      this.steps = stepsOf();
      this.#forgetTokens();
      this.#redraw();
    });
    model.on("change:steps", () => {
      this.steps = stepsOf(model.get("steps"));
      for (const view of this.views) view.stepped(this.steps);
    });
    model.on("change:thoughts", () => {
      this.thoughts = [...model.get("thoughts")];
      for (const view of this.views) view.grown();
    });
    model.on("change:probabilities", () => this.#forgetTokens());
    model.on("change:tokens", () => {
      this.asked = false;
      this.#forgetTokens();
      this.#takeTokens(model.get("tokens"));
      for (const view of this.views) view.grown();
    });
    model.on("msg:custom", (message) => {
      if (message.type === "text") this.#change(message);
      if (message.type === "steps") {
        addSteps(this.steps, message);
        for (const view of this.views) view.stepped(message);
      }
      // One copy is enough, however many views there are.
      if (message.type === "copy") [...this.views].at(-1)?.copy(message.text, message.said);
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
    this.thoughts = [...this.model.get("thoughts")];
    for (const view of this.views) view.resetTexts();
  }

  #forgetTokens() {
    this.tokens = { text: [], reasoning: [] };
    for (const view of this.views) view.resetTokens();
  }

  #takeTokens(changes) {
    for (const [index, start, offset, groups, part = "text"] of changes) {
      const known = (this.tokens[part][index] ??= { start, groups: [] });
      if (offset > known.groups.length) {
        this.#ask();
        return;
      }
      known.groups.splice(offset, Infinity, ...groups);
      for (const view of this.views) view.tokens[part].put(index, start, offset, groups);
    }
  }

  #ask() {
    if (!this.asked) this.model.send({ type: "resync" });
    this.asked = true;
  }

  #change({ changes, thoughts = [], tokens = [] }) {
    for (const [index, offset, text, ...rest] of thoughts) {
      const [known] = this.thoughts[index] ?? [""];
      if (offset > known.length) {
        this.#ask();
        return;
      }
      this.thoughts[index] = [known.slice(0, offset) + text, ...rest];
      // It comes before its text, which has a place from here on.
      if (this.texts[index] === undefined) changes = [...changes, [index, 0, ""]];
    }
    for (const [index, offset, text] of changes) {
      const known = this.texts[index] ?? "";
      if (offset > known.length) {
        this.#ask();
        return;
      }
      this.texts[index] = known.slice(0, offset) + text;
      for (const view of this.views) view.list.put(index, offset, text);
    }
    this.#takeTokens(tokens);
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
    const send = (message) => this.model.send(message);
    this.rendermime = this.model.widget_manager?.rendermime;
    const onChange = () => (this.chat?.end ?? this.list).follow();
    const markdown = () => new MarkdownView(this.rendermime, { copy, onChange });

    this.header = element("div", "modelcompose-run-head");
    this.modelName = this.header.appendChild(element("span", "modelcompose-model-name"));
    this.progress = element("div", "modelcompose-progress");
    this.bar = this.progress.appendChild(element("progress"));
    this.bar.setAttribute("aria-label", t("Progress"));
    this.progressText = this.progress.appendChild(element("span"));
    this.elapsed = this.progress.appendChild(element("span", "modelcompose-elapsed"));
    this.elapsed.setAttribute("aria-hidden", "true");
    this.header.append(this.progress);

    const draws = this.model.get("is_markdown") && this.rendermime;
    this.list = new TextList(
      () => (draws ? markdown() : null),
      (index) => this.run.steps.places[index],
    );
    this.#draw();
    this.markdown = markdown;
    this.calls = new ToolCalls();
    this.questions = new Questions(
      (question, answer) => send({ type: "answer", run: this.model.get("run_id"), question, ...answer }),
      markdown,
    );
    this.empty = element("p", "modelcompose-empty", t("The text will be here."));
    this.isChat = this.model.get("is_chat");
    if (this.isChat) {
      this.conversations = new ConversationBar(send);
      this.chat = new ChatLog(markdown, send);
    }
    this.folded = element("details");
    this.folded.append(element("summary", "", t("Generated text")));
    this.outputs = element("div", "modelcompose-outputs");
    this.error = element("pre", "modelcompose-error");
    this.error.setAttribute("role", "alert");
    this.foot = element("div", "modelcompose-foot");
    this.status = this.foot.appendChild(element("span", "modelcompose-status"));
    this.status.setAttribute("role", "status");
    this.extend = button(t("Continue"), () => send({ type: "extend" }), {
      title: t("The text was cut: have it go on"),
      className: "modelcompose-button modelcompose-extend",
    });
    this.rates = this.foot.appendChild(element("span", "modelcompose-rates"));
    this.announced = element("div", "modelcompose-unseen");
    this.announced.setAttribute("role", "status");
    this.warnings = element("ul", "modelcompose-warnings");
    this.actions = element("div", "modelcompose-actions");
    this.copyText = copyButton(t("Copy text"), () => this.#text());
    this.cards = new RunCards(send);
    this.popover = new TokenPopover(root, (...place) => this.#branch(...place));
    this.tokens = {
      text: new TokenTexts(this.popover),
      reasoning: new TokenTexts(this.popover),
    };
    this.legend = new TokenLegend(
      (which) => Object.values(this.tokens).forEach((each) => each.choose(which)),
      () => send({ type: "weigh", run: this.model.get("run_id") }),
    );
    if (this.isChat) {
      this.conversations.element.append(this.header);
      root.append(this.conversations.element, this.chat.element);
    } else {
      root.append(this.header, this.empty, this.calls.element);
    }
    if (this.steps) root.append(this.steps.element);
    root.append(this.list.element, this.questions.element, this.outputs, this.legend.element);
    root.append(this.error, this.foot, this.warnings);
    if (!this.isChat) root.append(this.actions);
    root.append(this.cards.element, this.announced);
    this.snippets = new Map();
    this.list.reset(this.run.texts, this.model.get("labels"));
    this.stepped(this.run.steps);
    this.#beginTokens();
    this.update();
  }

  /** Draw the jobs; once more where the kernel has heard the language. */
  redraw() {
    const before = this.steps;
    this.#draw();
    if (before) before.element.replaceWith(this.steps.element);
    this.stepped(this.run.steps);
  }

  #draw() {
    const picture = this.model.get("picture");
    this.steps = picture ? new StepsView(picture) : null;
  }

  /** How jobs are has changed. */
  stepped({ tables = {} }) {
    this.steps?.update(this.run.steps);
    const known = Object.keys(tables).map((job) => [job, this.run.steps.tables[job]]);
    this.list.showTables(Object.fromEntries(known));
    this.grown();
  }

  resetTexts() {
    const focused = document.activeElement;
    const hadFocus = this.root.contains(focused);
    this.list.reset(this.run.texts, this.model.get("labels"));
    this.stepped(this.run.steps);
    if (hadFocus && focused.isConnected) focused.focus({ preventScroll: true }); // it was moved
    if (hadFocus) this.#keepFocus();
  }

  resetTokens() {
    const hadFocus = this.root.contains(document.activeElement);
    this.#beginTokens();
    this.grown();
    if (hadFocus) this.#keepFocus();
  }

  #beginTokens() {
    const parting = this.model.get("parting");
    for (const part of ["text", "reasoning"]) this.tokens[part].reset(this.run.tokens[part], parting);
  }

  /** Have the text go on from another token in one of its places. */
  #branch(text, token, alternative, byKey) {
    this.model.send({ type: "branch", run: this.model.get("run_id"), text, token, alternative });
    this.popover.close();
    this.#keepFocus();
    this.goesToParting = byKey;
  }

  get #goes() {
    return ["queued", "running", "interrupted"].includes(this.model.get("state"));
  }

  grown() {
    this.list.name(this.model.get("labels"));
    this.list.draw(this.#goes);
    this.#updateTokens();
    // What is read in the conversation is not read below it once more.
    const isRead = this.isChat && (this.list.blocks.length < 2 || this.model.get("calls").length > 0);
    const shown = this.list.hasText && !isRead;
    this.list.element.hidden = !shown;
    if (this.isChat) this.#updateChat();
    else this.empty.hidden = shown || this.model.get("calls").length > 0 || this.model.get("outputs").length > 0 || this.#goes;
    this.list.follow();
    this.#goToParting();
  }

  /** Everything but the texts. */
  update() {
    const hadFocus = this.root.contains(document.activeElement);
    const state = this.model.get("state");
    this.root.dataset.state = state;
    if (this.model.get("run_id") !== this.runId) this.types = false;
    this.runId = this.model.get("run_id");
    this.list.element.setAttribute("aria-busy", String(state === "running"));
    this.#updateHeader();
    this.#updateOutputs();
    this.calls.update(this.model.get("calls"));
    this.grown();
    show(this.error, this.model.get("error"));
    this.#updateFoot();
    const warnings = this.model.get("warnings");
    this.warnings.replaceChildren(...warnings.map((text) => element("li", "", text)));
    this.#updateActions();
    this.cards.update(
      this.model.get("cards"),
      this.model.get("run_id"),
      this.model.get("compared"),
    );
    this.#announce();
    this.#ask();
    if (hadFocus) this.#keepFocus();
  }

  /** Show what the run asks; who does not type meanwhile, nor is elsewhere, is led there. */
  #ask() {
    const form = this.questions.update(this.runId, this.model.get("questions"));
    if (!form) return;
    this.announced.textContent = t("Question: {question}", { question: form.message.element.textContent });
    const panel = this.root.closest(".modelcompose-panel") ?? this.root;
    const focused = document.activeElement;
    if ((!focused || focused === document.body || panel.contains(focused)) && !this.types) form.focus();
  }

  /** What had the focus may be gone, or not to be pressed: the next key would be a notebook's. */
  #keepFocus() {
    const focused = document.activeElement;
    const isThere = this.root.contains(focused) && !focused.disabled && !focused.closest("[hidden]");
    if (isThere) return;
    this.root.tabIndex = -1; // ipywidgets takes it away from what it has just made
    this.root.focus({ preventScroll: true });
  }

  /** Complete the form around the view: ipywidgets draws it in its own time. */
  completeForm() {
    const panel = this.root.closest(".modelcompose-panel");
    if (panel) completeForm(panel);
  }

  #updateChat() {
    const turns = this.model.get("turns");
    const replies = this.#goes && (turns.at(-1)?.role === "user" || turns.at(-1)?.begun);
    const text = this.run.texts[this.model.get("reply")] ?? "";
    const calls = this.model.get("calls");
    const called = calls.find(({ state }) => state === "running");
    const waits = this.model.get("progress").text ?? (called ? t("Running {name}", { name: called.name }) : t("Thinking"));
    const reply = this.model.get("reply");
    const thought = this.#thoughtOf(reply);
    this.chat.update(turns, replies ? { text, waits, thought, calls } : null, {
      conversation: this.model.get("conversation"),
      extendable: this.model.get("is_extendable"),
      tokens: (said) =>
        ["text", "reasoning"].map((part) =>
          said === this.run.texts[reply] ? this.#tokensOf(reply, part) : null,
        ),
    });
    this.conversations.update(
      this.model.get("conversations"),
      this.model.get("conversation"),
      this.model.get("undoable"),
    );
    // Examples are for those who have yet to begin.
    this.root.closest(".modelcompose-panel")?.toggleAttribute("data-begun", turns.length > 0);
  }

  /** Who has branched by a key goes on from there, as soon as it is drawn. */
  #goToParting() {
    if (!this.goesToParting) return;
    const isElsewhere = document.activeElement !== this.root;
    this.goesToParting =
      !isElsewhere && !Object.values(this.tokens).some((each) => each.focusParting());
  }

  #updateTokens() {
    const ended = this.model.get("ended");
    this.tokens.text.frame(this.run.texts);
    this.tokens.reasoning.frame(this.run.thoughts.map(([text]) => text));
    this.popover.allow(ended);
    const tokensOf = (index, part) =>
      this.isChat && index === this.model.get("reply") ? null : this.#tokensOf(index, part);
    this.list.showTokens((index) => tokensOf(index, "text"));
    this.list.showThoughts(
      (index) => this.#thoughtOf(index),
      (index) => tokensOf(index, "reasoning"),
    );
    const known = Object.values(this.run.tokens).some((each) => each.length > 0);
    if (known && !this.knewTokens) this.folded.open = true; // they are to be seen
    this.knewTokens = known;
    const missing = ended && !known && this.run.texts.some((text) => text);
    this.legend.update(this.model.get("probabilities"), known, missing);
  }

  /** A text, or what was thought before it, as tokens, if they are known. */
  #tokensOf(index, part) {
    return this.tokens[part].of(index)?.element ?? null;
  }

  /** What was thought before a text by now. */
  #thoughtOf(index) {
    const [text, tokens, isOver] = this.run.thoughts[index] ?? ["", 0, true];
    return { text, tokens, thinks: this.#goes && !isOver };
  }

  #updateHeader() {
    const { name, state, loaded } = this.model.get("model");
    show(this.modelName, name ?? "");
    this.modelName.classList.toggle("modelcompose-mod-loaded", loaded ?? false);
    if (state) this.modelName.append(element("small", "", state));
    const { text, share } = this.model.get("progress");
    this.progress.hidden = text === undefined || this.isChat; // there it is where the reply comes
    if (this.progressText.textContent !== (text ?? "")) this.progressText.textContent = text ?? "";
    if (typeof share === "number") this.bar.value = share;
    else this.bar.removeAttribute("value");
    this.header.hidden = this.progress.hidden && !name;
    this.tick();
  }

  /** How long what it waits for has gone on; the kernel need not say so ten times a second. */
  tick() {
    const progress = this.model.get("progress");
    if (progress !== this.timed) this.heard = performance.now();
    this.timed = progress;
    const since = (performance.now() - this.heard) / 1000;
    const seconds = progress.elapsed === undefined ? 0 : progress.elapsed + since;
    const said = seconds >= 1 ? t("{seconds} s", { seconds: seconds.toFixed(1) }) : "";
    this.elapsed.textContent = said;
    this.steps?.tick();
    this.chat?.tick(said);
  }

  #updateOutputs() {
    const outputs = this.#outputs();
    const isFresh = outputs !== this.shownOutputs;
    if (isFresh) {
      this.drawn?.forEach((view) => view.dispose());
      this.drawn = [];
      this.outputs.replaceChildren(...outputs.map((output) => this.#output(output)));
    }
    this.shownOutputs = outputs;
    if (outputs.length && !this.isChat) {
      if (!this.folded.contains(this.list.element)) this.folded.append(this.list.element);
      if (isFresh && this.list.tables.size) this.folded.open = true; // it is what one looks at
      this.outputs.after(this.folded);
    } else if (this.folded.contains(this.list.element)) {
      this.folded.remove();
      this.outputs.before(this.list.element);
    }
  }

  /** The outputs that the texts do not show already. */
  #outputs() {
    const outputs = this.model.get("outputs");
    if (this.isChat) return NOTHING;
    const texts = outputs.map(({ text }) => text);
    const drawn =
      this.model.get("is_markdown") && this.rendermime && String(texts) === String(this.run.texts);
    return drawn ? NOTHING : outputs;
  }

  #output({ label, kind, text, html }) {
    const made = element("section", "modelcompose-output");
    if (label) made.append(element("h4", "", label));
    const body = made.appendChild(element("div"));
    body.dir = "auto";
    if (kind === "markdown") {
      const view = this.markdown();
      this.drawn.push(view);
      body.append(view.element);
      view.update(text, { html });
    } else {
      body.className = "jp-RenderedHTMLCommon";
      body.innerHTML = html; // made safe where it was rendered
    }
    return made;
  }

  #updateFoot() {
    show(this.status, this.model.get("status"));
    // In a chat the reply itself has it.
    const extends_ = this.model.get("is_extendable") && !this.isChat;
    const more = this.isChat ? [this.actions] : [];
    setChildren(this.foot, [this.status, this.rates, ...(extends_ ? [this.extend] : []), ...more]);
    const rates = this.model.get("rates");
    if (rates !== this.shownRates) this.rates.replaceChildren(...sparkline(rates));
    this.shownRates = rates;
    this.foot.hidden = !this.status.textContent;
  }

  #updateActions() {
    const buttons = [];
    if (this.model.get("ended")) {
      if (this.#text() && !this.isChat) buttons.push(this.copyText);
      for (const { label, text, message } of this.model.get("snippets")) {
        buttons.push(this.#snippet(label, text, message));
      }
    }
    setChildren(this.actions, buttons);
  }

  /** A button that copies a text, or that asks the kernel for it; the same as long as it is. */
  #snippet(label, text, message) {
    const key = JSON.stringify([label, text, message]);
    if (!this.snippets.has(key)) {
      if (this.snippets.size > 20) this.snippets.clear();
      const made = message
        ? button(label, () => this.model.send(message))
        : copyButton(label, () => text);
      this.snippets.set(key, made);
    }
    return this.snippets.get(key);
  }

  /** Copy what the kernel has sent, and say so for a while. */
  async copy(text, said) {
    const copied = await copy(text, this.actions);
    const note = element("span", "modelcompose-note", copied ? `${said} · ${t("copied")}` : said);
    note.setAttribute("role", "status");
    this.actions.after(note);
    setTimeout(() => note.remove(), NOTE_FOR);
  }

  /** Have a text read aloud when it has ended, and no sooner. */
  #announce() {
    const id = this.model.get("ended") ? this.model.get("run_id") : null;
    if (id && this.announcing === false) {
      const text = this.#text();
      const more = text.length > READ_ALOUD ? " …" : "";
      this.announced.textContent = text.slice(0, READ_ALOUD) + more;
    } else if (!id && !this.model.get("questions").length) {
      this.announced.textContent = "";
    }
    this.announcing = id !== null || this.model.get("state") === "idle";
  }

  #text() {
    const outputs = this.model.get("outputs");
    const texts = outputs.length ? outputs.map(({ text }) => text) : this.run.texts;
    return texts.join("\n\n");
  }

  /** Send what a field has, and empty it at once: what is typed from here on is the next one. */
  #sendMessage(field) {
    const text = field.value;
    field.value = "";
    field.dispatchEvent(new Event("change", { bubbles: true }));
    this.model.send({ type: "send", text });
  }

  /** Keys in the panel around this view: Ctrl+Enter anywhere runs it, Enter sends a message. */
  onKeydown(event) {
    const panel = this.root.closest(".modelcompose-panel");
    if (!panel?.contains(event.target)) return;
    keepKey(event);
    const isForRun = event.target.matches("input, textarea") && !event.target.closest(".modelcompose-question");
    if (event.key.length === 1 && isForRun) this.types = true;
    const accelerated = event.ctrlKey || event.metaKey;
    const composes = event.target.matches?.(".modelcompose-composer textarea");
    if (event.key === "Escape" && composes && this.#goes) this.model.send({ type: "stop" });
    if (!(event.key === "Enter" && accelerated) && !(composes && isSend(event))) return;
    if (event.isComposing || event.target.closest(".modelcompose-editing, .modelcompose-grid, .modelcompose-question")) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    if (composes && event.target.value.trim()) {
      this.#sendMessage(event.target);
      return;
    }
    // What was typed is sent when its field is left: have that happen before the run.
    if (event.target.isContentEditable) event.target.blur();
    else event.target.dispatchEvent(new Event("change", { bubbles: true }));
    this.model.send({ type: "run" });
  }
}

const STATE = [
  "texts", // what is shown of an output depends on what they say already
  "state", "progress", "outputs", "error", "status", "warnings", "ended", "model", "rates", "turns",
  "reply", "calls", "conversations", "conversation", "undoable", "is_extendable", "snippets", "cards", "compared",
  "run_id", "probabilities", "questions",
];
const UPDATES = STATE.map((name) => `change:${name}`).join(" ");

export default () => {
  let run;
  return {
    initialize({ model }) {
      speak(model);
      run = new RunModel(model);
      if (model.get("is_chat")) keep(model);
      keepRun(model);
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
      const redraw = () => view.redraw();
      const onKeydown = (event) => view.onKeydown(event);
      const ticking = setInterval(() => view.tick(), ELAPSED_EVERY);
      run.views.add(view);
      requestAnimationFrame(() => view.completeForm()); // when the panel around it is there, too
      model.on(UPDATES, update);
      model.on("change:labels", relabel);
      model.on("change:picture", redraw);
      window.addEventListener("keydown", onKeydown, true); // before the application's own keys
      return () => {
        run.views.delete(view);
        clearInterval(ticking);
        model.off(UPDATES, update);
        model.off("change:labels", relabel);
        model.off("change:picture", redraw);
        window.removeEventListener("keydown", onKeydown, true);
        setTimeout(() => run.views.size || leave(model), GONE_AFTER);
      };
    },
  };
};

/** Say that nobody looks any more, if there is a kernel to hear it. */
function leave(model) {
  try {
    model.send({ type: "gone" });
  } catch {
    // It was restarted, or is gone.
  }
}

/** Keep a page's conversations in its browser, and bring back those that it has. */
function keep(model) {
  const name = model.get("keep_as");
  if (!name) return;
  const keeper = new Keeper(name);
  const kept = keeper.read();
  if (kept) model.send({ type: "restore", kept });
  model.on("change:kept", () => keeper.write(model.get("kept")));
  // What is forgotten in another tab of this page is forgotten here.
  window.addEventListener("storage", ({ key }) => {
    if (key !== keeper.key) return;
    for (const id of keeper.forgotten()) {
      if (id !== model.get("conversation")) model.send({ type: "remove", id });
    }
  });
}

/** Keep a page's run that asks something, and bring back the one that this tab has. */
function keepRun(model) {
  const name = model.get("keep_as");
  if (!name) return;
  const keeper = new RunKeeper(name);
  const kept = keeper.read();
  if (kept && !model.get("run_id")) model.send({ type: "rejoin", run: kept });
  model.on("change:kept_run", () => keeper.write(model.get("kept_run")));
}

/** Tokens a second over the time of a generation, as a line. */
function sparkline(rates) {
  if (rates.length < 3) return [];
  const [width, height, most] = [64, 16, Math.max(...rates)];
  const points = rates.map((rate, index) => {
    const x = (index / (rates.length - 1)) * width;
    return `${x.toFixed(1)},${(height - 1 - (rate / most) * (height - 2)).toFixed(1)}`;
  });
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("role", "img");
  const line = svg.appendChild(document.createElementNS(svg.namespaceURI, "polyline"));
  line.setAttribute("points", points.join(" "));
  const said = t("From {least} to {most} tokens a second", {
    least: Math.round(Math.min(...rates)),
    most: Math.round(most),
  });
  svg.setAttribute("aria-label", said);
  const title = svg.appendChild(document.createElementNS(svg.namespaceURI, "title"));
  title.textContent = said;
  return [svg];
}
