import { Compartment, type Extension } from '@codemirror/state';
import { type EditorView, ViewPlugin } from '@codemirror/view';
import type { ISharedCell, ISharedText } from '@jupyter/ydoc';
import type { CodeEditor } from '@jupyterlab/codeeditor';
import {
  EditorExtensionRegistry,
  type IEditorExtensionRegistry,
  type IEditorLanguageRegistry
} from '@jupyterlab/codemirror';
import type { JSONObject } from '@lumino/coreutils';

import { type Core, FILE_NAME } from './core';
import { diagnostics, type IProblem, recheck } from './diagnostics';
import { MIME_TYPE } from './files';
import { composeCell, composeFile } from './language';

/** Make cells and files of workflows YAML, and mark in them what is wrong. */
export function registerEditorExtensions(
  core: Core,
  extensions: IEditorExtensionRegistry,
  languages: IEditorLanguageRegistry
): void {
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
        inline ? inCell(core, model) : inFile(core, model)
      )
  });
}

function inCell(core: Core, model: CodeEditor.IModel): Extension {
  const { sharedModel } = model;
  const type = (sharedModel as Partial<ISharedCell>).cell_type ?? 'code';
  return type === 'code'
    ? composeCell(sharedModel.getSource(), marked(core, model), core.has('highlighting'))
    : [];
}

/** Marks, in an editor whose file is one of ours: which file it has, it learns after its beginning. */
function inFile(core: Core, model: CodeEditor.IModel): Extension {
  const marks = new Compartment();
  const follow = ViewPlugin.define(view => {
    let isThere = true;
    const update = (): void => {
      const wanted = fileOf(core, model.sharedModel) ? marked(core, model) : [];
      if (isThere) {
        view.dispatch({ effects: marks.reconfigure(wanted) });
      }
    };
    queueMicrotask(update);
    model.mimeTypeChanged.connect(update); // with the file's name
    return {
      destroy: () => {
        isThere = false;
        model.mimeTypeChanged.disconnect(update);
      }
    };
  });
  return [marks.of([]), follow];
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
  if (!core.has('diagnostics')) {
    return null;
  }
  const data: JSONObject = { text: view.state.doc.toString() };
  const { sharedModel } = model;
  const ofCell = (sharedModel as Partial<ISharedCell>).notebook;
  const notebook = core.notebooks?.find(
    each => Boolean(ofCell) && each.model?.sharedModel === ofCell
  );
  const path = (notebook ?? fileOf(core, sharedModel))?.context.localPath ?? null;
  try {
    const kernel = core.kernels.of(notebook);
    const asked = kernel?.ask('check', data) ?? core.server?.ask('check', { ...data, path });
    return ((await asked) ?? null) as unknown as IProblem[] | null;
  } catch {
    return null; // whoever was asked has gone; nothing is said rather than something old
  }
}

/** The file of ours that an editor has; undefined where it has another one, or none yet. */
function fileOf(core: Core, text: ISharedText) {
  return core.editors?.find(
    each => each.content.model.sharedModel === text && FILE_NAME.test(each.context.path)
  );
}
