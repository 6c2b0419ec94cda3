/** Conversations by their names: to choose one, begin one, rename it, forget it; and to keep them. */

import { isSend } from "./chat_log.js";
import { button, element } from "./dom.js";
import { t } from "./words.js";

/** The bar above a conversation. */
export class ConversationBar {
  /** @param {(message: object) => void} send to the kernel */
  constructor(send) {
    this.send = send;
    this.element = element("div", "modelcompose-conversations");
    this.choice = element("select");
    this.choice.setAttribute("aria-label", t("Conversation"));
    this.choice.addEventListener("change", () =>
      send({ type: "conversation", id: this.choice.value }),
    );
    this.begin = button(t("New"), () => send({ type: "new" }), { title: t("Begin a new conversation") });
    this.begin.setAttribute("aria-label", t("New conversation"));
    this.rename = button(t("Rename"), () => this.#edit());
    this.forget = button(t("Delete"), () => send({ type: "remove", id: this.choice.value }), {
      title: t("Forget this conversation"),
    });
    this.undo = button(t("Undo"), () => send({ type: "undo" }), {
      title: t("Bring back what was forgotten last"),
    });
    for (const quiet of [this.rename, this.forget]) quiet.classList.add("modelcompose-quiet");
    this.element.append(this.choice, this.begin, this.rename, this.forget, this.undo);
  }

  /**
   * @param {{ id: string, name: string }[]} all
   * @param {string} current
   * @param {boolean} undoable
   */
  update(all, current, undoable) {
    this.undo.hidden = !undoable;
    if (all !== this.all) this.choice.replaceChildren(...all.map(option)); // else it may be open
    this.all = all;
    this.choice.value = current;
    this.choice.hidden = this.rename.hidden = this.forget.hidden = all.length === 0;
  }

  #edit() {
    const { value: id, selectedOptions } = this.choice;
    const field = element("input");
    field.value = selectedOptions[0]?.textContent ?? "";
    field.setAttribute("aria-label", t("Name of the conversation"));
    let done = false;
    const end = (keeps) => {
      if (done) return;
      done = true;
      field.replaceWith(this.choice);
      if (keeps && field.value.trim()) this.send({ type: "rename", id, name: field.value.trim() });
    };
    field.addEventListener("blur", () => end(true));
    field.addEventListener("keydown", (event) => {
      if (!isSend(event) && event.key !== "Escape") return;
      event.preventDefault();
      event.stopPropagation();
      end(event.key === "Enter");
      this.rename.focus();
    });
    this.choice.replaceWith(field);
    field.focus();
    field.select();
  }
}

function option({ id, name }) {
  const made = element("option", "", name);
  made.value = id;
  return made;
}

/**
 * A page's conversations, which its browser keeps: the page's kernel ends with the page.
 *
 * Nothing is kept where the browser allows no storage, as in some private windows.
 */
export class Keeper {
  /** @param {string} name of what is kept, for this page alone */
  constructor(name) {
    this.key = `modelcompose:${name}`;
    this.known = new Set(); // what this tab has had
  }

  /** What was kept, or null. */
  read() {
    const kept = this.#stored();
    for (const { id } of kept?.conversations ?? []) this.known.add(id);
    return kept;
  }

  /** Keep what this tab has, beside what only others have: a page may be open twice. */
  write(kept) {
    const own = new Set(kept.conversations.map(({ id }) => id));
    const stored = this.#stored()?.conversations ?? [];
    const others = stored.filter(({ id }) => !own.has(id) && !this.known.has(id));
    for (const id of own) this.known.add(id);
    try {
      const conversations = [...others, ...kept.conversations];
      localStorage.setItem(this.key, JSON.stringify({ ...kept, conversations }));
    } catch {
      // There is no room, or none is allowed: the page works without.
    }
  }

  /** What this tab has had and is kept no more. */
  forgotten() {
    const stored = new Set((this.#stored()?.conversations ?? []).map(({ id }) => id));
    const gone = [...this.known].filter((id) => !stored.has(id));
    for (const id of gone) this.known.delete(id);
    return gone;
  }

  #stored() {
    try {
      const kept = JSON.parse(localStorage.getItem(this.key) ?? "null");
      return Array.isArray(kept?.conversations) ? kept : null;
    } catch {
      return null;
    }
  }
}
