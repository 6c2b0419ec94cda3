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
})();

// A page that is left says so, and its kernel ends. Voila has it do so before it unloads; phones
// leave pages without a word before, and one that they keep may be shown again.
(() => {
  // The proof that the page itself says it: a cookie that other pages cannot read. Voila demands
  // one and gives none out.
  const known = () => document.cookie.match(/(?:^|; )_xsrf=([^;]*)/)?.[1];
  const { baseUrl } = document.body.dataset;
  if (!known()) {
    const random = crypto.getRandomValues(new Uint8Array(16));
    const value = Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("");
    const path = baseUrl.replace(/voila\/$/, "");
    document.cookie = `_xsrf=${value}; path=${path}; SameSite=Lax`;
  }
  let told = false;
  addEventListener("beforeunload", () => {
    told = true;
    document.body.classList.add("mc-leaving");
  });
  addEventListener("pagehide", (event) => {
    if (told || event.persisted) return;
    document.body.classList.add("mc-leaving");
    const config = document.getElementById("jupyter-config-data");
    const kernel = config && JSON.parse(config.textContent).kernelId;
    const proof = new FormData();
    proof.append("_xsrf", known() ?? "");
    if (kernel) navigator.sendBeacon(`${baseUrl}api/shutdown/${kernel}`, proof);
  });
})();
