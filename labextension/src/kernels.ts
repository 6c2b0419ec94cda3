import { type INotebookTracker, NotebookActions, type NotebookPanel } from '@jupyterlab/notebook';
import { type Kernel, KernelMessage } from '@jupyterlab/services';
import type { JSONObject, JSONValue } from '@lumino/coreutils';
import type { IDisposable } from '@lumino/disposable';
import { type ISignal, Signal } from '@lumino/signaling';

const COMM_TARGET = 'modelcompose';
const REQUEST = 'modelcompose_request';

/** A model in memory, as kernels and hosts tell of it. */
export interface IModel {
  id: string;
  source: string;
  device: string | null;
  precision: string | null;
  state: 'loading' | 'ready';
  memory_bytes: number | null;
  running: number;
}

/** What goes on in a kernel. */
export interface IStatus {
  runs: { id: string; state: string }[];
  models: IModel[];
  tokens_per_second: number | null;
}

/** What a kernel replies to a question. */
type Reply =
  | { status: 'ok'; answer: JSONValue }
  | { status: 'failed'; message: string; hint: string | null };

/** The kernel's half of this extension, in a kernel that has loaded it. */
export class KernelPart implements IDisposable {
  /**
   * @param comm - the id of the comm by which the kernel tells what changes.
   */
  constructor(
    readonly kernel: Kernel.IKernelConnection,
    private readonly _comm: string
  ) {
    kernel.iopubMessage.connect(this._onMessage, this);
    void this.ask('status').then(
      status => this._become(status as unknown as IStatus),
      () => undefined // the kernel has ended
    );
  }

  get status(): IStatus {
    return this._status;
  }

  /** The status is another one. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  /**
   * The kernel's answer, which comes while a cell blocks, too: the control channel is read by a
   * thread of its own.
   *
   * @throws an Error with the kernel's words where it refuses, or has gone.
   */
  async ask(question: string, data: JSONObject = {}): Promise<JSONValue> {
    const message = KernelMessage.createMessage<KernelMessage.IDebugRequestMsg>({
      channel: 'control',
      msgType: REQUEST as 'debug_request', // Jupyter's types know no messages but its own
      session: this.kernel.clientId,
      username: this.kernel.username,
      content: { question, data } as unknown as KernelMessage.IDebugRequestMsg['content']
    });
    const reply = await this.kernel.sendControlMessage(message, true).done;
    const content = reply?.content as unknown as Reply;
    if (content?.status !== 'ok') {
      throw new Error([content?.message, content?.hint].filter(Boolean).join('\n'));
    }
    return content.answer;
  }

  dispose(): void {
    if (!this._isDisposed) {
      this._isDisposed = true;
      Signal.clearData(this);
    }
  }

  private _onMessage(_: unknown, message: KernelMessage.IIOPubMessage): void {
    if (KernelMessage.isCommMsgMsg(message) && message.content.comm_id === this._comm) {
      this._become(message.content.data as unknown as IStatus);
    }
  }

  private _become(status: IStatus): void {
    this._status = status;
    this._changed.emit();
  }

  private _status: IStatus = { runs: [], models: [], tokens_per_second: null };
  private _changed = new Signal<this, void>(this);
  private _isDisposed = false;
}

/** The kernels of the open notebooks that have their half of this extension. */
export class Kernels {
  constructor(notebooks: INotebookTracker | null) {
    notebooks?.forEach(each => {
      this._watch(each);
    });
    notebooks?.widgetAdded.connect((_, added) => this._watch(added));
    NotebookActions.executed.connect((_, { notebook, cell }) => {
      // It may have loaded our half; asking after every cell of every notebook would be too much.
      const panel = notebooks?.find(each => each.content === notebook);
      if (panel && cell.model.sharedModel.getSource().includes('compose')) {
        void this._look(panel);
      }
    });
  }

  /** A kernel has or lost its half, or the status of one is another one. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** A kernel has or lost its half. */
  get found(): ISignal<this, void> {
    return this._found;
  }

  /** The notebooks whose kernels have their half, with these. */
  get all(): [NotebookPanel, KernelPart][] {
    return [...this._parts].filter(([, part]) => !part.isDisposed);
  }

  /** The half of a notebook's kernel, if it has one. */
  of(panel: NotebookPanel | null | undefined): KernelPart | null {
    return (panel && this._parts.get(panel)) ?? null;
  }

  private _watch(panel: NotebookPanel): void {
    const { sessionContext } = panel;
    const look = (): void => void this._look(panel);
    sessionContext.kernelChanged.connect(() => {
      this._forget(panel);
      look();
    });
    sessionContext.statusChanged.connect((_, status) => {
      if (['restarting', 'autorestarting', 'dead', 'terminating'].includes(status)) {
        this._forget(panel);
      }
    });
    panel.disposed.connect(() => this._forget(panel));
    void sessionContext.ready.then(look);
  }

  /** See whether a notebook's kernel has its half; it is asked by nothing but its comms. */
  private async _look(panel: NotebookPanel): Promise<void> {
    const kernel = panel.sessionContext.session?.kernel;
    if (!kernel || this._parts.has(panel) || kernel.isDisposed) {
      return;
    }
    try {
      const { content } = await kernel.requestCommInfo({ target_name: COMM_TARGET });
      const [comm] = content.status === 'ok' ? Object.keys(content.comms) : [];
      const isStill = panel.sessionContext.session?.kernel === kernel && !panel.isDisposed;
      if (comm && isStill && !this._parts.has(panel)) {
        const part = new KernelPart(kernel, comm);
        part.changed.connect(() => this._changed.emit());
        this._parts.set(panel, part);
        this._found.emit();
        this._changed.emit();
      }
    } catch {
      // the kernel has ended, or started anew, and is looked at again then
    }
  }

  private _forget(panel: NotebookPanel): void {
    const part = this._parts.get(panel);
    if (part) {
      this._parts.delete(panel);
      part.dispose();
      this._found.emit();
      this._changed.emit();
    }
  }

  private _parts = new Map<NotebookPanel, KernelPart>();
  private _found = new Signal<this, void>(this);
  private _changed = new Signal<this, void>(this);
}
