// @vitest-environment jsdom
// What the widget of a run makes of the kernel's messages: its script is the Python package's.

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import runView from '../../modelcompose_jupyter/widgets/run_view.js';

type Change = [index: number, offset: number, text: string];
type State = Record<string, unknown>;

const INITIAL: State = {
  state: 'idle',
  ended: false,
  progress: {},
  labels: [],
  texts: [],
  outputs: [],
  error: '',
  status: '',
  warnings: [],
  snippets: [],
  history: [],
  run_id: ''
};

/** A widget's model as anywidget hands it out: state, events, and messages to the kernel. */
class Model {
  sent: unknown[] = [];
  #state: State;
  #listeners = new Map<string, Set<(argument?: unknown) => void>>();

  constructor(state: State) {
    this.#state = { ...INITIAL, ...state };
  }

  get(name: string): unknown {
    return this.#state[name];
  }

  on(names: string, listener: (argument?: unknown) => void): void {
    for (const name of names.split(' ')) {
      this.#listeners.set(name, (this.#listeners.get(name) ?? new Set()).add(listener));
    }
  }

  off(names: string, listener: (argument?: unknown) => void): void {
    for (const name of names.split(' ')) {
      this.#listeners.get(name)?.delete(listener);
    }
  }

  send(message: unknown): void {
    this.sent.push(message);
  }

  #trigger(name: string, argument?: unknown): void {
    for (const listener of this.#listeners.get(name) ?? []) {
      listener(argument);
    }
  }

  /** State that the kernel sends in one message; what is equal to before is no change. */
  async set(state: State): Promise<void> {
    const changed = Object.keys(state).filter(name => this.#state[name] !== state[name]);
    Object.assign(this.#state, state);
    for (const name of changed) {
      this.#trigger(`change:${name}`);
    }
    await Promise.resolve();
  }

  text(...changes: Change[]): void {
    this.#trigger('msg:custom', { type: 'text', changes });
  }

  get listeners(): number {
    return [...this.#listeners.values()].reduce((sum, each) => sum + each.size, 0);
  }
}

function opened(state: State = {}) {
  const model = new Model(state);
  const widget = runView();
  widget.initialize({ model });
  const root = document.body.appendChild(document.createElement('div'));
  root.className = 'modelcompose-panel';
  const show = () => {
    const el = root.appendChild(document.createElement('div'));
    return { el, remove: widget.render({ el }) as () => void };
  };
  return { model, root, show, ...show() };
}

const query = (el: Element, selector: string): HTMLElement => {
  const found = el.querySelector<HTMLElement>(selector);
  if (!found) {
    throw new Error(`there is no ${selector}`);
  }
  return found;
};
const list = (el: Element) => query(el, '.modelcompose-texts');
const bodies = (el: Element) => [...el.querySelectorAll('.modelcompose-text > div')];
const texts = (el: Element) => bodies(el).map(each => each.textContent);
const headings = (el: Element) =>
  [...el.querySelectorAll('.modelcompose-text > h4')].map(each => each.textContent);
const buttons = (el: Element) => [...el.querySelectorAll('button')];
const labels = (el: Element) => buttons(el).map(each => each.textContent);

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
  document.getSelection()?.removeAllRanges();
  document.body.replaceChildren();
});

describe('texts', () => {
  it('grow by what is appended, each in its own place', () => {
    const { model, el } = opened();
    model.text([0, 0, 'Once']);
    model.text([0, 4, ' upon'], [2, 0, 'A fox']);
    model.text([0, 9, ' a time'], [2, 5, ' ran']);
    expect(texts(el)).toEqual(['Once upon a time', '', 'A fox ran']);
  });

  it('are cut where a correction begins, in UTF-16 units', () => {
    const { model, el } = opened();
    model.text([0, 0, '🦊 fox']);
    model.text([0, 2, ' bear and more']);
    model.text([0, 7, '']);
    expect(texts(el)).toEqual(['🦊 bear']);
    model.text([0, 0, 'anew']);
    expect(texts(el)).toEqual(['anew']);
  });

  it.each([4094, 4095, 4096, 4097, 12_288])('of %i units before an emoji keep it whole', count => {
    const { model, el } = opened();
    const text = `${'x'.repeat(count)}🦊${'y'.repeat(5000)}`;
    model.text([0, 0, text]);
    const nodes = [...bodies(el)[0].childNodes].map(each => each.textContent ?? '');
    expect(nodes.join('')).toBe(text);
    expect(nodes.every(each => each.isWellFormed())).toBe(true);
    expect(Math.max(...nodes.map(each => each.length))).toBeLessThanOrEqual(4097);
  });

  it('are corrected across nodes, and grow on from there', () => {
    const { model, el } = opened();
    model.text([0, 0, 'x'.repeat(10_000)]);
    model.text([0, 3, '!']);
    expect(texts(el)).toEqual(['xxx!']);
    model.text([0, 4, '?']);
    expect(bodies(el)[0].childNodes).toHaveLength(1);
    expect(texts(el)).toEqual(['xxx!?']);
  });

  it('grow in the nodes that are there, so that a selection stays', () => {
    const { model, el } = opened();
    model.text([0, 0, 'Once upon']);
    const node = bodies(el)[0].firstChild as Text;
    document.getSelection()?.setBaseAndExtent(node, 0, node, 4);
    model.text([0, 9, ' a time']);
    expect(String(document.getSelection())).toBe('Once');
    expect(bodies(el)[0].firstChild).toBe(node);
  });

  it('are asked for once where something was lost, until the whole has come', async () => {
    const { model, el } = opened();
    model.text([0, 0, 'Once']);
    model.text([0, 5, 'upon a time']);
    model.text([0, 16, ' in'], [0, 19, ' a']);
    expect(model.sent).toEqual([{ type: 'resync' }]);
    expect(texts(el)).toEqual(['Once']);
    await model.set({ texts: ['Once upon a time in a'] });
    model.text([0, 21, ' galaxy']);
    expect(texts(el)).toEqual(['Once upon a time in a galaxy']);
    model.text([0, 90, 'lost']);
    expect(model.sent).toHaveLength(2);
  });

  it('stay as they are drawn where the whole brings nothing new', async () => {
    const { model, el } = opened();
    model.text([0, 0, 'Once']);
    const node = bodies(el)[0].firstChild;
    await model.set({ texts: ['Once'] });
    expect(bodies(el)[0].firstChild).toBe(node);
    await model.set({ texts: ['Twice', 'more'] });
    expect(texts(el)).toEqual(['Twice', 'more']);
    await model.set({ texts: [] });
    expect(texts(el)).toEqual([]);
  });

  it('of a run that is replaced go, also what was never state', async () => {
    const { model, el } = opened({ run_id: 'a' });
    model.text([0, 0, 'Once']);
    await model.set({ run_id: 'b' });
    expect(texts(el)).toEqual([]);
    model.text([0, 0, 'A fox']);
    expect(texts(el)).toEqual(['A fox']);
  });

  it('are all there in a view that comes late, and in each view', () => {
    const { model, el, show } = opened({ texts: ['Once'] });
    model.text([0, 4, ' up']);
    model.text([0, 5, 'at']);
    const late = show();
    model.text([0, 7, ' a time']);
    expect([texts(el), texts(late.el)]).toEqual([['Once at a time'], ['Once at a time']]);
  });

  it('are no markup', () => {
    const { model, el } = opened();
    model.text([0, 0, '<b>bold</b>']);
    expect(texts(el)).toEqual(['<b>bold</b>']);
    expect(el.querySelector('b')).toBeNull();
  });

  it('are unseen while there are none, and marked where they grow', () => {
    const { model, el } = opened();
    expect(list(el).hidden).toBe(true);
    model.text([0, 0, ''], [1, 0, '']);
    expect(list(el).hidden).toBe(true);
    const growing = () =>
      [...el.querySelectorAll('.modelcompose-text')].map(each =>
        each.classList.contains('modelcompose-growing')
      );
    model.text([0, 0, 'a']);
    expect([list(el).hidden, growing()]).toEqual([false, [true, false]]);
    model.text([1, 0, 'b']);
    expect(growing()).toEqual([false, true]);
  });

  it('have their headings, whichever comes first', async () => {
    const { model, el } = opened();
    model.text([0, 0, 'a'], [1, 0, 'b']);
    expect(headings(el)).toEqual(['', '']);
    await model.set({ labels: ['repeat 1', 'repeat 2', 'repeat 3'] });
    expect(headings(el)).toEqual(['repeat 1', 'repeat 2']);
    model.text([2, 0, 'c']);
    expect(headings(el)).toEqual(['repeat 1', 'repeat 2', 'repeat 3']);
  });

  it('leave a heading that says so already as it is, with a selection in it', async () => {
    const { model, el } = opened({ labels: ['repeat 1', 'repeat 2'], texts: ['a', 'b'] });
    document.getSelection()?.selectAllChildren(query(el, 'h4'));
    model.text([0, 1, 'c'], [1, 1, 'd']);
    await model.set({ labels: ['repeat 1', 'other'] });
    expect(String(document.getSelection())).toBe('repeat 1');
    expect(headings(el)).toEqual(['repeat 1', 'other']);
  });
});

describe('the box of texts', () => {
  /** jsdom lays nothing out: a box of 100 pixels with as many lines of 10 as the text has units. */
  function box(el: Element) {
    const element = list(el);
    const height = () => 10 * (element.textContent ?? '').length;
    Object.defineProperty(element, 'scrollHeight', { get: height });
    Object.defineProperty(element, 'clientHeight', { value: 100 });
    return element;
  }

  function scroll(element: HTMLElement, top: number) {
    element.scrollTop = top;
    element.dispatchEvent(new Event('scroll'));
  }

  it('follows the end, but for somebody who reads above it', () => {
    const { model, el } = opened();
    const element = box(el);
    model.text([0, 0, 'x'.repeat(50)]);
    expect(element.scrollTop).toBe(500);
    scroll(element, 10);
    model.text([0, 50, 'x'.repeat(50)]);
    expect(element.scrollTop).toBe(10);
    scroll(element, 1000 - 100 - 20); // near enough
    model.text([0, 100, 'x'.repeat(50)]);
    expect(element.scrollTop).toBe(1500);
  });

  it('stays where something in it is selected', () => {
    const { model, el } = opened();
    const element = box(el);
    model.text([0, 0, 'x'.repeat(50)]);
    document.getSelection()?.selectAllChildren(bodies(el)[0]);
    model.text([0, 50, 'x'.repeat(50)]);
    expect(element.scrollTop).toBe(500);
    document.getSelection()?.removeAllRanges();
    model.text([0, 100, 'x']);
    expect(element.scrollTop).toBe(1010);
  });
});

describe('what is announced', () => {
  it('is how a run ended and what went wrong, and no text in the making', async () => {
    const { model, el } = opened({ state: 'running' });
    expect(list(el).getAttribute('role')).toBe('log');
    expect(list(el).getAttribute('aria-live')).toBe('off');
    expect(list(el).getAttribute('aria-busy')).toBe('true');
    const [status, error] = [query(el, '[role=status]'), query(el, '[role=alert]')];
    expect([status.hidden, error.hidden]).toEqual([true, true]);
    await model.set({ state: 'failed', status: 'failed · 3 tokens', error: 'It failed' });
    expect(el.dataset.state).toBe('failed');
    expect(list(el).getAttribute('aria-busy')).toBe('false');
    expect([status.hidden, status.textContent]).toEqual([false, 'failed · 3 tokens']);
    expect([error.hidden, error.textContent]).toEqual([false, 'It failed']);
  });

  it('is not said once more with each change of something else', async () => {
    const { model, el } = opened({ status: 'stop · 3 tokens', error: 'It failed' });
    const said = ['[role=status]', '[role=alert]'].map(each => query(el, each).firstChild);
    await model.set({ warnings: ['short'], ended: true });
    expect(['[role=status]', '[role=alert]'].map(each => query(el, each).firstChild)).toEqual(said);
    expect(said[0]?.isConnected && said[1]?.isConnected).toBe(true);
    expect(query(el, '.modelcompose-warnings').textContent).toBe('short');
  });

  it('has names for sliders, which ipywidgets gives none', () => {
    const { root } = opened();
    root.insertAdjacentHTML(
      'afterbegin',
      `<div class="modelcompose-input"><label class="widget-label">length</label>
       <div class="noUi-handle"></div><div class="widget-readout"></div></div>`
    );
    vi.runAllTimers();
    for (const selector of ['.noUi-handle', '.widget-readout']) {
      expect(query(root, selector).getAttribute('aria-label')).toBe('length');
    }
  });
});

describe('progress', () => {
  it('has a share where it is known, and goes', async () => {
    const { model, el } = opened({ progress: { text: 'loading', share: 0.25 } });
    const [all, bar] = [query(el, '.modelcompose-progress'), query(el, 'progress')];
    expect([all.hidden, bar.getAttribute('value')]).toEqual([false, '0.25']);
    await model.set({ progress: { text: '3 ahead' } });
    expect([all.textContent, bar.hasAttribute('value')]).toEqual(['3 ahead', false]);
    await model.set({ progress: { text: 'none yet', share: 0 } });
    expect(bar.getAttribute('value')).toBe('0');
    await model.set({ progress: {} });
    expect(all.hidden).toBe(true);
  });
});

describe('outputs', () => {
  it('fold the texts away, and give them back to the next run', async () => {
    const { model, el } = opened({ texts: ['{"a": 1}'] });
    await model.set({ outputs: [{ label: 'a', html: '<b>1</b>', text: '1' }] });
    expect(query(el, '.modelcompose-output').innerHTML).toBe(
      '<h4 class="">a</h4><div class=""><b>1</b></div>'
    );
    expect(query(el, 'details').contains(list(el))).toBe(true);
    expect((query(el, 'details') as HTMLDetailsElement).open).toBe(false);
    await model.set({ outputs: [] });
    expect(el.querySelector('details')).toBeNull();
    expect(query(el, '.modelcompose-progress').nextElementSibling).toBe(list(el));
  });
});

describe('actions', () => {
  const HISTORY = [
    { id: 'b', label: 'A bear' },
    { id: 'a', label: 'A fox' }
  ];
  const SNIPPETS = [{ label: 'Copy as Python', text: 'story()' }];

  function clipboard(writeText: (text: string) => Promise<void>) {
    vi.stubGlobal('navigator', { clipboard: { writeText } });
  }

  afterEach(() => {
    vi.unstubAllGlobals();
  });

  it('are there once the run has ended', async () => {
    const { model, el } = opened({ history: HISTORY, snippets: SNIPPETS, run_id: 'b' });
    expect(labels(el)).toEqual([]);
    await model.set({ ended: true });
    expect(labels(el)).toEqual(['Copy text', 'Copy as Python']);
    expect((query(el, 'select') as HTMLSelectElement).value).toBe('b');
    await model.set({ history: HISTORY.slice(0, 1) });
    expect(el.querySelector('select')).toBeNull();
  });

  it('show an earlier run', async () => {
    const { model, el } = opened({ history: HISTORY, ended: true, run_id: 'b' });
    const select = query(el, 'select') as HTMLSelectElement;
    select.value = 'a';
    select.dispatchEvent(new Event('change'));
    expect(model.sent).toEqual([{ type: 'show', run: 'a' }]);
  });

  it('copy what they say, and say so for a while', async () => {
    const copied: string[] = [];
    clipboard(async text => void copied.push(text));
    const { model, el } = opened({ ended: true, snippets: SNIPPETS, texts: ['a', 'b'] });
    for (const button of buttons(el)) {
      button.click();
    }
    await vi.advanceTimersByTimeAsync(0);
    expect(copied).toEqual(['a\n\nb', 'story()']);
    expect(labels(el)).toEqual(['Copied', 'Copied']);
    await vi.runAllTimersAsync();
    expect(labels(el)).toEqual(['Copy text', 'Copy as Python']);
    await model.set({ outputs: [{ label: '', html: '', text: 'the output' }] });
    buttons(el)[0].click();
    await vi.advanceTimersByTimeAsync(0);
    expect(copied.at(-1)).toBe('the output');
  });

  it.each([
    [true, 'Copied'],
    [false, 'Select the text and press Ctrl+C']
  ])('copy in the old way where there is no clipboard: %s', async (works, said) => {
    clipboard(() => Promise.reject(new Error('not over HTTPS')));
    const selected: string[] = [];
    const execCommand = () => {
      selected.push((document.querySelector('textarea') as HTMLTextAreaElement).value);
      return works;
    };
    Object.assign(document, { execCommand });
    const { el } = opened({ ended: true, texts: ['Once'] });
    buttons(el)[0].click();
    await vi.advanceTimersByTimeAsync(0);
    expect(selected).toEqual(['Once']);
    expect(labels(el)).toEqual([said]);
    expect(document.querySelector('textarea')).toBeNull();
  });
});

describe('keys', () => {
  const press = (target: Element, init: KeyboardEventInit) => {
    const event = new KeyboardEvent('keydown', { bubbles: true, cancelable: true, ...init });
    target.dispatchEvent(event);
    return event.defaultPrevented;
  };

  it.each([{ ctrlKey: true }, { metaKey: true }])('run what is typed: %o', held => {
    const { model, root } = opened();
    const field = root.appendChild(document.createElement('textarea'));
    const sent: string[] = [];
    field.addEventListener('change', () => sent.push(`typed, ${model.sent.length} sent`));
    expect(press(field, { key: 'Enter', ...held })).toBe(true);
    expect(sent).toEqual(['typed, 0 sent']);
    expect(model.sent).toEqual([{ type: 'run' }]);
  });

  it('run nothing elsewhere, without Ctrl, or in a view that has gone', () => {
    const { model, root, remove } = opened();
    const field = root.appendChild(document.createElement('textarea'));
    const other = document.body.appendChild(document.createElement('textarea'));
    expect(press(field, { key: 'Enter' })).toBe(false);
    expect(press(field, { key: 'a', ctrlKey: true })).toBe(false);
    expect(press(other, { key: 'Enter', ctrlKey: true })).toBe(false);
    remove();
    expect(press(field, { key: 'Enter', ctrlKey: true })).toBe(false);
    expect(model.sent).toEqual([]);
  });
});

describe('a view', () => {
  it('is updated once for all that a message changes', async () => {
    const { model, el } = opened();
    const updates = vi.spyOn(query(el, '.modelcompose-actions'), 'replaceChildren');
    await model.set({ state: 'completed', ended: true, status: 'stop', run_id: 'a' });
    expect(updates).toHaveBeenCalledTimes(1);
  });

  it('that is the last to go says so, after some time', () => {
    const { model, remove, show } = opened();
    const listeners = model.listeners;
    remove();
    const moved = show();
    vi.runAllTimers();
    expect(model.sent).toEqual([]);
    expect(model.listeners).toBe(listeners);
    moved.remove();
    vi.runAllTimers();
    expect(model.sent).toEqual([{ type: 'gone' }]);
  });
});
