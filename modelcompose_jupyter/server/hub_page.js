// Shows the runs as they are, again and again while somebody looks.
const SECONDS = 3;

async function refresh() {
  const now = document.getElementById("now");
  if (!now || document.hidden) return;
  const answer = await fetch(location.href, { redirect: "manual", headers: headers() });
  if (answer.type === "opaqueredirect") return location.reload(); // logged in no more
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.getElementById("now");
  if (!fresh || fresh.innerHTML === now.innerHTML) return;
  const focused = document.activeElement?.id;
  const scrolled = [...now.querySelectorAll(".table")].map((each) => each.scrollLeft);
  now.replaceChildren(...fresh.childNodes);
  now.querySelectorAll(".table").forEach((each, at) => {
    each.scrollLeft = scrolled[at] ?? 0;
  });
  if (focused) document.getElementById(focused)?.focus();
}

// Without what its own forms send back, a request that is no visit is nobody's.
function headers() {
  const cookie = document.cookie.split("; ").find((each) => each.startsWith("_xsrf="));
  return cookie ? { "X-XSRFToken": cookie.slice("_xsrf=".length) } : {};
}

setInterval(() => refresh().catch(() => {}), SECONDS * 1000);
document.addEventListener("visibilitychange", () => refresh().catch(() => {}));
