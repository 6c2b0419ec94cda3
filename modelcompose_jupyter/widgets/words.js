/**
 * What scripts say, in the language of the application around them, else in the browser's. English is
 * the source; `esm.py` puts the words of a script in all other languages here.
 */

/** By language and message: a translation for each plural form that the language has. */
const WORDS = {};


export const language = document.documentElement.lang || navigator.language || "en";
const translations = WORDS[language.split("-")[0]] ?? {};
const numbers = new Intl.NumberFormat(language);
const plurals = new Intl.PluralRules(language);
const { pluralCategories } = plurals.resolvedOptions();
const pluralForms = ["zero", "one", "two", "few", "many", "other"].filter((each) =>
  pluralCategories.includes(each),
);

/**
 * A message in this language.
 *
 * @param {string} message in English; `{name}` stands for a value
 * @param {Record<string, string | number>} [values] numbers are written as the language has them
 */
export function t(message, values = {}) {
  return filled(translations[message]?.[0] ?? message, values);
}

/** The same of something that is counted: `{count}` is the number. */
export function tn(one, many, count, values = {}) {
  const found = translations[one];
  const form = found && (found[pluralForms.indexOf(plurals.select(count))] ?? found.at(-1));
  return filled(form ?? (count === 1 ? one : many), { count, ...values });
}

/** A number as the language has it. */
export const number = (value) => numbers.format(value);

/** A moment, in hours and minutes or as asked. */
export const moment = (date, options) => new Intl.DateTimeFormat(language, options).format(date);

/** Say to the kernel which language its part of what is said is to be in. */
export function speak(model) {
  if (model.get("language") === language) return;
  model.set("language", language);
  model.save_changes();
}

function filled(form, values) {
  return form.replace(/\{(\w+)\}/g, (hole, name) => {
    const value = values[name];
    return typeof value === "number" ? number(value) : (value ?? hole);
  });
}
