import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette, IThemeManager, IToolbarWidgetRegistry } from '@jupyterlab/apputils';
import { IEditorExtensionRegistry, IEditorLanguageRegistry } from '@jupyterlab/codemirror';
import { ICompletionProviderManager } from '@jupyterlab/completer';
import type { IDocumentWidget } from '@jupyterlab/docregistry';
import { IDefaultFileBrowser } from '@jupyterlab/filebrowser';
import { type FileEditor, IEditorTracker } from '@jupyterlab/fileeditor';
import { ILauncher } from '@jupyterlab/launcher';
import { IMainMenu } from '@jupyterlab/mainmenu';
import { INotebookTracker, type NotebookPanel } from '@jupyterlab/notebook';
import { IRunningSessionManagers } from '@jupyterlab/running';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { IStatusBar } from '@jupyterlab/statusbar';
import { ITranslator } from '@jupyterlab/translation';

import type { IDisposable } from '@lumino/disposable';
import { Commands, commands, EXPLAIN } from './commands';
import { WorkflowCompleter } from './completion';
import { Core, ICore, PLUGIN } from './core';
import { registerEditorExtensions } from './editor_extensions';
import { explainAtCursor } from './explanations';
import { Models, raiseSection } from './running_panel';
import { previewButton, StatusItem, stopButton } from './status';
import { speak, trans } from './words';

// Of JupyterLab everything is optional: an application that lacks a part lacks what stands in it.

const core: JupyterFrontEndPlugin<Core> = {
  id: PLUGIN,
  description: 'Who answers questions about workflows, and what the user has switched off.',
  autoStart: true,
  provides: ICore,
  optional: [INotebookTracker, IEditorTracker, ISettingRegistry, ITranslator],
  activate: async (
    app: JupyterFrontEnd,
    notebooks: INotebookTracker | null,
    editors: IEditorTracker | null,
    settings: ISettingRegistry | null,
    translator: ITranslator | null
  ) => {
    speak(translator); // before anything else says something
    const core = new Core(app.serviceManager, notebooks, editors);
    await core.follow(settings).catch(() => undefined); // without its schema everything is on
    return core;
  }
};

const editing: JupyterFrontEndPlugin<void> = {
  id: 'modelcompose-jupyter:editing',
  description: 'Cells and files of workflows are YAML, marked where they are wrong, and explained.',
  autoStart: true,
  requires: [ICore],
  optional: [IEditorExtensionRegistry, IEditorLanguageRegistry, ICompletionProviderManager],
  activate: (
    app: JupyterFrontEnd,
    core: Core,
    extensions: IEditorExtensionRegistry | null,
    languages: IEditorLanguageRegistry | null,
    completer: ICompletionProviderManager | null
  ) => {
    if (extensions && languages) {
      registerEditorExtensions(core, extensions, languages, completer);
      app.commands.addCommand(EXPLAIN, {
        label: trans.__('Explain What Stands at the Cursor'),
        isVisible: () => core.has('explanations'),
        isEnabled: () => core.has('explanations'),
        describedBy: { args: { type: 'object', properties: {} } },
        execute: () => explainAtCursor()
      });
    }
  }
};

const completion: JupyterFrontEndPlugin<void> = {
  id: 'modelcompose-jupyter:completion',
  description: 'Completion in cells and files of workflows.',
  autoStart: true,
  requires: [ICore],
  optional: [ICompletionProviderManager],
  activate: (_: JupyterFrontEnd, core: Core, providers: ICompletionProviderManager | null) => {
    providers?.registerProvider(new WorkflowCompleter(core, providers));
  }
};

const running: JupyterFrontEndPlugin<void> = {
  id: 'modelcompose-jupyter:running',
  description: 'Models in the Running panel.',
  autoStart: true,
  requires: [ICore],
  optional: [IRunningSessionManagers],
  activate: (app: JupyterFrontEnd, core: Core, managers: IRunningSessionManagers | null) => {
    if (managers) {
      const open = (path: string): void => void app.commands.execute('docmanager:open', { path });
      managers.add(new Models(core, open));
      void app.restored.then(() => raiseSection(app.shell));
    }
  }
};

const status: JupyterFrontEndPlugin<void> = {
  id: 'modelcompose-jupyter:status',
  description: 'Stop in the toolbar of notebooks; models, memory and speed in the status bar.',
  autoStart: true,
  requires: [ICore],
  optional: [IToolbarWidgetRegistry, IStatusBar],
  activate: (
    app: JupyterFrontEnd,
    core: Core,
    toolbars: IToolbarWidgetRegistry | null,
    bar: IStatusBar | null
  ) => {
    toolbars?.addFactory<NotebookPanel>('Notebook', 'modelcompose-stop', panel =>
      stopButton(core, panel)
    );
    if (bar) {
      const item = new StatusItem(core, () => void app.commands.execute('running:show-panel'));
      const { isActive, activeStateChanged } = item;
      bar.registerStatusItem('modelcompose-status', {
        item,
        align: 'left',
        rank: 4,
        isActive,
        activeStateChanged
      });
    }
  }
};

const actions: JupyterFrontEndPlugin<void> = {
  id: 'modelcompose-jupyter:commands',
  description: 'Commands about workflows, in the palette, the launcher and the menus.',
  autoStart: true,
  requires: [ICore],
  optional: [
    ICommandPalette,
    ILauncher,
    IMainMenu,
    IThemeManager,
    IDefaultFileBrowser,
    IToolbarWidgetRegistry
  ],
  activate: (
    app: JupyterFrontEnd,
    core: Core,
    palette: ICommandPalette | null,
    launcher: ILauncher | null,
    menu: IMainMenu | null,
    themes: IThemeManager | null,
    browser: IDefaultFileBrowser | null,
    toolbars: IToolbarWidgetRegistry | null
  ) => {
    new Commands(app, core, themes, () => browser?.model.path ?? '');
    for (const command of Object.values(commands)) {
      palette?.addItem({ command, category: 'Model Compose', args: { isPalette: true } });
    }
    let card: IDisposable | undefined;
    const offer = (): void => {
      card?.dispose();
      card = core.has('commands')
        ? launcher?.add({ command: commands.new, category: 'model-compose', categoryRank: 50 })
        : undefined;
    };
    core.changed.connect(offer);
    offer();
    menu?.fileMenu.newMenu.addItem({ command: commands.new, rank: 40 });
    toolbars?.addFactory<IDocumentWidget<FileEditor>>('Editor', 'modelcompose-preview', editor =>
      previewButton(core, editor, () => void app.commands.execute(commands.preview))
    );
    core.kernels.changed.connect(() => app.commands.notifyCommandChanged(commands.stop));
  }
};

const plugins: JupyterFrontEndPlugin<unknown>[] = [
  core,
  editing,
  completion,
  running,
  status,
  actions
];

export default plugins;
