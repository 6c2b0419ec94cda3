// What Voila calls while it runs the cells, and when all have run.
window.voila_process = (index, count) => {
  const text = document.getElementById("mc-loading-text");
  if (text && count > 1) text.textContent = `${index} of ${count}`;
};
window.voila_finish = () => {
  if (!window.themeLoaded) {
    window.cellLoaded = true; // its frontend calls again
    return;
  }
  const cells = document.getElementById("rendered_cells");
  const waits = () =>
    cells.querySelector('script[type="application/vnd.voila.cell-output+json"]') ||
    [...cells.querySelectorAll(".jp-OutputArea-output")].some(
      (output) => output.textContent === "Loading widget...",
    );
  // Outputs are drawn where they will stand, since sliders measure, but not seen half drawn.
  document.body.classList.add("mc-drawing");
  cells.style.display = "";
  const observer = new MutationObserver(() => waits() || show());
  const show = () => {
    observer.disconnect();
    clearTimeout(late);
    document.body.classList.remove("mc-drawing");
    document.getElementById("mc-loading")?.remove();
  };
  const late = setTimeout(show, 5000);
  observer.observe(cells, { childList: true, subtree: true });
  if (!waits()) show();
};

// The page says when its kernel cannot be reached, as soon as that is so.
(() => {
  const page = document.body.classList;
  const Plain = window.WebSocket;
  window.WebSocket = class extends Plain {
    constructor(...options) {
      super(...options);
      if (!/\/api\/kernels\/[^/]+\/channels/.test(this.url)) return;
      this.addEventListener("open", () => page.remove("mc-offline"));
      this.addEventListener("close", () => page.add("mc-offline"));
    }
  };
  addEventListener("beforeunload", () => page.add("mc-leaving"));
})();
