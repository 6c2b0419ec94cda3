// @vitest-environment jsdom
// Runs to go back to, to keep, and to put side by side.

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { button, opened, query } from './testing/widget';

const card = (id: string, more = {}) => ({
  id,
  time: '12:00:00',
  title: `A story of ${id}`,
  details: ['Temperature 0.7', 'Length 5'],
  status: '5 tokens',
  pinned: false,
  ...more
});
const CARDS = [card('c'), card('b', { pinned: true }), card('a', { details: [] })];
const RUN = { run_id: 'b', ended: true, state: 'completed', cards: CARDS };

const cards = (el: Element) => [...el.querySelectorAll<HTMLElement>('.modelcompose-card')];
const boxes = (el: Element) => [
  ...el.querySelectorAll<HTMLInputElement>('.modelcompose-card input')
];
const pins = (el: Element) => [...el.querySelectorAll<HTMLElement>('.modelcompose-pin')];
const runs = (el: Element) => query(el, '.modelcompose-runs');

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
  document.getSelection()?.removeAllRanges();
  document.body.replaceChildren();
});

describe('cards', () => {
  it('say what tells a run from the others, and which is in view', () => {
    const { el } = opened(RUN);
    const said = (selector: string) =>
      [...el.querySelectorAll(`.modelcompose-card-open > ${selector}`)].map(
        each => each.textContent
      );
    expect(said('strong')).toEqual(['A story of c', 'A story of b', 'A story of a']);
    expect(said('span')).toEqual(Array(2).fill('Temperature 0.7 · Length 5'));
    expect(said('small')).toEqual(Array(3).fill('12:00:00 · 5 tokens'));
    const current = cards(el).map(each => each.getAttribute('aria-current'));
    expect(current).toEqual([null, 'true', null]);
    expect(boxes(el)[0].getAttribute('aria-label')).toBe('Choose A story of c, 12:00:00');
  });

  it('are no markup', () => {
    const { el } = opened({ ...RUN, cards: [card('a'), card('b', { title: '<b>bold</b>' })] });
    expect(query(cards(el)[1], 'strong').textContent).toBe('<b>bold</b>');
  });

  it('are none of a single run', async () => {
    const { model, el } = opened({ ...RUN, cards: CARDS.slice(0, 1) });
    expect(runs(el).hidden).toBe(true);
    await model.set({ cards: CARDS });
    expect(runs(el).hidden).toBe(false);
  });

  it('show an earlier run', () => {
    const { model, el } = opened(RUN);
    query(cards(el)[2], '.modelcompose-card-open').click();
    expect(model.sent).toEqual([{ type: 'show', run: 'a' }]);
  });

  it('can be pinned, and let go', () => {
    const { model, el } = opened(RUN);
    expect(pins(el).map(each => each.getAttribute('aria-pressed'))).toEqual([
      'false',
      'true',
      'false'
    ]);
    for (const pin of pins(el).slice(0, 2)) {
      pin.click();
    }
    expect(model.sent).toEqual([
      { type: 'pin', run: 'c', pinned: true },
      { type: 'pin', run: 'b', pinned: false }
    ]);
  });

  it('keep the focus when they are drawn again', async () => {
    const { model, el } = opened(RUN);
    pins(el)[0].focus();
    await model.set({ cards: [card('d'), card('c', { pinned: true }), ...CARDS.slice(1)] });
    expect(document.activeElement).toBe(pins(el)[1]);
    boxes(el)[1].focus();
    await model.set({ run_id: 'd' });
    expect(document.activeElement).toBe(boxes(el)[1]);
    await model.set({ cards: [card('d'), card('b')] }); // its run has gone
    expect(document.activeElement).toBe(el);
  });

  it('stay as they are while other things change, so that a click is not lost', async () => {
    const { model, el } = opened(RUN);
    const before = cards(el);
    await model.set({ progress: { text: '3 of 5' }, state: 'running', ended: false });
    expect(cards(el)).toEqual(before);
    expect(before.every(each => each.isConnected)).toBe(true);
  });
});

describe('a comparison', () => {
  const choose = (el: Element, ...indexes: number[]) => {
    for (const index of indexes) {
      boxes(el)[index].click();
    }
  };
  const COMPARED = [
    {
      id: 'c',
      label: 'Temperature 0.7',
      parts: [
        ['same', 'Once '],
        ['other', '<b>upon</b>']
      ]
    },
    { id: 'a', label: 'Temperature 1', parts: [['same', 'Once ']] }
  ]; // prettier-ignore

  it('takes two runs, in the order in which they were chosen', () => {
    const { model, el } = opened(RUN);
    expect(button(el, 'Compare').disabled).toBe(true);
    choose(el, 2);
    expect(button(el, 'Compare').disabled).toBe(true);
    choose(el, 0);
    expect(button(el, 'Compare').disabled).toBe(false);
    button(el, 'Compare').click();
    expect(model.sent).toEqual([{ type: 'compare', runs: ['a', 'c'] }]);
    choose(el, 0);
    expect(button(el, 'Compare').disabled).toBe(true);
  });

  it('leaves runs chosen as long as they are there', async () => {
    const { model, el } = opened(RUN);
    choose(el, 0, 2);
    await model.set({ cards: [card('d'), ...CARDS] });
    expect(boxes(el).map(each => each.checked)).toEqual([false, true, false, true]);
    await model.set({ cards: [card('d'), card('c')] });
    expect(button(el, 'Compare').disabled).toBe(true);
    choose(el, 0);
    button(el, 'Compare').click();
    expect(model.sent).toEqual([{ type: 'compare', runs: ['c', 'd'] }]);
  });

  it('shows texts side by side, with what differs marked, and can be put away', async () => {
    const { model, el } = opened({ ...RUN, compared: COMPARED });
    const columns = [...el.querySelectorAll('.modelcompose-compared > article')];
    expect(columns.map(each => query(each, 'h5').textContent)).toEqual([
      'Temperature 0.7',
      'Temperature 1'
    ]);
    expect(columns.map(each => query(each, 'div').innerHTML)).toEqual([
      '<span class="">Once </span><mark class="">&lt;b&gt;upon&lt;/b&gt;</mark>',
      '<span class="">Once </span>'
    ]);
    button(el, 'Close').click();
    expect(model.sent).toEqual([{ type: 'compare', runs: [] }]);
    await model.set({ compared: [] });
    expect(query(el, '.modelcompose-beside').hidden).toBe(true);
  });

  it('keeps what is selected in it while other things change', async () => {
    const { model, el } = opened({ ...RUN, compared: COMPARED });
    document.getSelection()?.selectAllChildren(query(el, 'mark'));
    await model.set({ progress: { text: '3 of 5' } });
    expect(String(document.getSelection())).toBe('<b>upon</b>');
  });
});
