import type { JupyterFrontEnd } from '@jupyterlab/application';
import { Notification } from '@jupyterlab/apputils';
import type { NotebookPanel } from '@jupyterlab/notebook';
import type { IRunningSessions } from '@jupyterlab/running';
import { closeIcon, type LabIcon, notebookIcon, SidePanel } from '@jupyterlab/ui-components';
import { Poll } from '@lumino/polling';
import { type ISignal, Signal } from '@lumino/signaling';

import type { Core } from './core';
import { formatBytes, modelSummary } from './format';
import { modelIcon, workflowIcon } from './icons';
import type { IModel, KernelPart } from './kernels';
import type { IHost, ServerPart } from './server';
import { trans } from './words';

const POLL_SECONDS = 10;

/** Something to be listed: a host, or a model with the host that it is in. */
interface IItem extends IRunningSessions.IRunningItem {
  end: string; // what its button does, in words
  unload?: () => Promise<unknown>;
}

const PANEL = 'jp-running-sessions';
const AHEAD = 1; // of the panel's sections: that of what is open

/**
 * Move the models up in the Running panel, which has its sections in the order in which extensions
 * come: what takes memory is looked for above kernels and terminals.
 */
export function raiseSection(shell: JupyterFrontEnd.IShell): void {
  const found = [...shell.widgets('left'), ...shell.widgets('right')];
  const panel = found.find(each => each.id === PANEL);
  if (panel instanceof SidePanel) {
    const section = panel.widgets.find(each => each.title.label === trans.__('Models'));
    if (section && panel.widgets.indexOf(section) > AHEAD) {
      panel.insertWidget(AHEAD, section as Parameters<SidePanel['insertWidget']>[1]);
    }
  }
}

/** Models in memory, by host: kernels of open notebooks, and hosts that the Jupyter server sees. */
export class Models implements IRunningSessions.IManager {
  readonly name = trans.__('Models');
  readonly shutdownAllLabel = trans.__('Unload All');
  readonly shutdownAllConfirmationText = trans.__(
    'Do you want to unload all models that no run uses?'
  );
  readonly shutdownItemIcon = closeIcon;

  constructor(
    private readonly _core: Core,
    private readonly _open: (path: string) => void
  ) {
    _core.kernels.changed.connect(() => this._changed.emit());
    _core.changed.connect(() => this._changed.emit());
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

  /** Each host, and below it its models. */
  running(): IItem[] {
    if (!this._core.has('running')) {
      return [];
    }
    const kernels = new Map(this._core.kernels.all.map(each => [each[1].kernel.id, each]));
    const served = this._hosts.filter(([host]) => !host.kernel_id || !kernels.has(host.kernel_id));
    return [
      ...[...kernels.values()].flatMap(([panel, part]) => this._ofNotebook(panel, part)),
      ...served.flatMap(([host, models]) => this._ofHost(host, models))
    ];
  }

  /** Unload all models but those that runs use. */
  shutdownAll(): void {
    for (const { unload } of this.running()) {
      void unload?.().then(
        () => this.refreshRunning(),
        () => undefined // a run uses it
      );
    }
  }

  private _ofNotebook(panel: NotebookPanel, part: KernelPart): IItem[] {
    const { name, path } = panel.sessionContext;
    const { models } = part.status;
    const serving = this._hosts.find(([host]) => host.kernel_id === part.kernel.id)?.[0];
    if (!serving && !models.length) {
      return [];
    }
    const item = {
      ...this._host(name, notebookIcon, models),
      open: () => this._open(path),
      labelTitle: () => path,
      ...(serving && this._end(trans.__('Stop Serving'), serving))
    };
    return [
      item,
      ...models.map(each => this._model(each, () => part.ask('unload', { model: each.id })))
    ];
  }

  private _ofHost(host: IHost, models: IModel[]): IItem[] {
    const { document } = host;
    const item = {
      ...this._host(host.title, workflowIcon, models),
      ...(document && { open: () => this._open(document) }),
      ...(host.state !== 'ready' && { detail: () => stateWord(host.state) }),
      labelTitle: () => document ?? host.title,
      ...this._end(trans.__('Shut Down'), host)
    };
    const unload = (model: IModel) => async () => this._core.server?.unload(host.id, model.id);
    return [item, ...models.map(each => this._model(each, unload(each)))];
  }

  private _host(label: string, icon: LabIcon, models: IModel[]): IItem {
    const total = models.reduce((sum, each) => sum + (each.memory_bytes ?? 0), 0);
    return {
      end: '',
      className: 'modelcompose-host',
      icon: () => icon,
      label: () => label,
      detail: () => (total ? formatBytes(total) : '')
    };
  }

  private _model(model: IModel, unload: () => Promise<unknown>): IItem {
    return {
      end: trans.__('Unload'),
      className: 'modelcompose-model',
      icon: () => modelIcon,
      label: () => model.id,
      labelTitle: () => `${model.source}: ${modelSummary(model)}`,
      detail: () => modelSummary(model),
      unload,
      shutdown: () => void this._do(unload())
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

function stateWord(state: IHost['state']): string {
  return state === 'ending' ? trans.__('ending') : trans.__('unreachable');
}
