import { Notification } from '@jupyterlab/apputils';
import type { IDocumentWidget } from '@jupyterlab/docregistry';
import type { FileEditor } from '@jupyterlab/fileeditor';
import type { NotebookPanel } from '@jupyterlab/notebook';
import { stopIcon, ToolbarButton, type ToolbarButtonComponent } from '@jupyterlab/ui-components';
import { type ISignal, Signal } from '@lumino/signaling';
import { Widget } from '@lumino/widgets';

import type { Core } from './core';
import { formatBytes, modelSummary } from './format';
import { workflowIcon } from './icons';
import type { IStatus } from './kernels';
import { trans } from './words';

/** Stop a notebook's runs, also while a cell blocks. */
export async function stop(core: Core, panel: NotebookPanel | null): Promise<void> {
  try {
    await core.kernels.of(panel)?.ask('stop');
  } catch (error) {
    Notification.error((error as Error).message, { autoClose: 10000 });
  }
}

/** Whether a notebook has runs that go on. */
export function isRunning(core: Core, panel: NotebookPanel | null): boolean {
  return Boolean(core.kernels.of(panel)?.status.runs.length);
}

/** A button with an icon and a word. `update` says how it is, now and when something changes. */
class FeatureButton extends ToolbarButton {
  constructor(
    core: Core,
    options: ToolbarButtonComponent.IProps,
    update: (button: FeatureButton) => void,
    ...signals: ISignal<unknown, unknown>[]
  ) {
    super(options);
    this.addClass('modelcompose-button');
    const show = (): void => update(this);
    for (const signal of [core.kernels.changed, core.changed, ...signals]) {
      signal.connect(show, this);
    }
    show();
  }

  override dispose(): void {
    Signal.clearData(this);
    super.dispose();
  }
}

/** Stop in a notebook's toolbar; only there where the notebook's kernel can be asked. */
export function stopButton(core: Core, panel: NotebookPanel): ToolbarButton {
  const options = {
    icon: stopIcon,
    label: trans.__('Stop runs'),
    tooltip: trans.__('Stop the runs of this notebook within a token; their texts stay'),
    onClick: () => void stop(core, panel)
  };
  const button = new FeatureButton(core, options, button => {
    button.setHidden(!core.has('stop') || !core.kernels.of(panel));
    button.enabled = isRunning(core, panel);
  });
  button.addClass('modelcompose-stop');
  return button;
}

/** Preview in an editor's toolbar; only there where the editor's file has a workflow. */
export function previewButton(
  core: Core,
  editor: IDocumentWidget<FileEditor>,
  onClick: () => void
): ToolbarButton {
  const options = {
    icon: workflowIcon,
    label: trans.__('Preview'),
    tooltip: trans.__('Show form and diagram'),
    onClick
  };
  const update = (button: FeatureButton): void =>
    button.setHidden(!core.server || !core.has('commands') || !core.files.has(editor));
  return new FeatureButton(core, options, update, core.files.changed);
}

/** The models of the notebook in front, their memory, and how fast they generate. */
export class StatusItem extends Widget {
  constructor(
    private readonly _core: Core,
    onClick: () => void
  ) {
    super({ node: document.createElement('button') });
    this.addClass('modelcompose-status');
    this.node.addEventListener('click', onClick);
    const update = (): void => this._show(_core.kernels.of(_core.notebook)?.status);
    _core.kernels.changed.connect(update);
    _core.changed.connect(update);
    _core.notebooks?.currentChanged.connect(update);
    update();
  }

  /** Whether there is something to say. */
  isActive = (): boolean => this._core.has('status') && this.node.textContent !== '';

  get activeStateChanged(): ISignal<this, void> {
    return this._changed;
  }

  private _show(status?: IStatus): void {
    const { models = [], runs = [], tokens_per_second: rate = null } = status ?? {};
    const total = models.reduce((sum, each) => sum + (each.memory_bytes ?? 0), 0);
    const names = models.length > 1 ? trans.__('%1 models', models.length) : (models[0]?.id ?? '');
    const loading = models.some(each => each.state === 'loading');
    const speed = runs.length && rate !== null ? trans.__('%1 tokens/s', rate.toFixed(1)) : '';
    const parts = [names, total ? formatBytes(total) : '', loading ? trans.__('loading') : speed];
    this.node.textContent = parts.filter(Boolean).join(' · ');
    this.node.title = models.map(each => `${each.source}: ${modelSummary(each)}`).join('\n');
    this._changed.emit();
  }

  private _changed = new Signal<this, void>(this);
}
