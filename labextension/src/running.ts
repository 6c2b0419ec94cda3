import { Notification } from '@jupyterlab/apputils';
import type { NotebookPanel } from '@jupyterlab/notebook';
import type { IRunningSessions } from '@jupyterlab/running';
import { closeIcon, type LabIcon, notebookIcon } from '@jupyterlab/ui-components';
import { Poll } from '@lumino/polling';
import { type ISignal, Signal } from '@lumino/signaling';

import type { Core } from './core';
import { workflowIcon } from './icons';
import type { IModel, KernelPart } from './kernels';
import type { IHost, ServerPart } from './server';
import { facts, size } from './units';

const POLL_SECONDS = 10;

/** Something to be listed: a host, or a model with the host that it is in. */
interface IItem extends IRunningSessions.IRunningItem {
  end: string; // what its button does, in words
}

/** Models in memory, by host: kernels of open notebooks, and hosts that the Jupyter server sees. */
export class Models implements IRunningSessions.IManager {
  readonly name = 'Models';
  readonly supportsMultipleViews = true;
  readonly shutdownAllLabel = 'Unload All';
  readonly shutdownAllConfirmationText =
    'Are you sure you want to unload all models that no run uses?';
  readonly shutdownItemIcon = closeIcon;

  constructor(
    private readonly _core: Core,
    private readonly _open: (path: string) => void
  ) {
    _core.kernels.changed.connect(() => this._changed.emit());
    const { server } = _core;
    if (server) {
      this._poll = new Poll({
        name: 'modelcompose:hosts',
        factory: () => this._look(server),
        frequency: { interval: POLL_SECONDS * 1000, backoff: true },
        standby: () => !_core.has('running') || document.hidden
      });
    }
  }

  get runningChanged(): ISignal<this, void> {
    return this._changed;
  }

  refreshRunning(): void {
    void this._poll?.refresh();
  }

  shutdownLabel = (item: IRunningSessions.IRunningItem): string => (item as IItem).end;

  running({ mode }: { mode: 'tree' | 'list' }): IRunningSessions.IRunningItem[] {
    if (!this._core.has('running')) {
      return [];
    }
    const here = this._core.kernels.all.map(([panel, part]) => this._ofNotebook(panel, part));
    const ids = this._core.kernels.all.map(([, part]) => part.kernel.id);
    const served = this._hosts
      .filter(([host]) => !host.kernel_id || !ids.includes(host.kernel_id))
      .map(([host, models]) => this._ofHost(host, models));
    const items = [...here.filter(each => each.children?.length), ...served];
    return mode === 'tree' ? items : items.flatMap(each => each.children ?? []);
  }

  /** Unload what no run uses; what one uses stays, and that is no error here. */
  shutdownAll(): void {
    for (const item of this.running({ mode: 'list' })) {
      item.shutdown?.();
    }
  }

  private _ofNotebook(panel: NotebookPanel, part: KernelPart): IItem {
    const { name, path } = panel.sessionContext;
    const unload = (model: IModel): Promise<unknown> => part.ask('unload', { model: model.id });
    const serving = this._hosts.find(([host]) => host.kernel_id === part.kernel.id)?.[0];
    return {
      ...this._host(name, notebookIcon, part.status.models, unload),
      open: () => this._open(path),
      labelTitle: () => path,
      ...(serving && this._end('Stop Serving', serving))
    };
  }

  private _ofHost(host: IHost, models: IModel[]): IItem {
    const unload = async (model: IModel): Promise<unknown> =>
      this._core.server?.unload(host.id, model.id);
    const { document } = host;
    return {
      ...this._host(host.title, workflowIcon, models, unload),
      ...(document && { open: () => this._open(document) }),
      ...(host.state !== 'ready' && { detail: () => host.state }),
      labelTitle: () => document ?? host.title,
      ...this._end('Shut Down', host)
    };
  }

  private _host(
    label: string,
    icon: LabIcon,
    models: IModel[],
    unload: (model: IModel) => Promise<unknown>
  ): IItem {
    const total = models.reduce((sum, each) => sum + (each.memory_bytes ?? 0), 0);
    return {
      end: '',
      className: 'modelcompose-host',
      icon: () => icon,
      label: () => label,
      detail: () => (total ? size(total) : ''),
      children: models.map(
        (model): IItem => ({
          end: 'Unload',
          className: 'modelcompose-model',
          icon: () => workflowIcon,
          label: () => model.id,
          labelTitle: () => `${model.source} in ${label}: ${facts(model)}`,
          detail: () => facts(model),
          shutdown: () => void this._do(unload(model))
        })
      )
    };
  }

  private _end(end: string, host: IHost): Pick<IItem, 'end' | 'shutdown'> {
    return { end, shutdown: () => void this._do(this._core.server?.end(host.id)) };
  }

  private async _do(action?: Promise<unknown>): Promise<void> {
    try {
      await action;
    } catch (error) {
      Notification.error((error as Error).message, { autoClose: 10000 });
    }
    this.refreshRunning();
  }

  private async _look(server: ServerPart): Promise<void> {
    const hosts = await server.hosts();
    if (JSON.stringify(hosts) !== JSON.stringify(this._hosts)) {
      this._hosts = hosts;
      this._changed.emit();
    }
  }

  private _hosts: [IHost, IModel[]][] = [];
  private _poll: Poll | null = null;
  private _changed = new Signal<this, void>(this);
}
