import { Compartment, type Extension } from '@codemirror/state';
import { EditorView, ViewPlugin } from '@codemirror/view';
import type { ISharedCell } from '@jupyter/ydoc';
import type { CodeEditor } from '@jupyterlab/codeeditor';
import {
  EditorExtensionRegistry,
  type IEditorExtensionRegistry,
  type IEditorLanguageRegistry
} from '@jupyterlab/codemirror';
import type { ICompletionProviderManager } from '@jupyterlab/completer';
import { completionKeys } from './completion';
import type { Core } from './core';
import { diagnostics, type IProblem, recheck, unmarked } from './diagnostics';
import { explanations, type IExplanation } from './explanations';
import { composeCell, composeFile } from './language';
import { askedAbout } from './questions';
import { FILE_NAME, MIME_TYPE } from './workflow_files';

/** Make cells and files of workflows YAML, and mark in them what is wrong. */
export function registerEditorExtensions(
  core: Core,
  extensions: IEditorExtensionRegistry,
  languages: IEditorLanguageRegistry,
  completer: ICompletionProviderManager | null
): void {
  /** What an editor has whose text is a document. */
  const assisted = (model: CodeEditor.IModel): Extension => [
    EditorView.editorAttributes.of({ class: 'modelcompose-editor' }),
    marked(core, model),
    explanations((view, place) => explain(core, model, view, place)),
    completer
      ? completionKeys(
          () => (core.has('completion') ? askedAbout(core, model.sharedModel) : null),
          widget => completer.invoke(widget.id)
        )
      : []
  ];

  if (core.has('highlighting')) {
    languages.addLanguage({
      name: 'model-compose',
      displayName: 'Model compose (YAML)',
      mime: MIME_TYPE,
      filename: FILE_NAME,
      load: async () => composeFile()
    });
  }
  extensions.addExtension({
    name: 'modelcompose:workflow',
    factory: ({ inline, model }) =>
      EditorExtensionRegistry.createImmutableExtension(
        inline ? inCell(core, model, assisted(model)) : inFile(core, model, assisted(model))
      )
  });
}

function inCell(core: Core, model: CodeEditor.IModel, extra: Extension): Extension {
  const { sharedModel } = model;
  const type = (sharedModel as Partial<ISharedCell>).cell_type ?? 'code';
  return type === 'code'
    ? composeCell(sharedModel.getSource(), extra, core.has('highlighting'))
    : [];
}

/** What there is in an editor while its file is one of ours, which it may become and cease to be. */
function inFile(core: Core, model: CodeEditor.IModel, extra: Extension): Extension {
  const slot = new Compartment();
  const follow = ViewPlugin.define(view => {
    let isThere = true;
    let isOn = false;
    const update = (): void => {
      const is = core.files.of(model.sharedModel) !== undefined;
      if (isThere && is !== isOn) {
        isOn = is;
        const changed = slot.reconfigure(is ? extra : []);
        view.dispatch({ effects: is ? changed : [changed, ...unmarked(view.state)] });
      }
    };
    queueMicrotask(update);
    core.files.changed.connect(update);
    return {
      destroy: () => {
        isThere = false;
        core.files.changed.disconnect(update);
      }
    };
  });
  return [slot.of([]), follow];
}

function marked(core: Core, model: CodeEditor.IModel): Extension {
  const again = ViewPlugin.define(view => {
    const update = (): void => recheck(view);
    core.kernels.halvesChanged.connect(update);
    core.changed.connect(update);
    return {
      destroy: () => {
        core.kernels.halvesChanged.disconnect(update);
        core.changed.disconnect(update);
      }
    };
  });
  return [diagnostics(view => check(core, model, view)), again];
}

/** What is wrong with a text: the kernel's own word in a notebook, else the server's. */
async function check(
  core: Core,
  model: CodeEditor.IModel,
  view: EditorView
): Promise<IProblem[] | null> {
  const asked = core.has('diagnostics') ? askedAbout(core, model.sharedModel) : null;
  try {
    const problems = await asked?.ask('check', { text: view.state.doc.toString() });
    const isStill = askedAbout(core, model.sharedModel) !== null; // a document, that is
    return isStill ? ((problems ?? null) as unknown as IProblem[] | null) : null;
  } catch {
    return null; // whoever was asked has gone; nothing is said rather than something old
  }
}

/** What stands at a place of a text. */
async function explain(
  core: Core,
  model: CodeEditor.IModel,
  view: EditorView,
  cursor: number
): Promise<IExplanation | null> {
  const asked = core.has('explanations') ? askedAbout(core, model.sharedModel) : null;
  try {
    const found = await asked?.ask('explain', { text: view.state.doc.toString(), cursor });
    return (found ?? null) as unknown as IExplanation | null;
  } catch {
    return null;
  }
}
