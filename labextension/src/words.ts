import type { ISettingRegistry } from '@jupyterlab/settingregistry';
import { type ITranslator, nullTranslator, type TranslationBundle } from '@jupyterlab/translation';

const DOMAIN = 'modelcompose_jupyter';

/** What the extension says, in JupyterLab's language. */
export let trans: TranslationBundle = nullTranslator.load(DOMAIN);

/** Speak as the application does. */
export function speak(translator: ITranslator | null): void {
  trans = (translator ?? nullTranslator).load(DOMAIN);
}

/** What settings are called and said to do: JupyterLab itself translates those of its own alone. */
export function label(schema: ISettingRegistry.ISchema): void {
  for (const each of [schema, ...Object.values(schema.properties ?? {})]) {
    each.title = each.title && trans.__(each.title);
    each.description = each.description && trans.__(each.description);
  }
}

/** The language of the page, for whoever answers. */
export function language(): string {
  return document.documentElement.lang || 'en';
}
