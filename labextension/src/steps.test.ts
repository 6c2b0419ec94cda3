// @vitest-environment jsdom
// The jobs of a run: the diagram with their states, and elements as a table that fills.

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { button, opened, press, query } from './testing/widget';

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
  document.body.replaceChildren();
});

const node = (place: number, name: string) =>
  `<g data-node="${place}"><rect/><text>${name} <tspan>loop</tspan></text>` +
  '<g><text><tspan></tspan> <tspan data-words=""></tspan></text></g></g>';
const picture =
  '<svg role="img" aria-label="input, draft, check"><path data-edge="0-1"/><path data-edge="1-2"/>' +
  `${node(1, 'draft')}${node(2, 'check')}</svg>`;
const done = {
  name: 'draft',
  state: 'completed',
  mark: '✓',
  words: 'done',
  details: ['completed']
};
const running = {
  name: 'check',
  state: 'running',
  mark: '●',
  words: '1 / 3',
  details: ['running']
};
const row = { state: 'running', mark: '●', word: 'running', label: 'a fox', output: '', error: '' };

const drawn = (el: Element, place: number) => query(el, `[data-node="${place}"]`);
const rows = (el: Element) => [...el.querySelectorAll<HTMLElement>('.modelcompose-items tbody tr')];
const cells = (each: Element) => [...each.children].map(cell => cell.textContent);

describe('the diagram', () => {
  it('is not there where there is one call alone', () => {
    const { el } = opened();
    expect(el.querySelector('.modelcompose-steps')).toBeNull();
  });

  it('is drawn once and has the states by marks and words', () => {
    const { model, el } = opened({ picture, state: 'running' });
    const svg = query(el, '.modelcompose-steps svg');
    model.hear({ type: 'steps', nodes: { 1: done }, edges: { '0-1': 'taken' } });
    model.hear({ type: 'steps', nodes: { 2: running } });
    expect(query(el, '.modelcompose-steps svg')).toBe(svg);
    expect(drawn(el, 1).dataset.state).toBe('completed');
    expect(drawn(el, 1).textContent).toContain('✓ done');
    expect(drawn(el, 2).textContent).toContain('● 1 / 3');
    expect(query(el, '[data-edge="0-1"]').dataset.state).toBe('taken');
    expect(query(el, '[data-edge="1-2"]').dataset.state).toBe('open');
    expect(query(el, '.modelcompose-steps summary small').textContent).toBe('1 of 2 done');
  });

  it('is drawn anew in the language that the kernel has heard', async () => {
    const { model, el } = opened({ picture, state: 'running' });
    model.hear({ type: 'steps', nodes: { 1: done } });
    await model.set({ picture: picture.replaceAll('loop', '반복') });
    expect(el.querySelectorAll('.modelcompose-steps')).toHaveLength(1);
    expect(drawn(el, 1).textContent).toContain('반복');
    expect(drawn(el, 1).dataset.state).toBe('completed');
  });

  it('counts the seconds by itself', () => {
    const { model, el } = opened({ picture, state: 'running' });
    model.hear({ type: 'steps', nodes: { 2: { ...running, elapsed: 4.5 } } });
    expect(drawn(el, 2).textContent).toContain('1 / 3 · 4 s');
    vi.advanceTimersByTime(1000);
    expect(drawn(el, 2).textContent).toContain('1 / 3 · 5 s');
    model.hear({ type: 'steps', nodes: { 2: { ...done, words: 'done · 5.5 s' } } });
    vi.advanceTimersByTime(1000);
    expect(drawn(el, 2).textContent).toContain('✓ done · 5.5 s');
  });

  it('has the whole when it is loaded in the middle, and nothing of a run before', async () => {
    const steps = { nodes: { 1: done, 2: running }, edges: { '0-1': 'taken' } };
    const { model, el } = opened({ picture, steps, run_id: 'a' });
    expect(drawn(el, 2).dataset.state).toBe('running');
    await model.set({ run_id: 'b' });
    expect(drawn(el, 2).dataset.state).toBeUndefined();
    expect(drawn(el, 2).textContent).not.toContain('1 / 3');
    expect(query(el, '[data-edge="0-1"]').dataset.state).toBe('open');
    await model.set({ steps: { nodes: { 1: done } } });
    expect(drawn(el, 1).dataset.state).toBe('completed');
  });

  it('says of a job that is chosen what there is to say, also by keys', () => {
    const { model, el } = opened({ picture, state: 'running' });
    const told = query(el, '.modelcompose-step');
    expect(told.hidden).toBe(true);
    drawn(el, 1).dispatchEvent(new MouseEvent('click', { bubbles: true }));
    expect(told.textContent).toBe('draftIt has not run yet.');
    const details = ['completed: 1.2 s', '1st attempt: busy'];
    model.hear({ type: 'steps', nodes: { 1: { ...done, details } } });
    expect([...told.children].map(each => each.textContent)).toEqual(['draft', ...details]);
    expect(drawn(el, 1).getAttribute('aria-pressed')).toBe('true');
    expect(press(drawn(el, 1), { key: 'ArrowDown' })).toBe(true);
    expect(document.activeElement).toBe(drawn(el, 2));
    expect(drawn(el, 2).getAttribute('tabindex')).toBe('0');
    expect(drawn(el, 1).getAttribute('tabindex')).toBe('-1');
    press(drawn(el, 2), { key: 'Enter' });
    expect(told.textContent).toContain('check');
    press(drawn(el, 2), { key: ' ' });
    expect(told.hidden).toBe(true);
  });
});

describe('a table of elements', () => {
  const table = (total: number, found: Record<number, object>, done_ = 0) => ({
    tables: { each: { total, done: done_, rows: found } }
  });

  it('has a row for each, and those to come', () => {
    const { model, el } = opened({ state: 'running' });
    model.hear({ type: 'steps', ...table(3, { 0: row }) });
    expect(rows(el).map(cells)).toEqual([
      ['1', 'a fox', '●running', ''],
      ['2', '', '○waiting', ''],
      ['3', '', '○waiting', '']
    ]);
    expect(query(el, '.modelcompose-items h4').textContent).toBe('each0 of 3 items');
  });

  it('fills with the texts as they come', () => {
    const { model, el } = opened({ state: 'running' });
    model.hear({ type: 'steps', ...table(2, { 0: row, 1: row }), places: { 1: ['each', 1] } });
    model.text([0, 0, 'Before'], [1, 0, 'There was']);
    model.text([1, 9, ' a fox']);
    expect(query(rows(el)[1], '.modelcompose-text > div').textContent).toBe('There was a fox');
    const outside = query(el, '.modelcompose-texts > .modelcompose-text');
    expect(outside.textContent).toBe('Before');
    const known = rows(el)[1];
    const failed = { ...row, state: 'failed', mark: '✕', word: 'failed', error: 'too long' };
    model.hear({ type: 'steps', ...table(2, { 1: failed }, 1) });
    expect(rows(el)[1]).toBe(known);
    expect(known.dataset.state).toBe('failed');
    expect(query(known, '.modelcompose-item-error').textContent).toBe('too long');
    expect(query(el, '.modelcompose-items h4 small').textContent).toBe(
      '1 of 2 items · 1 with errors'
    );
  });

  it('shows a hundred at first, and more where one asks', () => {
    const { model, el } = opened({ state: 'running' });
    const found = Object.fromEntries([...Array(250).keys()].map(index => [index, row]));
    model.hear({ type: 'steps', ...table(250, found), places: { 0: ['each', 120] } });
    model.text([0, 0, 'far below']);
    expect(rows(el).length).toBe(100);
    expect(el.textContent).not.toContain('far below');
    button(el, 'and 150 more').click();
    expect(rows(el).length).toBe(200);
    expect(query(rows(el)[120], '.modelcompose-text > div').textContent).toBe('far below');
    button(el, 'and 50 more').click();
    expect(rows(el).length).toBe(250);
  });

  it('begins anew where its job is tried again', () => {
    const { model, el } = opened({ state: 'running' });
    model.hear({ type: 'steps', ...table(2, { 0: row, 1: row }) });
    model.hear({ type: 'steps', tables: { each: { total: 2, done: 0, anew: true, rows: {} } } });
    expect(rows(el).map(each => cells(each)[2])).toEqual(['○waiting', '○waiting']);
  });

  it('is gone with its run, and is there for who comes later', async () => {
    const steps = { ...table(1, { 0: { ...row, output: '[1]' } }, 1), places: { 0: ['each', 0] } };
    const { model, el, show } = opened({ run_id: 'a', texts: ['A fox'], steps });
    expect(cells(rows(el)[0])[3]).toBe('A fox[1]');
    expect(cells(rows(show().el)[0])[3]).toBe('A fox[1]');
    await model.set({ run_id: 'b', texts: [] });
    expect(rows(el)).toEqual([]);
  });

  it('escapes what it shows', () => {
    const { model, el } = opened({ state: 'running' });
    model.hear({ type: 'steps', ...table(1, { 0: { ...row, label: '<b>x</b>', output: '<i>' } }) });
    expect(cells(rows(el)[0])).toEqual(['1', '<b>x</b>', '●running', '<i>']);
  });
});
