import { IThemeManager, MainAreaWidget } from '@jupyterlab/apputils';
import { DocumentRegistry, IDocumentWidget } from '@jupyterlab/docregistry';
import { FileEditor } from '@jupyterlab/fileeditor';
import { IFrame, ToolbarButton, launchIcon, refreshIcon } from '@jupyterlab/ui-components';

import { workflowIcon } from './icons';
import { ServerPart } from './server';

const RUN_BUTTON = '.modelcompose-controls button';
const RUN_SECONDS = 60;

/** A document's page, beside its editor: form, diagram, and runs. It follows what is saved. */
export class Preview extends MainAreaWidget<IFrame> {
  constructor(
    private readonly _server: ServerPart,
    private readonly _editor: IDocumentWidget<FileEditor>,
    private readonly _themes: IThemeManager | null
  ) {
    super({
      content: new IFrame({
        sandbox: ['allow-downloads', 'allow-forms', 'allow-modals', 'allow-popups']
          .concat('allow-same-origin', 'allow-scripts') as IFrame.SandboxExceptions[]
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
        onClick: () => void window.open(_server.pageOf(context.path))
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
    this._runs = false;
    this.content.url = this._server.pageOf(this._editor.context.path, {
      theme: isLight ? 'light' : 'dark',
      at: String(Date.now())
    });
  }

  /** Press Run Workflow as soon as it is there. */
  async run(): Promise<void> {
    const frame = this.content.node.querySelector('iframe')!;
    this._runs = true;
    for (let end = Date.now() + RUN_SECONDS * 1000; this._runs && Date.now() < end; ) {
      const button = frame.contentDocument?.querySelector<HTMLButtonElement>(RUN_BUTTON);
      if (button) {
        button.click();
        return;
      }
      await new Promise(resolve => setTimeout(resolve, 100));
    }
  }

  private _onSave(_: unknown, state: DocumentRegistry.SaveState): void {
    if (state === 'completed') {
      this.reload();
    }
  }

  private _runs = false;
}
