// @vitest-environment jsdom

import type { ISettingRegistry } from '@jupyterlab/settingregistry';
import { nullTranslator } from '@jupyterlab/translation';
import { expect, test } from 'vitest';
import { number, t, tn } from '../../modelcompose_jupyter/widgets/words.js';
import schema from '../schema/plugin.json';
import { label, speak } from './words';

test('a message is filled with values, and numbers are as the language has them', () => {
  expect(t('Values of {label}', { label: '{x}' })).toBe('Values of {x}');
  expect(t('{done} of {total} items', { done: 5, total: 12345 })).toBe('5 of 12,345 items');
  expect(t('{done} of {total} items', { done: 5 })).toBe('5 of {total} items');
  expect(number(1234.5)).toBe('1,234.5');
});

test('one is said otherwise than many', () => {
  const said = (count: number) => tn('{count} token', '{count} tokens', count);
  expect([0, 1, 2000].map(said)).toEqual(['0 tokens', '1 token', '2,000 tokens']);
});

test('settings are called what they are in the application, down to their parts', () => {
  const bundle = { ...nullTranslator.load(''), __: (message: string) => `(${message})` };
  speak({ languageCode: 'ko-KR', load: () => bundle });
  const labelled = structuredClone(schema);
  label(labelled as ISettingRegistry.ISchema);
  speak(null);
  expect(labelled.description).toBe('(Workflows in cells and in model-compose.yml files)');
  expect(labelled.properties.status.title).toBe('(Status bar)');
  expect(labelled.properties.templates.items.properties.name.title).toBe('(Name)');
  expect(labelled.properties.templates.default).toEqual(schema.properties.templates.default);
  expect(JSON.stringify(schema)).not.toContain('%'); // of which a translator takes some
});
