import { type IThemeManager, MainAreaWidget } from '@jupyterlab/apputils';
import type { DocumentRegistry, IDocumentWidget } from '@jupyterlab/docregistry';
import type { FileEditor } from '@jupyterlab/fileeditor';
import { IFrame, launchIcon, refreshIcon, ToolbarButton } from '@jupyterlab/ui-components';

import { workflowIcon } from './icons';
import type { ServerPart } from './server';
import { trans } from './words';

const SAVED = 'modelcompose:saved'; // what the page listens for
const RUN_BUTTON = '.modelcompose-controls button:first-of-type';
const PAGE_SECONDS = 120;
const LOOK_MILLISECONDS = 100;

/** A document's page, beside its editor: form, diagram, and runs. It follows what is saved. */
export class Preview extends MainAreaWidget<IFrame> {
  constructor(
    private readonly _server: ServerPart,
    private readonly _editor: IDocumentWidget<FileEditor>,
    private readonly _themes: IThemeManager | null
  ) {
    super({
      content: new IFrame({
        sandbox: [
          'allow-downloads',
          'allow-forms',
          'allow-modals',
          'allow-popups',
          'allow-same-origin',
          'allow-scripts'
        ]
      })
    });
    const { context } = _editor;
    const name = context.path.split('/').pop() ?? '';
    this._frame.title = trans.__('Preview of %1', name);
    this.addClass('modelcompose-preview');
    this.title.icon = workflowIcon;
    this.title.label = trans.__('Preview: %1', name);
    this.title.closable = true;
    const reload = (): void => this.reload();
    this.toolbar.addItem(
      'reload',
      new ToolbarButton({
        icon: refreshIcon,
        tooltip: trans.__('Load the page again'),
        onClick: reload
      })
    );
    this.toolbar.addItem(
      'open',
      new ToolbarButton({
        icon: launchIcon,
        tooltip: trans.__('Open the page in a tab of the browser'),
        onClick: () => void window.open(_server.pageOf(context.localPath))
      })
    );
    context.saveState.connect(this._onSave, this);
    _themes?.themeChanged.connect(reload, this);
    _editor.disposed.connect(() => this.dispose(), this);
    this.reload();
  }

  /** Load the page anew, in the colours of the theme. */
  reload(): void {
    const isLight = this._themes?.isLight(this._themes.theme ?? '') ?? true;
    this._shown = this._text;
    this._stale = this._page;
    this.content.url = this._server.pageOf(this._editor.context.localPath, {
      theme: isLight ? 'light' : 'dark'
    });
  }

  /** Press Run Workflow, with what was entered, as soon as the page shows what is saved. */
  async run(): Promise<void> {
    const end = Date.now() + PAGE_SECONDS * 1000;
    while (!this.isDisposed && Date.now() < end) {
      const button = this._page?.querySelector<HTMLButtonElement>(RUN_BUTTON);
      if (button && this._page !== this._stale && button !== this._stale) {
        button.click();
        return;
      }
      await new Promise(resolve => setTimeout(resolve, LOOK_MILLISECONDS));
    }
  }

  private async _onSave(_: unknown, state: DocumentRegistry.SaveState): Promise<void> {
    if (state !== 'completed' || this._text === this._shown) {
      return; // an autosave, say
    }
    this._shown = this._text;
    this._stale = this._page?.querySelector(RUN_BUTTON) ?? null;
    while (this._isRunning && !this.isDisposed) {
      await new Promise(resolve => setTimeout(resolve, LOOK_MILLISECONDS)); // it would be stopped
    }
    this._frame.contentWindow?.postMessage(SAVED, window.location.origin);
  }

  private get _text(): string {
    return this._editor.context.model.toString();
  }

  private get _isRunning(): boolean {
    return this._page?.querySelector<HTMLButtonElement>(RUN_BUTTON)?.disabled ?? false;
  }

  private get _frame(): HTMLIFrameElement {
    return this.content.node.querySelector('iframe') as HTMLIFrameElement;
  }

  private get _page(): Document | null {
    return this._frame.contentDocument;
  }

  private _shown = ''; // the document that the page is of
  private _stale: Document | Element | null = null; // the page, or its button, as it was before
}
