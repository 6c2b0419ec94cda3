import { type ITranslator, nullTranslator, type TranslationBundle } from '@jupyterlab/translation';

const DOMAIN = 'modelcompose_jupyter';

/** What the extension says, in JupyterLab's language. */
export let trans: TranslationBundle = nullTranslator.load(DOMAIN);

/** Speak as the application does. */
export function speak(translator: ITranslator | null): void {
  trans = (translator ?? nullTranslator).load(DOMAIN);
}

/** The language of the page, for whoever answers. */
export function language(): string {
  return document.documentElement.lang || 'en';
}
