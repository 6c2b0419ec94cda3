// What stands at a place of a document means: shown where one points at it, and at a key.

import { type Extension, StateEffect, StateField } from '@codemirror/state';
import {
  EditorView,
  hoverTooltip,
  keymap,
  showTooltip,
  type Tooltip,
  ViewPlugin
} from '@codemirror/view';

/** What the text between two offsets is. */
export interface IExplanation {
  from: number;
  to: number;
  name: string;
  /** A word for what it is: a key, a value, a type, … */
  kind: string;
  help: string;
}

type Ask = (view: EditorView, place: number) => Promise<IExplanation | null>;

const show = StateEffect.define<Tooltip | null>();

const atCursor = StateField.define<Tooltip | null>({
  create: () => null,
  update: (shown, transaction) => {
    for (const effect of transaction.effects) {
      if (effect.is(show)) {
        return effect.value;
      }
    }
    return transaction.docChanged || transaction.selection ? null : shown;
  },
  provide: field => showTooltip.from(field)
});

function close(view: EditorView): boolean {
  const isShown = view.state.field(atCursor) !== null;
  if (isShown) {
    view.dispatch({ effects: show.of(null) });
  }
  return isShown;
}

/** Shows what stands at the cursor. */
const explainer = (ask: Ask) =>
  class {
    constructor(private readonly _view: EditorView) {
      explainers.set(_view, this);
    }

    async show(): Promise<boolean> {
      const { state } = this._view;
      const found = await ask(this._view, state.selection.main.head);
      const { doc, selection } = this._view.state;
      if (!found || doc !== state.doc || !selection.eq(state.selection)) {
        return false;
      }
      this._view.dispatch({ effects: show.of(tooltip(found, doc.length, 'status')) });
      return true;
    }
  };

const explainers = new WeakMap<EditorView, { show(): Promise<boolean> }>();

/**
 * Explanations where one points at something, and at the cursor.
 *
 * @param ask - says what stands at a place; null where nothing is known of it
 */
export function explanations(ask: Ask): Extension {
  return [
    ViewPlugin.fromClass(explainer(ask)),
    atCursor,
    hoverTooltip(async (view, place) => {
      const found = await ask(view, place);
      return found && tooltip(found, view.state.doc.length, 'tooltip');
    }),
    keymap.of([{ key: 'Escape', run: close }]),
    EditorView.domEventHandlers({ blur: (_, view) => close(view) && false })
  ];
}

/** Show what stands at the cursor of the editor that has the focus; false where nothing is known. */
export async function explainAtCursor(): Promise<boolean> {
  const editor = document.activeElement?.closest<HTMLElement>('.cm-editor');
  const view = editor && EditorView.findFromDOM(editor);
  return (await (view && explainers.get(view))?.show()) ?? false;
}

function tooltip(found: IExplanation, length: number, role: 'tooltip' | 'status'): Tooltip {
  return {
    pos: Math.min(found.from, length),
    end: Math.min(found.to, length),
    above: true,
    create: () => ({ dom: rendered(found, role) })
  };
}

function rendered({ name, kind, help }: IExplanation, role: string): HTMLElement {
  const node = document.createElement('div');
  node.className = 'modelcompose-explanation';
  node.setAttribute('role', role);
  const title = document.createElement('div');
  title.className = 'modelcompose-explanation-title';
  const word = document.createElement('code');
  word.textContent = name;
  const what = document.createElement('span');
  what.textContent = kind;
  title.append(word, what);
  const text = document.createElement('div');
  text.textContent = help;
  node.append(title, text);
  return node;
}
