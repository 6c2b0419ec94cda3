/**
 * What is to be known of a workflow, folded away: its jobs as a picture, and a command to copy.
 *
 * @typedef {import("@anywidget/types").AnyModel} Model
 */

import { t } from "../widgets/words.js";

/** @param {{ model: Model, el: HTMLElement }} view */
function render({ model, el }) {
  el.classList.add("modelcompose-about");

  const picture = document.createElement("div");
  picture.className = "modelcompose-diagram";
  picture.innerHTML = model.get("diagram"); // drawn, and made safe, by the package

  const command = document.createElement("pre");
  command.tabIndex = 0;
  const copy = document.createElement("button");
  copy.type = "button";
  copy.className = "modelcompose-button";
  const label = () => (copy.textContent = t("Copy"));
  copy.addEventListener("click", async () => {
    copy.textContent = (await copied(command)) ? t("Copied") : t("Press Ctrl+C");
    setTimeout(label, 1500);
  });
  const show = () => (command.textContent = model.get("curl"));
  label();
  show();
  model.on("change:curl", show);

  const how = folded(t("How it works"), picture);
  how.open = model.get("unfolded");
  el.append(...(picture.firstChild ? [how] : []), folded(t("Call it over HTTP"), command, copy));
  return () => model.off("change:curl", show);
}

function folded(title, ...content) {
  const details = document.createElement("details");
  const summary = details.appendChild(document.createElement("summary"));
  summary.textContent = title;
  details.append(...content);
  return details;
}

/** Copy the text of an element. Where a page may not (it came without TLS), select it. */
async function copied(element) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    return true;
  } catch {
    document.getSelection().selectAllChildren(element);
    return document.execCommand("copy");
  }
}

export default { render };
