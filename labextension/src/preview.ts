import { type IThemeManager, MainAreaWidget } from '@jupyterlab/apputils';
import type { DocumentRegistry, IDocumentWidget } from '@jupyterlab/docregistry';
import type { FileEditor } from '@jupyterlab/fileeditor';
import { IFrame, launchIcon, refreshIcon, ToolbarButton } from '@jupyterlab/ui-components';

import { workflowIcon } from './icons';
import type { ServerPart } from './server';

const DIAGRAM = '.modelcompose-about details';
const RUN_BUTTON = '.modelcompose-controls button';
const STOP_BUTTON = '.modelcompose-controls button:nth-of-type(2)';
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
        sandbox: ['allow-downloads', 'allow-forms', 'allow-modals', 'allow-popups'].concat(
          'allow-same-origin',
          'allow-scripts'
        ) as IFrame.SandboxExceptions[]
      })
    });
    const { context } = _editor;
    this.addClass('modelcompose-preview');
    this.title.icon = workflowIcon;
    this.title.label = `Preview: ${context.path.split('/').pop()}`;
    this.title.closable = true;
    const reload = (): void => this.reload();
    this.toolbar.addItem(
      'reload',
      new ToolbarButton({ icon: refreshIcon, tooltip: 'Load the page again', onClick: reload })
    );
    this.toolbar.addItem(
      'open',
      new ToolbarButton({
        icon: launchIcon,
        tooltip: 'Open the page in a tab of the browser',
        onClick: () => void window.open(_server.pageOf(context.localPath))
      })
    );
    context.saveState.connect(this._onSave, this);
    _themes?.themeChanged.connect(reload, this);
    _editor.disposed.connect(() => this.dispose(), this);
    this.reload();
  }

  /** Load the page as the file is now. */
  reload(): void {
    const theme = this._themes?.theme ?? '';
    const isLight = this._themes?.isLight(theme) ?? true;
    this._loads += 1;
    this._shown = this._editor.context.model.toString();
    this._before = this._frame.contentDocument;
    this.content.url = this._server.pageOf(this._editor.context.localPath, {
      theme: isLight ? 'light' : 'dark'
    });
    void this._found<HTMLDetailsElement>(DIAGRAM).then(diagram => {
      if (diagram) {
        diagram.open = true;
      }
    });
  }

  /** Press Run Workflow as soon as it is there. */
  async run(): Promise<void> {
    (await this._found<HTMLButtonElement>(RUN_BUTTON))?.click();
  }

  /** A part of the page once it is there; null where the page is loaded again before that. */
  private async _found<T extends HTMLElement>(selector: string): Promise<T | null> {
    const load = this._loads;
    const end = Date.now() + PAGE_SECONDS * 1000;
    while (load === this._loads && !this.isDisposed && Date.now() < end) {
      const page = this._frame.contentDocument;
      const part = page?.querySelector<T>(selector);
      if (part && page !== this._before) {
        return part;
      }
      await new Promise(resolve => setTimeout(resolve, LOOK_MILLISECONDS));
    }
    return null;
  }

  /** Load the page again where the file is another one than it shows, and nothing runs there. */
  private _onSave(_: unknown, state: DocumentRegistry.SaveState): void {
    const stop = this._frame.contentDocument?.querySelector<HTMLButtonElement>(STOP_BUTTON);
    const isRunning = stop !== null && stop !== undefined && !stop.disabled;
    if (
      state === 'completed' &&
      this._editor.context.model.toString() !== this._shown &&
      !isRunning
    ) {
      this.reload();
    }
  }

  private get _frame(): HTMLIFrameElement {
    return this.content.node.querySelector('iframe') as HTMLIFrameElement;
  }

  private _loads = 0;
  private _shown = ''; // the document that the page is of
  private _before: Document | null = null; // the page as it was, which stays for a while
}
