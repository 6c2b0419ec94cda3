/**
 * Tokens in words and numbers, as the kernel tells them.
 *
 * @typedef {[id: number, token: string, probability: number, sampling: number | null]} Alternative
 * @typedef {[id: number, token: string, probability: number, sampling: number | null, rank: number,
 *   alternatives: Alternative[]]} Token
 *   ``token`` is what it stands for by itself; ``probability`` is the model's, and ``sampling`` the
 *   one of the draw: null of one that sampling could not draw
 * @typedef {[text: string, first: number, tokens: Token[]]} Group tokens that are shown as one: what
 *   they add to the text, and the place of the first one
 */

import { t } from "./words.js";

/** From these probabilities on a token has step 0, 1, … of colour; `token_html.py` has the same. */
export const TOKEN_STEPS = [0.9, 0.6, 0.3, 0.1, 0.01];

/** Which of a token's probabilities is shown: the model's, or the one of the draw. */
export const OF_MODEL = 2;
export const OF_DRAW = 3;

/**
 * The probability of tokens that are shown as one, all together; null where nothing foretold them.
 *
 * @param {Group} group
 * @param {number} which OF_MODEL or OF_DRAW
 */
export function probabilityOf([, , tokens], which) {
  if (tokens.some((token) => token[OF_MODEL] === null)) return null;
  return tokens.reduce((product, token) => product * (token[which] ?? 0), 1);
}

/** How much colour a probability has: the less likely, the more. */
export function stepOf(probability) {
  if (probability === null) return 0;
  const found = TOKEN_STEPS.findIndex((least) => probability >= least);
  return found < 0 ? TOKEN_STEPS.length : found;
}

/** A probability in words. */
export function percent(probability, sign = "%") {
  if (probability >= 0.995) return `> 99 ${sign}`;
  if (probability >= 0.0995) return `${Math.round(100 * probability)} ${sign}`;
  return probability >= 0.001 ? `${(100 * probability).toFixed(1)} ${sign}` : `< 0.1 ${sign}`;
}

/** A token with signs for what is not seen. */
export function visible(text) {
  return text.replaceAll(" ", "␣").replace(/\r?\n/g, "↵").replaceAll("\t", "⇥");
}

/** What a screen reader says of a token. */
export function spoken(text) {
  const said = text.trim();
  if (said) return said;
  return text.includes("\n") ? t("line break") : t("space");
}
