// @vitest-environment jsdom
// What the widget of a grid makes of the kernel's messages: its script is the Python package's.

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import gridView from '../../modelcompose_jupyter/widgets/grid_view.js';
import { button, labels, opened, press, query } from './testing/widget';

type State = Record<string, unknown>;

const info = (more = {}) => ({ state: 'queued', foot: 'Waiting', error: '', marks: [], ...more });
const cell = (text = '', more = {}) => ({ text, ...info(more) });
const HEADS = {
  corner: ['Prompt'],
  columns: [
    ['Temperature', '0'],
    ['Temperature', '1']
  ],
  rows: [[['A fox', 1]], [['An <owl>', 1]]]
};
const GRID = {
  heads: HEADS,
  caption: 'Length 20',
  cells: [cell(), cell(), cell(), cell()],
  progress: { done: 0, total: 4 },
  status: '0 of 4 runs',
  opened: -1,
  failure: '',
  choices: [],
  quick: ''
};
const NONE = { ...GRID, heads: {}, caption: '', cells: [], progress: {}, status: '' };

const shown = (state: State = {}) => opened({ ...GRID, ...state }, gridView);
const cells = (el: Element) => [...el.querySelectorAll<HTMLElement>('td')];
const bodies = (el: Element) => [...el.querySelectorAll('.modelcompose-grid-text > div')];
const texts = (el: Element) => bodies(el).map(each => each.textContent);
const feet = (el: Element) => [...el.querySelectorAll('td > small')].map(each => each.textContent);

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
  document.getSelection()?.removeAllRanges();
  document.body.replaceChildren();
});

describe('a table', () => {
  it('has heads, and a cell for each combination', () => {
    const { el } = shown();
    const said = (selector: string) =>
      [...el.querySelectorAll(selector)].map(each => each.textContent);
    expect(said('thead th')).toEqual(['Prompt', 'Temperature 0', 'Temperature 1']);
    expect(said('tbody th')).toEqual(['A fox', 'An <owl>']);
    expect(feet(el)).toEqual(['Waiting', 'Waiting', 'Waiting', 'Waiting']);
    expect(query(el, '.modelcompose-grid-caption').textContent).toBe('Length 20');
  });

  it('has labels that stand for several rows', () => {
    const rows = [
      [
        ['a', 2],
        ['0', 1]
      ],
      [['1', 1]]
    ];
    const { el } = shown({ heads: { ...HEADS, corner: ['Prompt', 'Top k'], rows } });
    const heads = [...el.querySelectorAll<HTMLTableCellElement>('tbody th')];
    expect(heads.map(each => [each.dataset.head, each.textContent, each.rowSpan])).toEqual([
      ['Prompt', 'a', 2],
      ['Top k', '0', 1],
      ['Top k', '1', 1]
    ]);
  });

  it('is not there before there is a grid', async () => {
    const { model, el } = shown(NONE);
    expect(query(el, '.modelcompose-grid-scroll').hidden).toBe(true);
    await model.set({ heads: HEADS });
    model.hear({ type: 'whole', cells: [cell('a'), cell('b'), cell('c'), cell('d')] });
    expect(query(el, '.modelcompose-grid-scroll').hidden).toBe(false);
    expect(texts(el)).toEqual(['a', 'b', 'c', 'd']);
  });

  it('has nothing of the grid before it', async () => {
    const { model, el } = shown({ cells: [cell('old'), cell(), cell(), cell()], opened: 0 });
    await model.set({ heads: { ...HEADS, rows: [[['A bear', 1]]] } });
    expect(texts(el)).toEqual(['', '']);
    await model.set({ opened: -1 });
    model.hear({ type: 'whole', cells: [cell('a'), cell('b')] });
    expect(texts(el)).toEqual(['a', 'b']);
    expect(el.querySelector('[aria-selected]')).toBeNull();
  });
});

describe('texts', () => {
  it('grow in the nodes that are there, each in its own cell', () => {
    const { model, el } = shown();
    model.hear({
      type: 'cells',
      texts: [[1, 0, 'Once']],
      infos: [[1, info({ state: 'running' })]]
    });
    const node = bodies(el)[1].firstChild;
    model.hear({
      type: 'cells',
      texts: [
        [1, 4, ' upon'],
        [2, 0, 'A fox']
      ],
      infos: []
    });
    expect(texts(el)).toEqual(['', 'Once upon', 'A fox', '']);
    expect(bodies(el)[1].firstChild).toBe(node);
    expect(cells(el)[1].dataset.state).toBe('running');
  });

  it('are cut where a correction begins, in UTF-16 units', () => {
    const { model, el } = shown();
    model.hear({ type: 'cells', texts: [[0, 0, '🦊 fox']], infos: [] });
    model.hear({ type: 'cells', texts: [[0, 3, 'bear']], infos: [] });
    expect(texts(el)[0]).toBe('🦊 bear');
  });

  it('are marked where they differ, and are no markup', () => {
    const { model, el } = shown();
    const ends = info({
      state: 'completed',
      foot: 'Finished',
      marks: [
        [0, 3],
        [7, 9]
      ]
    });
    model.hear({ type: 'cells', texts: [[0, 0, '<b> or 🦊.']], infos: [[0, ends]] });
    const marks = [...el.querySelectorAll('mark')].map(each => each.textContent);
    expect(marks).toEqual(['<b>', '🦊']);
    expect(texts(el)[0]).toBe('<b> or 🦊.');
    expect(feet(el)[0]).toBe('Finished');
  });

  it('say what went wrong', () => {
    const { model, el } = shown();
    const failed = info({ state: 'failed', foot: 'Failed', error: 'no model' });
    model.hear({ type: 'cells', texts: [], infos: [[3, failed]] });
    expect(query(cells(el)[3], '.modelcompose-grid-error').textContent).toBe('no model');
  });

  it('are asked for at first, and once where something was lost', () => {
    const { model, el } = shown();
    expect(model.sent).toEqual([{ type: 'resync' }]);
    model.hear({ type: 'whole', cells: [cell('Once'), cell(), cell(), cell()] });
    model.hear({ type: 'cells', texts: [[0, 9, 'lost']], infos: [] });
    model.hear({ type: 'cells', texts: [[0, 12, 'lost']], infos: [] });
    expect(model.sent).toHaveLength(2);
    expect(texts(el)[0]).toBe('Once');
    model.hear({ type: 'whole', cells: [cell('Once upon'), cell(), cell(), cell()] });
    model.hear({ type: 'cells', texts: [[0, 9, ' a']], infos: [] });
    expect(texts(el)[0]).toBe('Once upon a');
  });

  it('are all there in a view that comes late', () => {
    const { model, el, show } = shown();
    model.hear({ type: 'cells', texts: [[0, 0, 'Once']], infos: [] });
    expect([texts(el)[0], texts(show().el)[0]]).toEqual(['Once', 'Once']);
  });
});

describe('a cell', () => {
  it('is opened by a click and by Enter, and is marked when its run is in view', async () => {
    const { model, el } = shown();
    query(cells(el)[2], '.modelcompose-grid-text').click();
    press(cells(el)[1], { key: 'Enter' });
    expect(model.sent.slice(1)).toEqual([
      { type: 'open', cell: 2 },
      { type: 'open', cell: 1 }
    ]);
    await model.set({ opened: 1 });
    await model.set({ opened: 2 });
    expect(cells(el).map(each => each.getAttribute('aria-selected'))).toEqual([
      null,
      null,
      'true',
      null
    ]);
  });

  it('is not opened by who selects some of its text', () => {
    const { model, el } = shown({ cells: [cell('Once'), cell(), cell(), cell()] });
    document.getSelection()?.selectAllChildren(bodies(el)[0]);
    query(cells(el)[0], '.modelcompose-grid-text').click();
    expect(model.sent).toHaveLength(1);
  });

  it.each([
    [0, 'ArrowRight', false, 1],
    [1, 'ArrowRight', false, 1],
    [1, 'ArrowLeft', false, 0],
    [2, 'ArrowLeft', false, 2],
    [0, 'ArrowDown', false, 2],
    [3, 'ArrowDown', false, 3],
    [3, 'ArrowUp', false, 1],
    [1, 'ArrowUp', false, 1],
    [3, 'Home', false, 2],
    [2, 'End', false, 3],
    [3, 'Home', true, 0],
    [0, 'End', true, 3]
  ])('%i is left by %s (Ctrl: %s) for %i', (from, key, ctrlKey, to) => {
    const { el } = shown();
    cells(el)[from].focus();
    expect(press(cells(el)[from], { key, ctrlKey })).toBe(true);
    expect(document.activeElement).toBe(cells(el)[to]);
    expect(cells(el).map(each => each.tabIndex)).toEqual(
      cells(el).map((_, index) => (index === to ? 0 : -1))
    );
  });

  it('leaves other keys to others', () => {
    const { el } = shown();
    expect(press(cells(el)[0], { key: 'a' })).toBe(false);
    expect(press(cells(el)[0], { key: 'Tab' })).toBe(false);
    expect(cells(el)[0].hasAttribute('data-lm-suppress-shortcuts')).toBe(true);
  });
});

describe('the head', () => {
  it('says how far it is, and stops it', async () => {
    const { model, el } = shown({ progress: { done: 1, total: 4 }, status: '1 of 4 runs' });
    expect(query<HTMLProgressElement>(el, 'progress').value).toBe(1);
    expect(query(el, '.modelcompose-grid-count').textContent).toBe('1 of 4 runs');
    expect(query(el, '[role=status]').textContent).toBe(''); // what changes all the time
    button(el, 'Stop all').click();
    expect(model.sent.slice(1)).toEqual([{ type: 'stop' }]);
    button(el, 'Stop all').focus();
    await model.set({ progress: { done: 4, total: 4 }, status: '4 runs' });
    expect(labels(el)).toEqual([]);
    expect(query(el, '[role=status]').textContent).toBe('4 runs');
    expect(query(el, 'progress').hidden).toBe(true);
    expect(document.activeElement).toBe(cells(el)[0]); // the button is gone
  });
});

describe('a view that is left', () => {
  it('says so, unless another one takes its place', () => {
    const { model, remove, show } = shown();
    model.hear({ type: 'whole', cells: GRID.cells });
    remove();
    const other = show();
    vi.runAllTimers();
    expect(model.sent).toHaveLength(1);
    other.remove();
    vi.runAllTimers();
    expect(model.sent.slice(1)).toEqual([{ type: 'gone' }]);
    show(); // as after Undo
    expect(model.sent.slice(2)).toEqual([{ type: 'resync' }]);
  });

  it('hears nothing any more', () => {
    const { model, remove } = shown();
    const before = model.listeners;
    remove();
    expect(model.listeners).toBeLessThan(before);
  });
});

describe('the form', () => {
  const choice = (name: string, kind: string, more = {}) => ({
    name,
    label: name.toUpperCase(),
    kind,
    options: [],
    values: '',
    ...more
  });
  const CHOICES = [
    choice('t', 'numbers', { values: '0.2, 0.7' }),
    choice('prompt', 'lines'),
    choice('tone', 'options', { options: ['sad', 'glad'] })
  ];
  const formed = () => shown({ ...NONE, choices: CHOICES, quick: 'Two temperatures' });
  const pick = (el: Element, index: number, name: string) => {
    const select = el.querySelectorAll('select')[index];
    select.value = name;
    select.dispatchEvent(new Event('change'));
  };
  const type = (el: Element, label: string, value: string) => {
    const field = query<HTMLTextAreaElement>(el, `[aria-label="Values of ${label}"]`);
    field.value = value;
    field.dispatchEvent(new Event('input'));
    return field;
  };

  it('is folded away, beside what is one click away', () => {
    const { model, el } = formed();
    expect(labels(el)).toEqual(['Compare values', 'Two temperatures']);
    button(el, 'Two temperatures').click();
    expect(model.sent.slice(1)).toEqual([{ type: 'quick' }]);
    button(el, 'Compare values').click();
    expect(button(el, 'Compare values').getAttribute('aria-expanded')).toBe('true');
    expect(labels(el)).toEqual(['Compare values', 'Two temperatures', 'Run 2 together']);
  });

  it('runs with all combinations of what is entered', () => {
    const { model, el } = formed();
    type(el, 'T', '0, 0.5;1 ');
    pick(el, 1, 'prompt');
    expect(button(el, 'Run 0 together').disabled).toBe(true);
    type(el, 'PROMPT', 'A fox, red\n\nAn owl\n');
    button(el, 'Run 6 together').click();
    pick(el, 1, 'tone');
    query<HTMLInputElement>(el, 'input[value="sad"]').click();
    press(type(el, 'T', '1'), { key: 'Enter', ctrlKey: true });
    expect(model.sent.slice(1)).toEqual([
      {
        type: 'grid',
        axes: [
          ['t', ['0', '0.5', '1']],
          ['prompt', ['A fox, red', 'An owl']]
        ]
      },
      {
        type: 'grid',
        axes: [
          ['t', ['1']],
          ['tone', ['glad']]
        ]
      }
    ]);
  });

  it('lets an input vary once', () => {
    const { model, el } = formed();
    pick(el, 1, 't');
    button(el, 'Run 2 together').click();
    expect(model.sent.slice(1)).toEqual([{ type: 'grid', axes: [['t', ['0.2', '0.7']]] }]);
  });

  it('says what is wrong with what was entered', async () => {
    const { model, el } = formed();
    await model.set({ failure: '"hot" is not a number' });
    expect(query(el, '[role=alert]').textContent).toBe('"hot" is not a number');
  });
});
