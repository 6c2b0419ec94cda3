// Who answers questions about a text: the kernel of its notebook, else the Jupyter server.

import type { ISharedCell, ISharedText } from '@jupyter/ydoc';
import type { IDocumentWidget } from '@jupyterlab/docregistry';
import type { JSONObject, JSONValue } from '@lumino/coreutils';

import type { Core } from './core';
import { MAGIC } from './yaml';

/** A cell's or a file's text that is a document, and who can be asked about it. */
export interface IAsked {
  /** The notebook, or the file's editor. */
  widget: IDocumentWidget;
  ask(question: 'check' | 'complete' | 'explain', data: JSONObject): Promise<JSONValue>;
}

/** Whom to ask about an editor's text; null where it is no document, or nobody can be asked. */
export function askedAbout(core: Core, text: ISharedText): IAsked | null {
  const { notebook: ofCell, cell_type: type } = text as Partial<ISharedCell>;
  const { server } = core;
  if (!ofCell) {
    const widget = core.files.of(text);
    return widget && server ? { widget, ask: onServer(server, widget) } : null;
  }
  if (type !== 'code' || !MAGIC.test(text.getSource())) {
    return null;
  }
  const widget = core.notebooks?.find(each => each.model?.sharedModel === ofCell);
  const kernel = core.kernels.of(widget);
  if (widget && kernel) {
    return { widget, ask: (question, data) => kernel.ask(question, data) };
  }
  return widget && server ? { widget, ask: onServer(server, widget) } : null;
}

function onServer(server: NonNullable<Core['server']>, { context }: IDocumentWidget) {
  return (question: 'check' | 'complete' | 'explain', data: JSONObject) =>
    server.ask(question, { path: context.localPath, ...data });
}
