// @vitest-environment jsdom
// What the widget of a run makes of the kernel's messages: its script is the Python package's.

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { button, labels, opened, press, query } from './testing/widget';

const list = (el: Element) => query(el, '.modelcompose-texts');
const bodies = (el: Element) => [...el.querySelectorAll('.modelcompose-text > div')];
const texts = (el: Element) => bodies(el).map(each => each.textContent);
const headings = (el: Element) =>
  [...el.querySelectorAll('.modelcompose-text > h4')].map(each => each.textContent);

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
    const [status, error] = [query(el, '.modelcompose-status'), query(el, '[role=alert]')];
    expect(status.getAttribute('role')).toBe('status');
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

  it('is the text once it has ended, and no more of it than is read aloud', async () => {
    const { model, el } = opened({ run_id: 'a', state: 'running' });
    const said = query(el, '.modelcompose-unseen');
    expect(said.getAttribute('role')).toBe('status'); // waits for its turn
    model.text([0, 0, 'x'.repeat(1500)]);
    expect(said.textContent).toBe('');
    await model.set({ ended: true, state: 'completed' });
    expect(said.textContent).toBe(`${'x'.repeat(1000)} …`);
    const node = said.firstChild;
    await model.set({ warnings: ['short'] });
    expect(said.firstChild).toBe(node);
    await model.set({ run_id: 'b', ended: false, state: 'queued', texts: [] });
    expect(said.textContent).toBe('');
    model.text([0, 0, 'A fox']);
    await model.set({ ended: true, state: 'completed' });
    expect(said.textContent).toBe('A fox');
  });

  it('is no text of a run that one goes back to, or that was there first', async () => {
    const { model, el } = opened({ run_id: 'a', ended: true, state: 'completed', texts: ['Once'] });
    expect(query(el, '.modelcompose-unseen').textContent).toBe('');
    await model.set({ run_id: 'b', texts: ['A fox'] });
    expect(query(el, '.modelcompose-unseen').textContent).toBe('');
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

  it('says after a second how long it has been waited for', async () => {
    const { model, el } = opened({ progress: { text: 'loading', elapsed: 0.5 } });
    const elapsed = query(el, '.modelcompose-elapsed');
    vi.advanceTimersByTime(400);
    expect(elapsed.textContent).toBe('');
    vi.advanceTimersByTime(2100);
    expect(elapsed.textContent).toBe('3.0 s');
    expect(elapsed.getAttribute('aria-hidden')).toBe('true');
    await model.set({ progress: { text: 'no time is known' } });
    expect(elapsed.textContent).toBe('');
  });

  it('is no more looked at where there is no view', () => {
    const { remove } = opened();
    expect(vi.getTimerCount()).toBe(2); // the clock, and the form that is to be completed
    vi.advanceTimersByTime(100);
    remove();
    vi.advanceTimersByTime(5000);
    expect(vi.getTimerCount()).toBe(0);
  });
});

describe('the model', () => {
  it('is named, with what it does', async () => {
    const { model, el } = opened({
      model: { name: 'storyteller', state: '메모리에 있음', loaded: true }
    });
    const name = query(el, '.modelcompose-model-name');
    expect([name.hidden, name.textContent]).toEqual([false, 'storyteller메모리에 있음']);
    expect(name.classList.contains('modelcompose-mod-loaded')).toBe(true);
    await model.set({ model: { name: 'storyteller', state: '', loaded: false } });
    expect(name.textContent).toBe('storyteller');
    expect(name.classList.contains('modelcompose-mod-loaded')).toBe(false);
    await model.set({ model: {} });
    expect([name.hidden, query(el, '.modelcompose-run-head').hidden]).toEqual([true, true]);
  });
});

describe('the result', () => {
  it('has its place marked until there is one', async () => {
    const { model, el } = opened();
    const empty = query(el, '.modelcompose-empty');
    expect(empty.hidden).toBe(false);
    await model.set({ state: 'running' });
    expect(empty.hidden).toBe(true);
    await model.set({ state: 'idle' });
    expect(empty.hidden).toBe(false);
    model.text([0, 0, 'Once']);
    expect(empty.hidden).toBe(true);
  });

  it('goes on where its limit has cut it', async () => {
    const { model, el } = opened({ run_id: 'a', status: 'length', ended: true, texts: ['Once'] });
    expect(labels(el)).not.toContain('Continue');
    await model.set({ is_extendable: true });
    button(el, 'Continue').click();
    expect(model.sent).toEqual([{ type: 'extend' }]);
    await model.set({ is_extendable: false });
    expect(labels(el)).not.toContain('Continue');
  });

  it.each([0, 1, 2])('has no line of its speed with %i points', count => {
    const { el } = opened({ status: 'stop', rates: Array(count).fill(9) });
    expect(query(el, '.modelcompose-rates').childNodes).toHaveLength(0);
  });

  it('has a line of its speed, which is there in words, too', async () => {
    const { model, el } = opened({ status: 'stop', rates: [10, 40.4, 20] });
    const line = query(el, '.modelcompose-rates polyline');
    expect(line.getAttribute('points')).toBe('0.0,11.5 32.0,1.0 64.0,8.1');
    const svg = query(el, '.modelcompose-rates svg');
    expect(svg.getAttribute('role')).toBe('img');
    expect(svg.getAttribute('aria-label')).toBe('From 10 to 40 tokens a second');
    await model.set({ warnings: ['short'] });
    expect(line.isConnected).toBe(true);
    await model.set({ rates: [] });
    expect(line.isConnected).toBe(false);
  });
});

describe('outputs', () => {
  it('fold the texts away, and give them back to the next run', async () => {
    const { model, el } = opened({ texts: ['{"a": 1}'] });
    await model.set({ outputs: [{ label: 'a', html: '<b>1</b>', text: '1' }] });
    const output = query(el, '.modelcompose-output');
    expect(query(output, 'h4').textContent).toBe('a');
    expect(query(output, 'div').innerHTML).toBe('<b>1</b>');
    expect(query(output, 'div').dir).toBe('auto');
    expect(query(el, 'details').contains(list(el))).toBe(true);
    expect(query<HTMLDetailsElement>(el, 'details').open).toBe(false);
    await model.set({ outputs: [] });
    expect(el.querySelector('details')).toBeNull();
    expect(list(el).nextElementSibling).toBe(query(el, '.modelcompose-outputs'));
  });

  it('stay as they are drawn while other things change', async () => {
    const outputs = [{ label: '', html: '<b>1</b>', text: '1' }];
    const { model, el } = opened({ outputs });
    const bold = query(el, 'b');
    await model.set({ warnings: ['short'] });
    expect(bold.isConnected).toBe(true);
  });

  it('of markdown are drawn by the kernel where the application has no parser', async () => {
    const outputs = [{ label: '', kind: 'markdown', html: '<b>1</b>', text: '**1**' }];
    const { model, el } = opened({ is_markdown: true, texts: ['**1**'] });
    expect(texts(el)).toEqual(['**1**']);
    await model.set({ outputs });
    expect(query(el, '.modelcompose-output b').textContent).toBe('1');
    expect(query(el, 'details').contains(list(el))).toBe(true);
  });
});

describe('actions', () => {
  const SNIPPETS = [
    { label: 'Copy as Python', text: 'story()' },
    { label: 'Ask', message: { type: 'ask' } }
  ];

  function clipboard(writeText: (text: string) => Promise<void>) {
    vi.stubGlobal('navigator', { clipboard: { writeText } });
  }

  afterEach(() => {
    vi.unstubAllGlobals();
  });

  it('are there once the run has ended', async () => {
    const { model, el } = opened({ snippets: SNIPPETS, run_id: 'b' });
    expect(labels(el)).toEqual([]);
    await model.set({ ended: true });
    expect(labels(el)).toEqual(['Copy as Python', 'Ask']); // there is no text
    await model.set({ texts: ['Once'] });
    expect(labels(el)).toEqual(['Copy text', 'Copy as Python', 'Ask']);
  });

  it('keep the focus while other things change', async () => {
    const { model, el } = opened({ snippets: SNIPPETS, ended: true, texts: ['Once'] });
    button(el, 'Copy as Python').focus();
    await model.set({ warnings: ['short'], snippets: structuredClone(SNIPPETS) });
    expect(document.activeElement).toBe(button(el, 'Copy as Python'));
  });

  it('ask the kernel where the text is not known yet', () => {
    const { model, el } = opened({ snippets: SNIPPETS, ended: true });
    button(el, 'Ask').click();
    expect(model.sent).toEqual([{ type: 'ask' }]);
  });

  it('copy what they say, and say so for a while', async () => {
    const copied: string[] = [];
    clipboard(async text => void copied.push(text));
    const snippets = SNIPPETS.slice(0, 1);
    const { model, el } = opened({ ended: true, snippets, texts: ['a', 'b'] });
    button(el, 'Copy text').click();
    button(el, 'Copy as Python').click();
    await vi.advanceTimersByTimeAsync(0);
    expect(copied).toEqual(['a\n\nb', 'story()']);
    expect(labels(el)).toEqual(['Copied', 'Copied']);
    await vi.advanceTimersByTimeAsync(2000);
    expect(labels(el)).toEqual(['Copy text', 'Copy as Python']);
    await model.set({ outputs: [{ label: '', html: '', text: 'the output' }] });
    button(el, 'Copy text').click();
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
    button(el, 'Copy text').click();
    await vi.advanceTimersByTimeAsync(0);
    expect(selected).toEqual(['Once']);
    expect(labels(el)).toEqual([said]);
    expect(document.querySelector('textarea')).toBeNull();
  });
});

describe('keys', () => {
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

describe('the focus', () => {
  it('stays in the panel when what had it goes', async () => {
    const { model, el } = opened({ status: 'length', ended: true, is_extendable: true });
    button(el, 'Continue').focus();
    await model.set({ state: 'running', ended: false, is_extendable: false });
    expect(document.activeElement).toBe(el);
  });

  it('is not taken from elsewhere', async () => {
    const { model, root } = opened({ status: 'length', ended: true, is_extendable: true });
    const field = root.appendChild(document.createElement('textarea'));
    field.focus();
    await model.set({ state: 'running', ended: false, is_extendable: false });
    expect(document.activeElement).toBe(field);
  });
});

describe('a view', () => {
  it('is updated once for all that a message changes', async () => {
    const { model, el } = opened();
    const updates = vi.spyOn(query(el, '.modelcompose-warnings'), 'replaceChildren');
    await model.set({ state: 'completed', ended: true, status: 'stop' });
    expect(updates).toHaveBeenCalledTimes(1);
  });

  it('that is the last to go says so, after some time', () => {
    const { model, remove, show } = opened();
    const listeners = model.listeners;
    remove();
    const moved = show();
    vi.advanceTimersByTime(5000);
    expect(model.sent).toEqual([]);
    expect(model.listeners).toBe(listeners);
    moved.remove();
    vi.advanceTimersByTime(5000);
    expect(model.sent).toEqual([{ type: 'gone' }]);
  });
});
