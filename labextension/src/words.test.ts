// @vitest-environment jsdom

import { expect, test } from 'vitest';

import { number, t, tn } from '../../modelcompose_jupyter/widgets/words.js';

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
