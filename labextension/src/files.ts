import {
  CompleterModel,
  type CompletionHandler,
  type ICompletionContext,
  type ICompletionProvider
} from '@jupyterlab/completer';
import type { IDocumentWidget } from '@jupyterlab/docregistry';
import type { FileEditor } from '@jupyterlab/fileeditor';

import { type Core, FILE_NAME } from './core';
import type { ServerPart } from './server';

/** The type of model-compose.yml files in editors. */
export const MIME_TYPE = 'text/x-model-compose';

/** The file editor in front, if it has a workflow; null otherwise. */
export function workflowFile(core: Core): IDocumentWidget<FileEditor> | null {
  const editor = core.editors?.currentWidget;
  return editor && FILE_NAME.test(editor.context.path) ? editor : null;
}

/** An item of ours, beside those of others. */
interface IItem extends CompletionHandler.ICompletionItem {
  isOfWorkflow: true;
}

/** Shows our items alone: we know all that may stand there, and others guess from the text. */
class Model extends CompleterModel {
  override setCompletionItems(items: CompletionHandler.ICompletionItem[]): void {
    super.setCompletionItems(items.filter(each => 'isOfWorkflow' in each));
  }
}

/** Completion in files, which no kernel completes: asked of the Jupyter server. */
export class FileCompleter implements ICompletionProvider<IItem> {
  readonly identifier = 'modelcompose:files';
  readonly rank = 1000;

  constructor(
    private readonly _core: Core,
    private readonly _server: ServerPart
  ) {}

  async isApplicable({ widget }: ICompletionContext): Promise<boolean> {
    const editor = this._core.editors?.find(each => each === widget);
    const isFile = Boolean(editor && FILE_NAME.test(editor.context.path));
    return isFile && this._core.has('completion');
  }

  async fetch(
    request: CompletionHandler.IRequest
  ): Promise<CompletionHandler.ICompletionItemsReply<IItem>> {
    const { text, offset } = request;
    const { start, items } = (await this._server.ask('complete', {
      text,
      cursor: offset
    })) as unknown as { start: number; items: { text: string; kind: string }[] };
    return {
      start,
      end: offset,
      items: items.map(({ text, kind }) => ({
        label: text,
        insertText: text,
        type: kind,
        isOfWorkflow: true
      }))
    };
  }

  /** JupyterLab asks this of the provider with the highest rank, whatever is to be completed. */
  async modelFactory(context: ICompletionContext): Promise<CompleterModel> {
    return (await this.isApplicable(context)) ? new Model() : new CompleterModel();
  }
}
