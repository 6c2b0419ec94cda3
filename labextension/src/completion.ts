// Completion of documents in cells and files, in the application's own completer.

import { indentUnit } from '@codemirror/language';
import { type Extension, Prec } from '@codemirror/state';
import { type EditorView, keymap } from '@codemirror/view';
import {
  Completer,
  CompleterModel,
  type CompletionHandler,
  type ICompletionContext,
  type ICompletionProvider,
  type ICompletionProviderManager
} from '@jupyterlab/completer';
import { Text } from '@jupyterlab/coreutils';
import { JSONExt } from '@lumino/coreutils';

import type { Core } from './core';
import { askedAbout, type IAsked } from './questions';
import { ranked } from './ranking';

const MOST = 24; // characters of a text that others are lined up with

/** What may stand at a place, as the kernel and the server say it. */
export interface IAnswer {
  start: number;
  items: { text: string; kind: string; help: string }[];
}

/** An item of ours. */
interface IItem extends CompletionHandler.ICompletionItem {
  /** Where it stands and what it is: where others have items, too, they are cut to fit theirs. */
  whole: { start: number; end: number; text: string };
  /** How long the texts of all items are, up to a bound: their sentences stand below each other. */
  longest: number;
}

function isOurs(item: CompletionHandler.ICompletionItem): item is IItem {
  return 'whole' in item;
}

/** Shows our items alone, the likeliest first: others guess, from the text or from Python. */
class Model extends CompleterModel {
  constructor(private readonly _isOurs: () => boolean) {
    super();
  }

  /** Show ours at once: the kernel's, which are left out anyway, may take a second to come. */
  offer(state: Completer.ITextState, items: IItem[]): void {
    this.original = state;
    this.setCompletionItems(items);
  }

  override setCompletionItems(items: CompletionHandler.ICompletionItem[]): void {
    if (!this._isOurs()) {
      this._order = [];
      super.setCompletionItems(items);
      return;
    }
    const ours = items.filter(isOurs);
    if (!ours.length) {
      this.reset(true);
      return;
    }
    const [{ whole }] = ours;
    this.cursor = { start: whole.start, end: whole.end };
    this._order = ours.map(each => each.whole.text);
    super.setCompletionItems(
      ours.map(({ label, type, documentation, whole, longest }) => ({
        ...{ label, type, documentation, whole, longest, insertText: whole.text },
        resolve: undefined // as in all that come later, or they would be others
      }))
    );
  }

  override completionItems(): CompletionHandler.ICompletionItems {
    const items = super.completionItems() as CompletionHandler.ICompletionItem[];
    if (!this._order.length || !this.query || items === this._ranked) {
      return items;
    }
    this._ranked = this.processedItemsCache = ranked(items, this._order, this.query);
    return this._ranked;
  }

  private _order: string[] = [];
  private _ranked: CompletionHandler.ICompletionItem[] | null = null;
}

/** Rows of ours have a sentence about the item. */
class Renderer extends Completer.Renderer {
  override createCompletionItemNode(
    item: CompletionHandler.ICompletionItem,
    orderedTypes: string[]
  ): HTMLLIElement {
    const row = super.createCompletionItemNode(item, orderedTypes);
    if (isOurs(item)) {
      row.classList.add('modelcompose-completion');
      row.title = item.documentation ?? '';
      const text = row.querySelector<HTMLElement>('.jp-Completer-match');
      text?.style.setProperty('--modelcompose-longest', `${item.longest}ch`);
      const help = document.createElement('span');
      help.className = 'modelcompose-completion-help';
      help.textContent = item.documentation ?? '';
      row.lastElementChild?.before(help);
    }
    return row;
  }

  override itemWidthHeuristic(item: CompletionHandler.ICompletionItem): number {
    const help = isOurs(item) ? item.longest + (item.documentation ?? '').length : 0;
    return super.itemWidthHeuristic(item) + help;
  }
}

/** Completion of documents: asked of the notebook's kernel, or of the Jupyter server. */
export class WorkflowCompleter implements ICompletionProvider<IItem> {
  readonly identifier = 'modelcompose:completion';
  readonly rank = 1000;
  readonly renderer = new Renderer();

  constructor(
    private readonly _core: Core,
    private readonly _manager: ICompletionProviderManager
  ) {}

  async isApplicable(context: ICompletionContext): Promise<boolean> {
    return this._asked(context) !== null;
  }

  async fetch(
    { text, offset }: CompletionHandler.IRequest,
    context: ICompletionContext
  ): Promise<CompletionHandler.ICompletionItemsReply<IItem>> {
    // Of the characters outside of the basic plane, which are two units each, it counts one.
    const end = Text.charIndexToJsIndex(offset, text);
    const state = stateOf(context);
    if (!this._models.has(context) && !this._late.has(context)) {
      // The completer is older than this provider, and has a model that takes all.
      this._late.add(context);
      await this._manager.updateCompleter(context);
    }
    const answer = await this._asked(context)?.ask('complete', { text, cursor: end });
    const { start, items } = (answer ?? { start: end, items: [] }) as unknown as IAnswer;
    const longest = Math.min(MOST, Math.max(...items.map(each => each.text.length)));
    const ours = items.map(({ text, kind, help }) => ({
      ...{ label: text, insertText: text, type: kind, documentation: help },
      whole: { start, end, text },
      longest
    }));
    if (ours.length && state && JSONExt.deepEqual(state, stateOf(context) ?? {})) {
      this._models.get(context)?.offer(state, ours);
    }
    return { start: Text.jsIndexToCharIndex(start, text), end: offset, items: ours };
  }

  /** JupyterLab asks this of the provider with the highest rank, whatever is to be completed. */
  async modelFactory(context: ICompletionContext): Promise<CompleterModel> {
    const model = new Model(() => this._asked(context) !== null);
    this._models.set(context, model);
    return model;
  }

  private _asked({ editor }: ICompletionContext): IAsked | null {
    const text = editor?.model.sharedModel;
    return text && this._core.has('completion') ? askedAbout(this._core, text) : null;
  }

  private _models = new WeakMap<ICompletionContext, Model>();
  private _late = new WeakSet<ICompletionContext>();
}

/** What an editor has, and where its cursor is. */
function stateOf({ editor }: ICompletionContext): Completer.ITextState | null {
  return editor
    ? { text: editor.model.sharedModel.getSource(), ...editor.getCursorPosition() }
    : null;
}

/**
 * Keys that complete also where nothing is typed yet: Tab at the beginning of a line, where it would
 * indent, and does if nothing may stand there; Ctrl-Space anywhere.
 *
 * @param asked - whom to ask about the text; null where nobody can be asked
 * @param invoke - completes in a notebook or an editor
 */
export function completionKeys(
  asked: () => IAsked | null,
  invoke: (widget: IAsked['widget']) => void
): Extension {
  const orIndent = (view: EditorView): boolean => {
    const whom = isAtLineBeginning(view) ? asked() : null;
    if (whom) {
      void offerOrIndent(view, whom, () => invoke(whom.widget));
    }
    return whom !== null;
  };
  const anywhere = (): boolean => {
    const whom = asked();
    if (whom) {
      invoke(whom.widget);
    }
    return whom !== null;
  };
  return Prec.highest(
    keymap.of([
      { key: 'Tab', run: orIndent },
      { key: 'Ctrl-Space', run: anywhere }
    ])
  );
}

function isAtLineBeginning({ state }: EditorView): boolean {
  const { ranges, main } = state.selection;
  const line = state.doc.lineAt(main.head);
  const before = line.text.slice(0, main.head - line.from);
  return ranges.length === 1 && main.empty && !before.trim() && !state.readOnly;
}

async function offerOrIndent(view: EditorView, whom: IAsked, offer: () => void): Promise<void> {
  const { state } = view;
  const data = { text: state.doc.toString(), cursor: state.selection.main.head };
  const answer = (await whom.ask('complete', data).catch(() => null)) as unknown as IAnswer | null;
  if (view.state.doc !== state.doc || !view.state.selection.eq(state.selection)) {
    return; // somebody types on
  }
  if (answer?.items.length) {
    offer();
  } else {
    view.dispatch(state.replaceSelection(state.facet(indentUnit)), { userEvent: 'input.indent' });
  }
}
