// A widget of a run as anywidget shows it: its script is the Python package's.

import runView from '../../../modelcompose_jupyter/widgets/run_view.js';

export type Change = [index: number, offset: number, text: string];
export type State = Record<string, unknown>;

const INITIAL: State = {
  language: navigator.language,
  is_chat: false,
  is_markdown: false,
  keep_as: '',
  state: 'idle',
  ended: false,
  progress: {},
  labels: [],
  texts: [],
  thoughts: [],
  calls: [],
  questions: [],
  kept_run: '',
  tokens: [],
  probabilities: false,
  parting: [],
  picture: '',
  steps: {},
  reply: -1,
  outputs: [],
  error: '',
  status: '',
  rates: [],
  is_extendable: false,
  warnings: [],
  snippets: [],
  run_id: '',
  model: {},
  turns: [],
  conversations: [],
  conversation: '',
  cards: [],
  compared: [],
  kept: {}
};

/** A widget's model as anywidget hands it out: state, events, and messages to the kernel. */
export class Model {
  sent: unknown[] = [];
  #state: State;
  #listeners = new Map<string, Set<(argument?: unknown) => void>>();

  constructor(state: State) {
    this.#state = { ...INITIAL, ...state };
  }

  get(name: string): unknown {
    return this.#state[name];
  }

  on(names: string, listener: (argument?: unknown) => void): void {
    for (const name of names.split(' ')) {
      this.#listeners.set(name, (this.#listeners.get(name) ?? new Set()).add(listener));
    }
  }

  off(names: string, listener: (argument?: unknown) => void): void {
    for (const name of names.split(' ')) {
      this.#listeners.get(name)?.delete(listener);
    }
  }

  send(message: unknown): void {
    this.sent.push(message);
  }

  #trigger(name: string, argument?: unknown): void {
    for (const listener of this.#listeners.get(name) ?? []) {
      listener(argument);
    }
  }

  /** State that the kernel sends in one message; what is equal to before is no change. */
  async set(state: State): Promise<void> {
    const changed = Object.keys(state).filter(name => this.#state[name] !== state[name]);
    Object.assign(this.#state, state);
    for (const name of changed) {
      this.#trigger(`change:${name}`);
    }
    await Promise.resolve();
  }

  /** A message of the kernel's. */
  hear(message: unknown): void {
    this.#trigger('msg:custom', message);
  }

  text(...changes: Change[]): void {
    this.hear({ type: 'text', changes });
  }

  get listeners(): number {
    return [...this.#listeners.values()].reduce((sum, each) => sum + each.size, 0);
  }
}

/** A widget with a view in a panel, and a means to show it once more: a run's, if none is given. */
export function opened(state: State = {}, makeWidget = runView) {
  const model = new Model(state);
  const widget = makeWidget();
  widget.initialize({ model });
  const root = document.body.appendChild(document.createElement('div'));
  root.className = 'modelcompose-panel';
  const show = () => {
    const el = root.appendChild(document.createElement('div'));
    return { el, remove: widget.render({ el }) as () => void };
  };
  return { model, root, show, ...show() };
}

export function query<Found extends HTMLElement = HTMLElement>(
  el: Element | Document,
  selector: string
): Found {
  const found = el.querySelector<Found>(selector);
  if (!found) {
    throw new Error(`there is no ${selector}`);
  }
  return found;
}

/** The button that says this, whatever else there is. */
export function button(el: Element, label: string): HTMLButtonElement {
  const all = [...el.querySelectorAll('button')];
  const found = all.find(each => each.textContent === label);
  if (!found) {
    throw new Error(`there is no button ${label} among ${all.map(each => each.textContent)}`);
  }
  return found;
}

/** What the buttons say that can be seen. */
export function labels(el: Element): (string | null)[] {
  const seen = [...el.querySelectorAll('button')].filter(each => !each.closest('[hidden]'));
  return seen.map(each => each.textContent);
}

/** Press a key; tells whether it is taken from the browser. */
export function press(target: Element, init: KeyboardEventInit): boolean {
  const event = new KeyboardEvent('keydown', { bubbles: true, cancelable: true, ...init });
  target.dispatchEvent(event);
  return event.defaultPrevented;
}
