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
export function label(schema: ISettingRegistry.IProperty): void {
  schema.title = schema.title && trans.__(schema.title);
  schema.description = schema.description && trans.__(schema.description);
  const { properties, items } = schema as {
    properties?: Parts;
    items?: ISettingRegistry.IProperty;
  };
  for (const each of [...Object.values(properties ?? {}), ...(items ? [items] : [])]) {
    label(each);
  }
}

type Parts = Record<string, ISettingRegistry.IProperty>;

/** The language of the page, for whoever answers. */
export function language(): string {
  return document.documentElement.lang || 'en';
}
