// What is wrong with a document, as marks in its text: someone else says it, CodeMirror shows it.

import {
  type Diagnostic,
  forceLinting,
  linter,
  lintGutter,
  setDiagnostics
} from '@codemirror/lint';
import {
  type EditorState,
  type Extension,
  findClusterBreak,
  StateEffect,
  type Text
} from '@codemirror/state';
import type { EditorView } from '@codemirror/view';

/** Something that is wrong in a document, from one offset in the editor's text to another. */
export interface IProblem {
  from: number;
  to: number;
  severity: 'error' | 'warning';
  message: string;
  /** What may help. */
  hint: string | null;
}

/** How long nobody types before a document is checked, in milliseconds. */
const DELAY = 300;

const again = StateEffect.define<null>();

/**
 * Marks in the text, and beside it, where something is wrong.
 *
 * @param ask - says what is wrong with an editor's text; null where nobody can say
 */
export function diagnostics(ask: (view: EditorView) => Promise<IProblem[] | null>): Extension {
  const latest = new WeakMap<EditorView, Promise<IProblem[] | null>>();

  /** The answer to the latest question: one that was overtaken must not come after it. */
  async function answer(view: EditorView): Promise<readonly Diagnostic[]> {
    let asked = ask(view);
    latest.set(view, asked);
    for (;;) {
      const problems = await asked;
      const newest = latest.get(view);
      if (!newest || newest === asked) {
        return (problems ?? []).map(problem => diagnostic(problem, view.state.doc));
      }
      asked = newest;
    }
  }

  return [
    linter(answer, {
      delay: DELAY,
      needsRefresh: update =>
        update.transactions.some(transaction => transaction.effects.some(one => one.is(again)))
    }),
    lintGutter()
  ];
}

/** Ask anew at once, though the text is the same: whoever answers may have come only now. */
export function recheck(view: EditorView): void {
  view.dispatch({ effects: again.of(null) });
  forceLinting(view);
}

/** What takes the marks away, which stay when nobody makes new ones any more. */
export function unmarked(state: EditorState): readonly StateEffect<unknown>[] {
  return [setDiagnostics(state, []).effects ?? []].flat();
}

function diagnostic(problem: IProblem, doc: Text): Diagnostic {
  const { severity, message, hint } = problem;
  return {
    ...visible(problem.from, problem.to, doc),
    severity,
    message,
    markClass: `modelcompose-mark-${severity}`,
    renderMessage: () => rendered(message, hint)
  };
}

/** A range within the text, and of at least one character unless its line has none. */
function visible(from: number, to: number, doc: Text): { from: number; to: number } {
  from = Math.max(0, Math.min(from, doc.length));
  to = Math.max(from, Math.min(to, doc.length));
  if (from === to) {
    const line = doc.lineAt(from);
    const column = from - line.from;
    if (to < line.to) {
      to = line.from + findClusterBreak(line.text, column, true);
    } else if (line.length) {
      from = line.from + findClusterBreak(line.text, column, false);
    }
  }
  return { from, to };
}

function rendered(message: string, hint: string | null): Node {
  const node = document.createElement('div');
  node.className = 'modelcompose-problem';
  node.textContent = message;
  if (hint) {
    const line = document.createElement('div');
    line.className = 'modelcompose-problem-hint';
    line.textContent = hint;
    node.append(line);
  }
  return node;
}
