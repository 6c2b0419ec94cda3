/**
 * Hears when the page's document was saved, from the page that has this one in a frame, and keeps the
 * page's heading.
 *
 * @typedef {import("@anywidget/types").AnyModel} Model
 */

/** @param {{ model: Model, el: HTMLElement }} view */
function render({ model, el }) {
  el.style.display = "none";
  const hear = ({ origin, data }) => {
    if (origin === location.origin && data === "modelcompose:saved") {
      model.send({ type: "saved" });
    }
  };
  const head = () => {
    const heading = document.querySelector(".mc-header h1");
    document.title = model.get("title") || document.title;
    if (heading) heading.textContent = document.title;
  };
  window.addEventListener("message", hear);
  model.on("change:title", head);
  return () => {
    window.removeEventListener("message", hear);
    model.off("change:title", head);
  };
}

export default { render };
