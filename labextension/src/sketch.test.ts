import { expect, test } from 'vitest';

import settings from '../schema/plugin.json';
import { sketch } from './sketch';

const TEMPLATES = settings.properties.templates.default;

test('each template has a name, a sentence and a text', () => {
  for (const { name, description, text } of TEMPLATES) {
    expect(name).toMatch(/^[A-Z]/);
    expect(description).toMatch(/^[A-Z].*\.$/);
    expect(text).toMatch(/^workflow:/);
  }
});

test('its picture shows what its document has', () => {
  const [story, instruction, chat, steps] = TEMPLATES.map(each => sketch(each.text));
  expect(story).toEqual({ isChat: false, fields: ['text', 'slider', 'slider'], jobs: 1 });
  expect(instruction).toEqual({ isChat: false, fields: ['text', 'slider'], jobs: 1 });
  expect(chat.isChat).toBe(true);
  expect(steps).toEqual({ isChat: false, fields: ['text'], jobs: 2 });
});

test.each(['', '${input.', 'jobs:\n', 'jobs:\n  - a\n- b\n', '- \n'])(
  'any text has a picture: %j',
  text => {
    expect(sketch(text).jobs).toBeGreaterThan(0);
  }
);
