/** What the widgets' scripts share to make and change elements. */

import { t } from "./words.js";

export function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

/** Show a text, or nothing at all; a text that is there already keeps its selection. */
export function show(node, text) {
  node.hidden = !text;
  if (node.textContent !== text) node.textContent = text;
}

export function button(label, action, { title = "", className = "modelcompose-button" } = {}) {
  const made = element("button", className, label);
  made.type = "button";
  if (title) made.title = title;
  made.addEventListener("click", action);
  return made;
}

/** A button that copies what ``text`` gives when it is pressed, and says that it has. */
export function copyButton(label, text, options) {
  const made = button(
    label,
    async () => {
      const copied = await copy(text(), made);
      made.textContent = copied ? t("Copied") : t("Select the text and press Ctrl+C");
      setTimeout(() => (made.textContent = label), 1500);
    },
    options,
  );
  return made;
}

/** Copy a text; ``near`` is an element beside which a field may stand for a moment. */
export async function copy(text, near) {
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
    near.focus?.();
    return copied;
  }
}

/**
 * Show an element in place of another one, or that one again.
 *
 * @param {HTMLElement} body
 * @param {HTMLElement | null} before what stood for it until now
 * @param {HTMLElement | null} wanted
 * @returns {HTMLElement | null} what stands for it
 */
export function standIn(body, before, wanted) {
  if (wanted === before) return wanted;
  before?.remove();
  if (wanted) body.after(wanted);
  body.hidden = wanted !== null;
  return wanted;
}

/**
 * Replace an element's children where they differ: what stays keeps its focus and its selection.
 *
 * @param {Element} parent
 * @param {Node[]} children
 */
export function setChildren(parent, children) {
  const wanted = new Set(children);
  for (const child of [...parent.childNodes]) if (!wanted.has(child)) child.remove();
  children.forEach((child, index) => {
    const there = parent.childNodes[index] ?? null;
    if (there !== child) parent.insertBefore(child, there);
  });
}
