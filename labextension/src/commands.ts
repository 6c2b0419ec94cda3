import type { JupyterFrontEnd } from '@jupyterlab/application';
import { Clipboard, type IThemeManager, Notification } from '@jupyterlab/apputils';
import { PageConfig, URLExt } from '@jupyterlab/coreutils';
import type { DocumentRegistry, IDocumentWidget } from '@jupyterlab/docregistry';
import type { FileEditor } from '@jupyterlab/fileeditor';
import { NotebookActions, type NotebookPanel } from '@jupyterlab/notebook';
import type { LabIcon } from '@jupyterlab/ui-components';
import type { ReadonlyPartialJSONObject } from '@lumino/coreutils';

import type { Core, ITemplate } from './core';
import { workflowCardIcon, workflowIcon } from './icons';
import type { KernelPart } from './kernels';
import { Preview } from './preview';
import { isRunning, stop } from './status';
import { chooseTemplate } from './templates';
import { trans } from './words';
import { MAGIC } from './yaml';

export const commands = {
  insert: 'modelcompose:insert',
  new: 'modelcompose:new',
  run: 'modelcompose:run',
  stop: 'modelcompose:stop',
  serve: 'modelcompose:serve',
  dashboard: 'modelcompose:dashboard',
  preview: 'modelcompose:preview',
  curl: 'modelcompose:curl'
};

/** Not in the palette, which takes the focus from the place that it is about. */
export const EXPLAIN = 'modelcompose:explain';

const LOAD = '%load_ext modelcompose_jupyter';

/** What the commands are about: a cell of ours that is active, or a file that is in front. */
type Target =
  | { notebook: NotebookPanel; source: string; file?: undefined }
  | { file: IDocumentWidget<FileEditor>; notebook?: undefined };

/** Add the commands to an application. */
export class Commands {
  constructor(
    private readonly _app: JupyterFrontEnd,
    private readonly _core: Core,
    private readonly _themes: IThemeManager | null,
    private readonly _folder: () => string
  ) {
    const hasTarget = (): boolean => this._target() !== null;
    const onServer = (): boolean => _core.server !== null && hasTarget();
    this._add(
      commands.insert,
      trans.__('Insert Workflow Cell…'),
      this._insert,
      () => this._notebook() !== null
    );
    this._add(commands.new, trans.__('Compose Workflow'), this._new, undefined, {
      icon: workflowCardIcon,
      caption: trans.__('A new workflow file from a template, with its form beside it')
    });
    this._add(commands.run, trans.__('Run Workflow'), this._run, hasTarget);
    this._add(
      commands.stop,
      trans.__('Stop Workflow Runs'),
      () => stop(_core, this._notebook()),
      () => isRunning(_core, this._notebook())
    );
    this._add(commands.serve, trans.__('Serve Workflows over HTTP'), this._serve, hasTarget);
    this._add(commands.dashboard, trans.__('Open Workflow Dashboard'), this._dashboard, onServer);
    this._add(
      commands.preview,
      trans.__('Show Workflow Preview'),
      this._preview,
      () => _core.server !== null && this._target()?.file !== undefined
    );
    this._add(commands.curl, trans.__('Copy Workflow as curl'), this._curl, hasTarget);
  }

  private _add(
    id: string,
    label: string,
    run: (args: ReadonlyPartialJSONObject) => unknown,
    isVisible: () => boolean = () => true,
    options: { icon?: LabIcon; caption?: string } = {}
  ): void {
    const { icon = workflowIcon, caption = '' } = options;
    const shown = (): boolean => this._core.has('commands') && isVisible();
    this._app.commands.addCommand(id, {
      label,
      caption,
      icon: args => (args.isPalette ? undefined : icon),
      isVisible: shown,
      isEnabled: shown,
      describedBy: { args: { type: 'object', properties: {} } },
      execute: async args => {
        try {
          return await run.call(this, args);
        } catch (error) {
          Notification.error((error as Error).message, { autoClose: 10000 });
        }
      }
    });
  }

  private _notebook(): NotebookPanel | null {
    const { notebook } = this._core;
    return notebook && this._app.shell.currentWidget === notebook ? notebook : null;
  }

  private _target(): Target | null {
    const notebook = this._notebook();
    const source = notebook?.content.activeCell?.model.sharedModel.getSource();
    if (notebook && source && MAGIC.test(source)) {
      return { notebook, source };
    }
    const file = this._core.files.current;
    return file && this._app.shell.currentWidget === file ? { file } : null;
  }

  private async _template(accept: string): Promise<ITemplate | null> {
    const { templates } = this._core;
    return templates.length < 2
      ? (templates[0] ?? { name: '', text: '' })
      : await chooseTemplate(templates, accept);
  }

  private async _insert(): Promise<void> {
    const panel = this._notebook();
    const template = panel && (await this._template(trans.__('Insert')));
    if (!panel || !template) {
      return;
    }
    const { content, model } = panel;
    const cells = [...(model?.cells ?? [])].map(each => each.sharedModel.getSource());
    if (!this._core.kernels.of(panel) && !cells.some(each => each.includes(LOAD))) {
      insertBelow(panel, LOAD);
    }
    insertBelow(panel, `%%compose ${nameOf(template)}\n${template.text}`);
    await content.activeCell?.ready;
    content.mode = 'edit'; // with the cursor in the cell, also after a dialog that took it
  }

  private async _new({ cwd }: ReadonlyPartialJSONObject): Promise<unknown> {
    const template = await this._template(trans.__('Create'));
    if (!template) {
      return null;
    }
    const { contents } = this._app.serviceManager;
    const folder = (cwd as string | undefined) ?? this._folder();
    const { content } = await contents.get(folder, { content: true });
    const taken = (content as { name: string }[]).map(each => each.name);
    let name = 'model-compose.yml';
    for (let number = 1; taken.includes(name); number += 1) {
      name = `model-compose-${number}.yml`;
    }
    const path = folder ? `${folder}/${name}` : name;
    await contents.save(path, { type: 'file', format: 'text', content: template.text });
    const opened = await this._app.commands.execute('docmanager:open', { path, factory: 'Editor' });
    await this._app.commands.execute(commands.preview);
    return opened; // in whose place the launcher was
  }

  /** Press Run Workflow: in the cell's panel, which is shown anew, or in the file's preview. */
  private async _run(): Promise<void> {
    const target = this._target();
    if (target?.file) {
      await saved(target.file);
      await this._shown(target.file)?.run();
    } else if (target) {
      const { notebook, source } = target;
      if (await NotebookActions.run(notebook.content, notebook.sessionContext)) {
        await this._core.kernels.look(notebook); // the cell may just have loaded its half
        await this._kernelOf(notebook).ask('run', { text: source });
      }
    }
  }

  private async _serve(): Promise<void> {
    const target = this._target();
    if (target?.file) {
      const server = this._server();
      const { localPath: path } = target.file.context;
      await saved(target.file);
      const address = server.serve(path).then(host => server.apiOf(host));
      Notification.promise(address, {
        pending: {
          message: trans.__('Starting a host for %1…', path),
          options: { autoClose: false }
        },
        success: { message: served => trans.__('%1 is served at %2', path, served) },
        error: { message: reason => (reason as Error).message }
      });
    } else if (target) {
      const said = await this._kernelOf(target.notebook).ask('serve');
      Notification.success(String(said), { autoClose: 10000 });
    }
  }

  private async _dashboard(): Promise<void> {
    const target = this._target();
    const { context } = target?.file ?? target?.notebook ?? {};
    if (!context) {
      return;
    }
    await saved({ context });
    const rendered = URLExt.join(
      PageConfig.getBaseUrl(),
      'voila/render',
      URLExt.encodeParts(context.localPath)
    );
    const isFile = target?.file !== undefined;
    window.open(
      isFile ? this._server().pageOf(context.localPath) : `${rendered}?template=modelcompose`
    );
  }

  private _preview(): void {
    const file = this._target()?.file;
    if (file) {
      this._shown(file);
    }
  }

  private async _curl(): Promise<void> {
    const target = this._target();
    let command: unknown;
    if (target?.file) {
      const { context } = target.file;
      const data = { text: context.model.toString(), path: context.localPath };
      command = await this._server().ask('curl', data);
    } else if (target) {
      command = await this._kernelOf(target.notebook).ask('curl', { text: target.source });
    }
    if (command) {
      Clipboard.copyToSystem(String(command));
      Notification.success(trans.__('The command is in the clipboard'), { autoClose: 3000 });
    }
  }

  /** A file's preview, which is opened beside it if there is none. */
  private _shown(file: IDocumentWidget<FileEditor>): Preview | null {
    let preview = this._previews.get(file);
    if (!preview || preview.isDisposed) {
      preview = new Preview(this._server(), file, this._themes);
      this._previews.set(file, preview);
      this._app.shell.add(preview, 'main', { mode: 'split-right', ref: file.id, activate: false });
      if (!preview.isAttached) {
        preview.dispose(); // an application with room for one document has none beside it
        window.open(this._server().pageOf(file.context.localPath));
      }
    }
    return preview.isDisposed ? null : preview;
  }

  private _server(): NonNullable<Core['server']> {
    if (!this._core.server) {
      throw new Error(
        trans.__(
          'This Jupyter server has no modelcompose-jupyter.\nInstall it in the environment of the server.'
        )
      );
    }
    return this._core.server;
  }

  private _kernelOf(notebook: NotebookPanel): KernelPart {
    const part = this._core.kernels.of(notebook);
    if (!part) {
      throw new Error(trans.__('This notebook’s kernel does not answer.\nRun: %1', LOAD));
    }
    return part;
  }

  private _previews = new WeakMap<IDocumentWidget<FileEditor>, Preview>();
}

function insertBelow(panel: NotebookPanel, source: string): void {
  NotebookActions.insertBelow(panel.content);
  NotebookActions.changeCellType(panel.content, 'code'); // whatever the user's cells begin as
  panel.content.activeCell?.model.sharedModel.setSource(source);
}

/** The Python name that a template's workflow is bound to. */
function nameOf(template: ITemplate): string {
  const name = template.name
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '_')
    .replace(/^_|_$/g, '');
  return /^[a-z]/.test(name) ? name : 'workflow';
}

async function saved({ context }: { context: DocumentRegistry.Context }): Promise<void> {
  if (context.model.dirty) {
    await context.save();
  }
}
