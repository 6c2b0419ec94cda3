/** A conversation as people read it: what was said, the reply as it comes, what one can do with each. */

import { button, copyButton, element, setChildren, standIn } from "./dom.js";
import { Following } from "./following.js";
import { ThoughtFold } from "./thought_fold.js";
import { ToolCalls } from "./tool_calls.js";
import { t } from "./words.js";

const NO_CALLS = [];
const ROLES = {
  user: t("You"),
  assistant: t("Assistant"),
  system: t("Instructions"),
  tool: t("Tool"),
};

/** @typedef {{ text: string, tokens: number, thinks: boolean }} Thought what was thought before */

/** One message. */
class Turn {
  /** @param {(message: object) => void} send */
  constructor(role, markdown, send) {
    this.role = role;
    this.send = send;
    this.content = null;
    this.element = element("section", "modelcompose-turn");
    this.element.dataset.role = role;
    const heading = this.element.appendChild(element("h4", "", ROLES[role] ?? role));
    this.thought = role === "assistant" ? new ThoughtFold(heading) : null;
    this.calls = new ToolCalls();
    if (role === "assistant") this.element.append(this.calls.element);
    this.body = this.element.appendChild(element("div", "modelcompose-said"));
    this.body.dir = "auto";
    this.markdown = role === "assistant" ? markdown() : null;
    if (this.markdown) this.body.append(this.markdown.element);
    this.waiting = element("div", "modelcompose-thinking");
    this.waitsFor = this.waiting.appendChild(element("span"));
    this.waiting.append(element("i"), element("i"), element("i"));
    this.elapsed = this.waiting.appendChild(element("small"));
    this.elapsed.setAttribute("aria-hidden", "true");
    this.actions = this.element.appendChild(element("div", "modelcompose-turn-actions"));
    this.copy = copyButton(t("Copy"), () => this.content ?? "", { title: t("Copy this message") });
    this.more = [];
    this.editing = null;
    this.tokens = null;
  }

  /** Show the message as tokens, where there are any, in place of it as it is; and its thought. */
  showTokens(tokens, thoughtTokens) {
    this.tokens = standIn(this.body, this.tokens, tokens);
    this.thought?.showTokens(thoughtTokens);
  }

  /**
   * @param {string} content
   * @param {{ html?: string, growing: boolean, waits: string, thought: Thought }} how ``waits`` is
   *   what a reply that has no text yet waits for
   */
  say(content, { html, growing, waits, thought }) {
    this.thought?.update(thought);
    this.element.classList.toggle("modelcompose-growing", growing && !waits && !thought.thinks);
    if (waits) {
      this.waitsFor.textContent = waits;
      if (!this.waiting.isConnected) this.body.append(this.waiting);
    } else {
      this.waiting.remove();
    }
    if (content === this.content && growing === this.grew && html === this.html) return;
    if (content !== this.content) this.#endEditing(); // another conversation is in view
    this.content = content;
    this.grew = growing;
    this.html = html;
    if (this.markdown) this.markdown.update(content, { growing, html });
    else this.body.textContent = content;
  }

  /** @param {HTMLElement[]} more what can be done with it, beside copying */
  offer(more) {
    this.more = more;
    setChildren(this.actions, this.editing ? [] : this.content ? [this.copy, ...more] : more);
  }

  /** Have the message written anew, in its place. */
  edit(index) {
    const field = element("textarea", "modelcompose-edit");
    field.value = this.content;
    field.rows = Math.min(12, this.content.split("\n").length + 1);
    field.setAttribute("aria-label", t("Edit the message"));
    const end = () => {
      this.#endEditing();
      this.more[0]?.focus();
    };
    const sendIt = () => {
      if (!field.value.trim()) return;
      this.send({ type: "edit", index, text: field.value });
      this.#endEditing();
      this.element.closest(".modelcompose-chat")?.focus(); // its buttons go while the reply comes
    };
    field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") end();
      else if (isSend(event)) sendIt();
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    this.editing = element("div", "modelcompose-editing");
    const choices = element("div", "modelcompose-turn-actions");
    choices.append(
      button(this.role === "assistant" ? t("Continue") : t("Send"), sendIt, {
        className: "modelcompose-button modelcompose-primary",
      }),
      button(t("Cancel"), end),
    );
    this.editing.append(field, choices);
    this.body.hidden = true;
    this.actions.hidden = true;
    this.body.after(this.editing);
    field.focus();
  }

  #endEditing() {
    if (!this.editing) return;
    this.editing.remove();
    this.editing = null;
    this.body.hidden = false;
    this.actions.hidden = false;
    this.offer(this.more);
  }
}

/** Whether a key sends a message: Enter, but not where it ends a word of Korean, say. */
export function isSend(event) {
  return event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229;
}

export class ChatLog {
  /**
   * @param {() => import("./markdown.js").MarkdownView} markdown makes what draws a reply
   * @param {(message: object) => void} send to the kernel
   */
  constructor(markdown, send) {
    this.markdown = markdown;
    this.send = send;
    this.element = element("div", "modelcompose-chat");
    this.element.tabIndex = 0;
    this.element.setAttribute("role", "log");
    this.element.setAttribute("aria-live", "off");
    this.element.setAttribute("aria-label", t("Conversation"));
    this.empty = element("p", "modelcompose-chat-empty", t("Say something to begin."));
    this.turns = [];
    this.end = new Following(this.element);
  }

  /**
   * @param {{ role: string, content: string, index?: number, html?: string, begun?: boolean,
   *   thought?: string, thought_tokens?: number, calls?: object[] }[]} turns what was said, with the
   *   calls of tools before it; the reply goes on from one that has ``begun``
   * @param {{ text: string, waits: string, thought: Thought, calls: object[] } | null} reply the one
   *   that goes on, and what it waits for while it has no text
   * @param {{ extendable: boolean, conversation: string,
   *   tokens: (text: string) => (HTMLElement | null)[] }} options ``tokens`` gives a reply, and
   *   what was thought before it, as tokens
   */
  update(turns, reply, { extendable, conversation, tokens }) {
    if (conversation !== this.conversation) {
      for (const gone of this.turns.splice(0)) gone.markdown?.dispose();
      this.conversation = conversation;
    }
    const before = turns.at(-1)?.begun ? turns.slice(0, -1) : turns;
    const begun = turns.at(-1)?.begun ? turns.at(-1).content : "";
    const said = reply && { content: begun + reply.text, calls: reply.calls };
    const shown = reply ? [...before, { role: "assistant", ...said }] : turns;
    if (shown.length > this.turns.length) this.end.following = true;
    shown.forEach((turn, index) => {
      const { role, content, html, calls, thought: said = "", thought_tokens = 0 } = turn;
      if (this.turns[index]?.role !== role) this.#begin(index, role);
      const growing = reply !== null && index === before.length;
      const thought = growing
        ? reply.thought
        : { text: said, tokens: thought_tokens, thinks: false };
      const waits = growing && !content && !thought.text ? reply.waits : "";
      this.turns[index].calls.update(calls ?? NO_CALLS);
      this.turns[index].say(content, { html, growing, waits, thought });
    });
    for (const gone of this.turns.splice(shown.length)) gone.markdown?.dispose();
    this.turns.forEach((turn, index) => {
      const isLast = index === shown.length - 1;
      const at = shown[index].index ?? index; // in the conversation: calls are messages, too
      turn.offer(reply ? [] : this.#actions(turn, at, isLast, extendable));
      turn.showTokens(...(isLast && turn.role === "assistant" ? tokens(turn.content) : [null, null]));
    });
    setChildren(this.element, shown.length ? this.turns.map((turn) => turn.element) : [this.empty]);
    this.end.follow();
  }

  /** Show for how long a reply has been waited for. */
  tick(elapsed) {
    const last = this.turns.at(-1);
    if (last?.waiting.isConnected) last.elapsed.textContent = elapsed;
  }

  #begin(index, role) {
    const { markdown, conversation } = this;
    const send = (message) => this.send({ ...message, conversation });
    this.turns[index]?.markdown?.dispose();
    this.turns[index] = new Turn(role, markdown, send);
  }

  #actions(turn, index, isLast, extendable) {
    turn.buttons ??= {
      edit: button(t("Edit"), () => turn.edit(turn.index), { title: t("Say it in other words") }),
      begin: button(t("Edit"), () => turn.edit(turn.index), {
        title: t("Change how it begins, and have it go on from there"),
      }),
      again: button(t("Regenerate"), () => this.send({ type: "regenerate" }), {
        title: t("Have another reply"),
      }),
      retry: button(t("Try again"), () => this.send({ type: "regenerate" }), {
        title: t("Have a reply to it"),
      }),
      further: button(t("Continue"), () => this.send({ type: "extend" }), {
        title: t("The reply was cut: have it go on"),
      }),
    };
    turn.index = index;
    // A run that failed, or was stopped before its first word, leaves a message without a reply.
    if (turn.role === "user") return [turn.buttons.edit, ...(isLast ? [turn.buttons.retry] : [])];
    if (turn.role !== "assistant" || !isLast) return [];
    const { again, begin, further } = turn.buttons;
    return [again, ...(turn.content ? [begin] : []), ...(extendable ? [further] : [])];
  }
}
