// @vitest-environment jsdom
// What stands above a text: what was thought before it, and the calls of tools.

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { opened, query } from './testing/widget';

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
  document.body.replaceChildren();
});

const fold = (el: Element) => query<HTMLDetailsElement>(el, '.modelcompose-thought');
const label = (el: Element) => query(fold(el), 'summary > span').textContent;

describe('a thought', () => {
  it('is not there while there is none', () => {
    const { model, el } = opened();
    model.text([0, 0, 'Once']);
    expect(el.querySelector('.modelcompose-thought')).toBeNull();
  });

  it('is folded above its text, and says what it is at', async () => {
    const { model, el } = opened({ state: 'running' });
    model.hear({ type: 'text', changes: [], thoughts: [[0, 0, 'A fox', 2, false]] });
    expect(label(el)).toBe('Thinking…');
    expect(query(fold(el), 'small').textContent).toBe('A fox');
    expect(fold(el).open).toBe(false);
    model.hear({ type: 'text', changes: [[0, 0, 'Yes']], thoughts: [[0, 5, ' ran', 3, true]] });
    expect(label(el)).toBe('Thought for 3 tokens');
    query(fold(el), 'summary').click();
    expect(query(fold(el), '.modelcompose-thought-box').textContent).toBe('A fox ran');
    const body = query(el, '.modelcompose-text > div');
    expect(body.textContent).toBe('Yes');
    expect(fold(el).compareDocumentPosition(body)).toBe(Node.DOCUMENT_POSITION_FOLLOWING);
    await model.set({ texts: ['No'], thoughts: [] });
    expect(el.querySelector('.modelcompose-thought')).toBeNull();
  });

  it('of which something was lost is asked for', () => {
    const { model } = opened({ state: 'running' });
    model.hear({ type: 'text', changes: [], thoughts: [[0, 9, 'fox', 4, false]] });
    expect(model.sent).toEqual([{ type: 'resync' }]);
  });
});

describe('calls', () => {
  const call = {
    id: 'a',
    name: 'find',
    arguments: '{"place": "sea"}',
    summary: 'place: sea',
    state: 'running',
    told: 'running'
  };
  const seen = (el: Element) => query(el, '.modelcompose-call');

  it('are lines that unfold, and stay unfolded when their results come', async () => {
    const { model, el } = opened({ calls: [call] });
    expect(query(seen(el), 'code').textContent).toBe('find(place: sea)');
    expect(query(seen(el), 'pre').textContent).toBe('{"place": "sea"}');
    query<HTMLDetailsElement>(seen(el), 'details').open = true;
    const done = { ...call, state: 'completed', told: '', result: 'an octopus', seconds: 1.26 };
    await model.set({ calls: [done] });
    expect(query<HTMLDetailsElement>(seen(el), 'details').open).toBe(true);
    expect(query(seen(el), 'summary > small').textContent).toBe('1.3 s');
    expect(seen(el).textContent).toContain('an octopus');
  });

  it('that failed say why, and are no markup', async () => {
    const error = 'ValueError: <b>no</b>';
    const { el } = opened({ calls: [{ ...call, state: 'failed', told: 'failed', error }] });
    expect(query(el, '.modelcompose-call-error').textContent).toBe(error);
    expect(el.querySelector('b')).toBeNull();
    expect(seen(el).dataset.state).toBe('failed');
  });
});
