/** What the colours of tokens mean. */

import { button, element } from "./dom.js";
import { OF_DRAW, OF_MODEL, TOKEN_STEPS } from "./token_words.js";
import { t } from "./words.js";

export class TokenLegend {
  /**
   * @param {(which: number) => void} choose which of a token's probabilities is shown
   * @param {() => void} weigh has the text in view get them
   */
  constructor(choose, weigh) {
    this.element = element("div", "modelcompose-legend");
    this.element.hidden = true;
    this.steps = this.element.appendChild(element("ul"));
    this.steps.setAttribute("aria-label", t("Colours"));
    [...TOKEN_STEPS, 0].forEach((least, step) => this.#step(step, least));
    this.choice = this.element.appendChild(element("select"));
    this.choice.setAttribute("aria-label", t("Which probabilities"));
    this.choice.append(new Option(t("of the model"), OF_MODEL), new Option(t("of the draw"), OF_DRAW));
    this.choice.title = t(
      "What the model gave a token, or what it had after temperature, top_k, top_p",
    );
    this.choice.addEventListener("change", () => choose(Number(this.choice.value)));
    this.missing = this.element.appendChild(element("span", "", t("This text came without probabilities.")));
    this.weigh = this.element.appendChild(
      button(t("Add them"), weigh, { title: t("Run the same again, with its seed: the text stays as it is") }),
    );
  }

  /**
   * @param {boolean} shown
   * @param {boolean} known whether the tokens of the text in view are
   * @param {boolean} missing whether they are not, and can be looked up
   */
  update(shown, known, missing) {
    this.element.hidden = !shown;
    this.steps.hidden = this.choice.hidden = !known;
    this.missing.hidden = this.weigh.hidden = !missing;
  }

  #step(step, least) {
    const [from, to] = [least, TOKEN_STEPS[step - 1]].map((each) => Math.round(100 * each));
    const words = step === 0 ? `≥ ${from} %` : from === 0 ? `< ${to} %` : `${from}–${to} %`;
    const swatch = element("span", "modelcompose-token", words);
    swatch.dataset.step = step;
    this.steps.appendChild(element("li")).append(swatch);
  }
}
