// @vitest-environment jsdom
// Where problems show, and which answers count.

import { type Diagnostic, diagnosticCount, forEachDiagnostic } from '@codemirror/lint';
import { EditorView } from '@codemirror/view';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { diagnostics, type IProblem, recheck } from './diagnostics';
import { composeCell } from './language';

type Ask = (view: EditorView) => Promise<IProblem[] | null>;

const views: EditorView[] = [];

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  for (const view of views.splice(0)) {
    view.destroy();
  }
  vi.useRealTimers();
});

function editor(doc: string, ask: Ask): EditorView {
  const view = new EditorView({ doc, extensions: diagnostics(ask), parent: document.body });
  views.push(view);
  return view;
}

function problem(from: number, to: number, rest: Partial<IProblem> = {}): IProblem {
  return { from, to, severity: 'error', message: 'wrong', hint: null, ...rest };
}

/** Questions that wait until the test answers them, in any order. */
function questions() {
  const asked: { text: string; answer: (problems: IProblem[] | null) => Promise<void> }[] = [];
  const ask: Ask = view =>
    new Promise(resolve => {
      const answer = async (problems: IProblem[] | null) => {
        resolve(problems);
        await vi.advanceTimersByTimeAsync(0);
      };
      asked.push({ text: view.state.doc.toString(), answer });
    });
  return { ask, asked };
}

const wait = (milliseconds = 300) => vi.advanceTimersByTimeAsync(milliseconds);
const type = (view: EditorView, insert: string, from = 0) =>
  view.dispatch({ changes: { from, insert } });

function marks(view: EditorView): [from: number, to: number, diagnostic: Diagnostic][] {
  const found: [number, number, Diagnostic][] = [];
  forEachDiagnostic(view.state, (one, from, to) => found.push([from, to, one]));
  return found;
}

describe('asking', () => {
  it('waits until nobody types', async () => {
    const ask = vi.fn<Ask>(async () => []);
    const view = editor('a: 1', ask);
    await wait(200);
    type(view, 'b');
    await wait(299);
    expect(ask).not.toHaveBeenCalled();
    await wait(1);
    expect(ask).toHaveBeenCalledTimes(1);
    expect(ask.mock.calls[0][0].state.doc.toString()).toBe('ba: 1');
    type(view, 'c');
    await wait();
    expect(ask).toHaveBeenCalledTimes(2);
  });

  it('happens anew at once, though nothing changed', async () => {
    const ask = vi.fn<Ask>(async () => null);
    const view = editor('a: 1', ask);
    await wait();
    expect(diagnosticCount(view.state)).toBe(0);
    ask.mockResolvedValue([problem(0, 1)]);
    recheck(view);
    await wait(0);
    expect(ask).toHaveBeenCalledTimes(2);
    expect(diagnosticCount(view.state)).toBe(1);
    await wait(1000);
    expect(ask).toHaveBeenCalledTimes(2);
  });

  it('need not wait for what would have been asked anyway', async () => {
    const ask = vi.fn<Ask>(async () => []);
    const view = editor('a: 1', ask);
    recheck(view);
    await wait(1000);
    expect(ask).toHaveBeenCalledTimes(1);
  });

  it('can be asked for where nothing is marked', () => {
    const view = new EditorView({ doc: 'a: 1' });
    expect(() => recheck(view)).not.toThrow();
  });
});

describe('an answer', () => {
  it('is marked in the text and beside it', async () => {
    const view = editor('a: 1\nb: 2', async () => [
      problem(0, 1),
      problem(5, 6, { severity: 'warning' })
    ]);
    await wait();
    const found = (selector: string) =>
      [...view.dom.querySelectorAll(selector)].map(node => node.textContent);
    expect(found('.modelcompose-mark-error.cm-lintRange-error')).toEqual(['a']);
    expect(found('.modelcompose-mark-warning.cm-lintRange-warning')).toEqual(['b']);
    expect(found('.cm-gutter-lint .cm-lint-marker-error')).toHaveLength(1);
    expect(found('.cm-gutter-lint .cm-lint-marker-warning')).toHaveLength(1);
  });

  it('says what is wrong, and below it what may help', async () => {
    const message = 'unknown <key>';
    const view = editor('a: 1\nb: 2', async () => [
      problem(0, 1, { message, hint: "Did you mean 'b'?" }),
      problem(5, 6, { message })
    ]);
    await wait();
    const shown = marks(view).map(([, , one]) => one.renderMessage?.(view) as HTMLElement);
    expect(shown.map(node => node.className)).toEqual([
      'modelcompose-problem',
      'modelcompose-problem'
    ]);
    expect(shown[0].firstChild?.textContent).toBe(message);
    expect(shown[0].querySelector('.modelcompose-problem-hint')?.textContent).toBe(
      "Did you mean 'b'?"
    );
    expect(shown[1].textContent).toBe(message);
    expect(shown[1].children).toHaveLength(0);
    expect(marks(view)[0][2]).toMatchObject({ message, severity: 'error' });
  });

  it.each([
    ['abc', 1, 2, 1, 2],
    ['abc', -5, 2, 0, 2],
    ['abc', 1, 99, 1, 3],
    ['abc', 50, 99, 2, 3],
    ['abc', 2, 1, 2, 3],
    ['abc', 1, 1, 1, 2],
    ['abc', 3, 3, 2, 3],
    ['ab\ncd', 2, 2, 1, 2],
    ['a\n\nb', 2, 2, 2, 2],
    ['a😀b', 1, 1, 1, 3],
    ['a😀', 3, 3, 1, 3],
    ['', 0, 5, 0, 0]
  ])('in %j from %i to %i stands from %i to %i', async (doc, from, to, start, end) => {
    const view = editor(doc, async () => [problem(from, to)]);
    await wait();
    expect(marks(view).map(([, , one]) => [one.from, one.to])).toEqual([[start, end]]);
  });

  it('of nobody leaves no marks', async () => {
    const ask = vi.fn<Ask>(async () => [problem(0, 1)]);
    const view = editor('a: 1', ask);
    await wait();
    expect(diagnosticCount(view.state)).toBe(1);
    ask.mockResolvedValue(null);
    recheck(view);
    await wait(0);
    expect(diagnosticCount(view.state)).toBe(0);
  });

  it('moves with the text until the next one', async () => {
    const view = editor('a: 1', async () => [problem(0, 1)]);
    await wait();
    type(view, 'xx');
    expect(marks(view).map(([from, to]) => [from, to])).toEqual([[2, 3]]);
  });

  it('is dropped where the text changed since', async () => {
    const { ask, asked } = questions();
    const view = editor('a: 1', ask);
    await wait();
    type(view, 'b');
    await asked[0].answer([problem(0, 1)]);
    expect(diagnosticCount(view.state)).toBe(0);
    await wait();
    expect(asked.map(one => one.text)).toEqual(['a: 1', 'ba: 1']);
    await asked[1].answer([problem(0, 2)]);
    expect(marks(view).map(([from, to]) => [from, to])).toEqual([[0, 2]]);
  });

  it('is dropped where a later question is answered, in whatever order', async () => {
    const { ask, asked } = questions();
    const view = editor('a: 1', ask);
    await wait();
    recheck(view);
    await asked[1].answer([problem(0, 1)]);
    await asked[0].answer(null);
    expect(diagnosticCount(view.state)).toBe(1);
    recheck(view);
    recheck(view);
    await asked[2].answer(null);
    expect(diagnosticCount(view.state)).toBe(1);
    await asked[3].answer([]);
    expect(diagnosticCount(view.state)).toBe(0);
  });
});

describe('in a cell', () => {
  it('is there only while the first line is the magic', async () => {
    const ask = vi.fn<Ask>(async () => [problem(0, 1)]);
    const doc = 'a: 1';
    const extensions = composeCell(doc, diagnostics(ask));
    const view = new EditorView({ doc, extensions, parent: document.body });
    views.push(view);
    await wait(1000);
    recheck(view);
    await wait(1000);
    expect(ask).not.toHaveBeenCalled();
    expect(view.dom.querySelector('.cm-gutter-lint')).toBeNull();

    type(view, '%%compose\n');
    await wait();
    expect(diagnosticCount(view.state)).toBe(1);
    expect(view.dom.querySelector('.cm-gutter-lint')).not.toBeNull();

    type(view, 'x');
    await wait(1000);
    expect(ask).toHaveBeenCalledTimes(1);
    expect(diagnosticCount(view.state)).toBe(0);
    expect(view.dom.querySelector('.cm-gutter-lint, .modelcompose-mark-error')).toBeNull();
  });

  it('forgets a question that was asked before the magic went', async () => {
    const { ask, asked } = questions();
    const doc = '%%compose\na: 1';
    const view = new EditorView({ doc, extensions: composeCell(doc, diagnostics(ask)) });
    views.push(view);
    await wait();
    type(view, 'x');
    await asked[0].answer([problem(0, 1)]);
    expect(diagnosticCount(view.state)).toBe(0);
  });
});
