/** The calls of tools that stand before a reply, each with what came of it. */

import { element, setChildren, show } from "./dom.js";
import { t } from "./words.js";

/**
 * @typedef {{ id: string, name: string, arguments: string, summary: string, state: string,
 *   told: string, result?: string, error?: string, seconds?: number, said?: string }} Call
 */

/** One call: a line that unfolds into its arguments and its result. */
class ToolCall {
  constructor() {
    this.element = element("div", "modelcompose-call");
    this.said = this.element.appendChild(element("div", "modelcompose-call-said"));
    this.said.dir = "auto";
    this.folded = this.element.appendChild(element("details"));
    const line = this.folded.appendChild(element("summary"));
    this.mark = line.appendChild(element("i"));
    this.mark.setAttribute("aria-hidden", "true");
    this.name = line.appendChild(element("code"));
    this.state = line.appendChild(element("small"));
    this.folded.append(element("h5", "", t("Arguments")));
    this.given = this.folded.appendChild(element("pre"));
    this.heading = this.folded.appendChild(element("h5", "", t("Result")));
    this.result = this.folded.appendChild(element("pre"));
    this.error = this.element.appendChild(element("div", "modelcompose-call-error"));
    this.error.dir = "auto";
  }

  /** @param {Call} call */
  update(call) {
    this.element.dataset.state = call.state;
    show(this.said, call.said ?? "");
    const name = `${call.name}(${call.summary})`;
    if (this.name.textContent !== name) this.name.textContent = name;
    const took = (call.seconds ?? null) === null ? "" : duration(call.seconds);
    const told = [call.told, took].filter(Boolean).join(" · ");
    if (this.state.textContent !== told) this.state.textContent = told;
    show(this.given, call.arguments);
    show(this.result, call.result ?? "");
    this.heading.hidden = !call.result;
    show(this.error, call.error ?? "");
  }
}

/** Calls one below the other; one that is unfolded stays so while others come. */
export class ToolCalls {
  constructor() {
    this.element = element("div", "modelcompose-calls");
    this.element.setAttribute("role", "group");
    this.element.setAttribute("aria-label", t("Calls of tools"));
    this.calls = new Map();
  }

  /** @param {Call[]} calls */
  update(calls) {
    if (calls === this.shown) return;
    this.shown = calls;
    const known = this.calls;
    this.calls = new Map();
    for (const call of calls) {
      const drawn = known.get(call.id) ?? new ToolCall();
      drawn.update(call);
      this.calls.set(call.id, drawn);
    }
    setChildren(this.element, [...this.calls.values()].map((each) => each.element));
    this.element.hidden = calls.length === 0;
  }
}

function duration(seconds) {
  return seconds >= 0.05
    ? t("{seconds} s", { seconds: seconds.toFixed(1) })
    : t("{milliseconds} ms", { milliseconds: Math.round(1000 * seconds) });
}
