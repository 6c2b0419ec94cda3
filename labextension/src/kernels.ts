import { type INotebookTracker, NotebookActions, type NotebookPanel } from '@jupyterlab/notebook';
import { type Kernel, KernelMessage } from '@jupyterlab/services';
import type { JSONObject, JSONValue } from '@lumino/coreutils';
import { type ISignal, Signal } from '@lumino/signaling';
import { language, trans } from './words';

const COMM_TARGET = 'modelcompose';
const REQUEST = 'modelcompose_request';

/** A model in memory, as kernels and hosts tell of it. */
export interface IModel {
  id: string;
  source: string;
  device: string | null;
  state: 'loading' | 'ready';
  memory_bytes: number | null;
  running: number;
}

/** What goes on in a kernel. */
export interface IStatus {
  runs: { id: string }[];
  models: IModel[];
  tokens_per_second: number | null;
}

/** What a kernel replies to a question. */
type Reply =
  | { status: 'ok'; answer: JSONValue }
  | { status: 'failed'; message: string; hint: string | null };

/** The kernel's half of this extension, in a kernel that has loaded it. */
export class KernelPart {
  /** Ask a kernel that may have its half, and wait for as long as it takes to be answered. */
  static async of(kernel: Kernel.IKernelConnection): Promise<KernelPart> {
    const part = new KernelPart(kernel);
    const { comm, ...status } = (await part.ask('status')) as unknown as IStatus & { comm: string };
    part._comm = comm;
    part._become(status);
    return part;
  }

  private constructor(readonly kernel: Kernel.IKernelConnection) {
    kernel.iopubMessage.connect(this._onMessage, this);
  }

  get status(): IStatus {
    return this._status;
  }

  /** The kernel has unloaded its half; it may have loaded it again. */
  get ended(): ISignal<this, void> {
    return this._ended;
  }

  /** The status is another one. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /**
   * The kernel's answer.
   *
   * @throws an Error with the kernel's words where it refuses, or has gone.
   */
  async ask(question: string, data: JSONObject = {}): Promise<JSONValue> {
    const reply = (await onControl(this.kernel, REQUEST, {
      question,
      data: { language: language(), ...data }
    })) as Partial<Reply>;
    if (reply.status === 'ok') {
      return reply.answer ?? null;
    }
    const { message, hint } = {
      message: trans.__('The kernel does not answer.'),
      hint: null,
      ...reply
    };
    throw new Error([message, hint].filter(Boolean).join('\n'));
  }

  dispose(): void {
    Signal.clearData(this);
  }

  private _onMessage(_: unknown, message: KernelMessage.IIOPubMessage): void {
    if (KernelMessage.isCommMsgMsg(message) && message.content.comm_id === this._comm) {
      const { ended, ...status } = message.content.data as unknown as IStatus & { ended?: true };
      if (ended) {
        this._ended.emit();
      } else {
        this._become(status);
      }
    }
  }

  private _become(status: IStatus): void {
    this._status = status;
    this._changed.emit();
  }

  private _comm = '';
  private _status: IStatus = { runs: [], models: [], tokens_per_second: null };
  private _changed = new Signal<this, void>(this);
  private _ended = new Signal<this, void>(this);
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
        void this.look(panel);
      }
    });
  }

  /** A kernel has or lost its half, or the status of one is another one. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** A kernel has or lost its half. */
  get halvesChanged(): ISignal<this, void> {
    return this._halvesChanged;
  }

  /** The notebooks whose kernels have their half, with these. */
  get all(): [NotebookPanel, KernelPart][] {
    return [...this._parts];
  }

  /** The half of a notebook's kernel, if it has one. */
  of(panel: NotebookPanel | null | undefined): KernelPart | null {
    return (panel && this._parts.get(panel)) ?? null;
  }

  /** See whether a notebook's kernel has its half. */
  async look(panel: NotebookPanel): Promise<void> {
    const kernel = panel.sessionContext.session?.kernel;
    if (!kernel || this._parts.has(panel)) {
      return;
    }
    try {
      const part = (await hasHalf(kernel)) ? await KernelPart.of(kernel) : null;
      const isStill = panel.sessionContext.session?.kernel === kernel && !panel.isDisposed;
      if (!part || !isStill || this._parts.has(panel)) {
        part?.dispose();
        return;
      }
      part.changed.connect(() => this._changed.emit());
      part.ended.connect(() => {
        this._forget(panel);
        void this.look(panel);
      });
      this._parts.set(panel, part);
      this._halvesChanged.emit();
      this._changed.emit();
    } catch {
      // the kernel has ended, or started anew, and is looked at again then
    }
  }

  private _watch(panel: NotebookPanel): void {
    const { sessionContext } = panel;
    let isNew = true; // since nobody has looked at it
    const begin = (): void => {
      this._forget(panel);
      isNew = true;
    };
    // Connected on behalf of the panel, with which the connections end.
    sessionContext.kernelChanged.connect(() => {
      begin();
      void this.look(panel);
    }, panel);
    sessionContext.connectionStatusChanged.connect((_, status) => {
      if (status === 'connected') {
        begin(); // what was told meanwhile is lost
        void this.look(panel);
      }
    }, panel);
    sessionContext.statusChanged.connect((_, status) => {
      if (['restarting', 'autorestarting', 'dead', 'terminating'].includes(status)) {
        begin();
      } else if (status === 'idle' && isNew) {
        isNew = false; // a kernel may load our half by itself when it starts
        void this.look(panel);
      }
    }, panel);
    panel.disposed.connect(() => this._forget(panel));
    void sessionContext.ready.then(() => this.look(panel));
  }

  private _forget(panel: NotebookPanel): void {
    const part = this._parts.get(panel);
    if (part) {
      this._parts.delete(panel);
      part.dispose();
      this._halvesChanged.emit();
      this._changed.emit();
    }
  }

  private _parts = new Map<NotebookPanel, KernelPart>();
  private _halvesChanged = new Signal<this, void>(this);
  private _changed = new Signal<this, void>(this);
}

/** Whether a kernel has its half, as its comms tell: one that has not is asked nothing else. */
async function hasHalf(kernel: Kernel.IKernelConnection): Promise<boolean> {
  if ((await kernel.spec)?.language !== 'python') {
    return false;
  }
  const { comms } = (await onControl(kernel, 'comm_info_request', {
    target_name: COMM_TARGET
  })) as {
    comms?: object;
  };
  return Object.keys(comms ?? {}).length > 0;
}

/**
 * What a kernel replies on its control channel, which a thread of its own reads: so it replies while
 * a cell blocks, too.
 */
async function onControl(
  kernel: Kernel.IKernelConnection,
  type: string,
  content: JSONObject
): Promise<JSONObject> {
  const message = KernelMessage.createMessage<KernelMessage.IDebugRequestMsg>({
    channel: 'control',
    msgType: type as 'debug_request', // Jupyter's types know few messages of this channel
    session: kernel.clientId,
    username: kernel.username,
    content: content as unknown as KernelMessage.IDebugRequestMsg['content']
  });
  const reply = await kernel.sendControlMessage(message, true).done;
  return (reply?.content ?? {}) as unknown as JSONObject;
}
