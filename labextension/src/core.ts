import type { IEditorTracker } from '@jupyterlab/fileeditor';
import type { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import type { ServiceManager } from '@jupyterlab/services';
import type { ISettingRegistry } from '@jupyterlab/settingregistry';
import { Token } from '@lumino/coreutils';
import { type ISignal, Signal } from '@lumino/signaling';

import { Kernels } from './kernels';
import { ServerPart } from './server';
import { label } from './words';
import { WorkflowFiles } from './workflow_files';

export const PLUGIN = 'modelcompose-jupyter:plugin';

/** What a user can switch off; the names are those of the settings. */
export type Feature =
  | 'highlighting'
  | 'diagnostics'
  | 'completion'
  | 'explanations'
  | 'running'
  | 'stop'
  | 'status'
  | 'commands';

/** What a new workflow may begin as. */
export interface ITemplate {
  name: string;
  description?: string;
  text: string;
}

/** What all features share: who answers questions, and what the user has switched off. */
export class Core {
  readonly kernels: Kernels;
  readonly server: ServerPart | null;
  readonly files: WorkflowFiles;

  constructor(
    services: ServiceManager.IManager,
    readonly notebooks: INotebookTracker | null,
    readonly editors: IEditorTracker | null
  ) {
    this.kernels = new Kernels(notebooks);
    this.server = ServerPart.get(services.serverSettings);
    this.files = new WorkflowFiles(editors, () => this.has('highlighting'));
  }

  /** Take the user's settings, now and whenever they change. */
  async follow(registry: ISettingRegistry | null): Promise<void> {
    const settings = await registry?.load(PLUGIN);
    if (!settings) {
      return;
    }
    const take = (): void => {
      label(settings.schema);
      this._settings = settings.composite as typeof this._settings;
      this._changed.emit();
    };
    settings.changed.connect(take);
    take();
  }

  /** The settings are others. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  has(feature: Feature): boolean {
    return this._settings[feature] ?? true;
  }

  get templates(): ITemplate[] {
    return this._settings.templates ?? [];
  }

  /** The notebook that was in front last. */
  get notebook(): NotebookPanel | null {
    return this.notebooks?.currentWidget ?? null;
  }

  private _settings: Partial<Record<Feature, boolean>> & { templates?: ITemplate[] } = {};
  private _changed = new Signal<this, void>(this);
}

export const ICore = new Token<Core>('modelcompose-jupyter:ICore');
