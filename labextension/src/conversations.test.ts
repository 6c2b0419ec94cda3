// @vitest-environment jsdom
// Conversations by their names, and how a page's browser keeps them.

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { button, labels, opened, press, query } from './testing/widget';

const CHAT = {
  is_chat: true,
  conversations: [
    { id: 'b', name: 'An owl' },
    { id: 'a', name: 'A fox' }
  ],
  conversation: 'b'
};
const choice = (el: Element) => query<HTMLSelectElement>(el, 'select[aria-label="Conversation"]');
const KEY = 'modelcompose:story';
const KEPT = { current: 'a', conversations: [{ id: 'a', name: '', turns: [] }] };

beforeEach(() => {
  vi.useFakeTimers();
  localStorage.clear();
});

afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
  document.body.replaceChildren();
});

describe('conversations', () => {
  it('are chosen by their names, begun, and forgotten', () => {
    const { model, el } = opened(CHAT);
    expect([...choice(el).options].map(each => each.text)).toEqual(['An owl', 'A fox']);
    expect(choice(el).value).toBe('b');
    choice(el).value = 'a';
    choice(el).dispatchEvent(new Event('change'));
    button(el, 'New').click();
    button(el, 'Delete').click();
    expect(model.sent).toEqual([
      { type: 'conversation', id: 'a' },
      { type: 'new' },
      { type: 'remove', id: 'a' }
    ]);
  });

  it('follow the kernel', async () => {
    const { model, el } = opened(CHAT);
    await model.set({ conversation: 'a' });
    expect(choice(el).value).toBe('a');
    await model.set({ conversations: [], conversation: '' });
    expect(labels(query(el, '.modelcompose-conversations'))).toEqual(['New']);
  });

  it('stay as they are while other things change, so that a list that is open stays open', async () => {
    const { model, el } = opened(CHAT);
    const [option] = choice(el).options;
    await model.set({ progress: { text: 'Thinking' }, state: 'running' });
    expect(option.isConnected).toBe(true);
  });

  it('are not there where the workflow is no chat', () => {
    const { el } = opened({ ...CHAT, is_chat: false });
    expect(el.querySelector('.modelcompose-conversations')).toBeNull();
  });
});

describe('a name', () => {
  function renaming(name: string) {
    const widget = opened(CHAT);
    button(widget.el, 'Rename').click();
    const field = query<HTMLInputElement>(widget.el, '.modelcompose-conversations input');
    expect(document.activeElement).toBe(field);
    expect(field.value).toBe('An owl');
    field.value = name;
    return { ...widget, field };
  }

  it('is taken with Enter, once', () => {
    const { model, el, field } = renaming(' The owl ');
    expect(press(field, { key: 'Enter' })).toBe(true);
    expect(model.sent).toEqual([{ type: 'rename', id: 'b', name: 'The owl' }]);
    expect(choice(el).isConnected).toBe(true);
    expect(document.activeElement).toBe(button(el, 'Rename'));
  });

  it('stays as it was with Escape, or where none is given', () => {
    const { model, el, field } = renaming('The owl');
    press(field, { key: 'Escape' });
    expect(document.activeElement).toBe(button(el, 'Rename'));
    button(el, 'Rename').click();
    const again = query<HTMLInputElement>(el, '.modelcompose-conversations input');
    again.value = '  ';
    press(again, { key: 'Enter' });
    expect(model.sent).toEqual([]);
  });

  it('is taken when its field is left, and the focus goes where it was to go', () => {
    const { model, root, field } = renaming('The owl');
    const message = root.appendChild(document.createElement('textarea'));
    message.focus();
    expect(model.sent).toEqual([{ type: 'rename', id: 'b', name: 'The owl' }]);
    expect(field.isConnected).toBe(false);
    expect(document.activeElement).toBe(message);
  });

  it('is not taken by Enter that ends a word of Korean, say', () => {
    const { model, field } = renaming('부엉이');
    press(field, { key: 'Enter', isComposing: true });
    expect([field.isConnected, model.sent]).toEqual([true, []]);
  });
});

describe("a page's browser", () => {
  it('keeps conversations as they change, and brings them back', async () => {
    const first = opened({ ...CHAT, keep_as: 'story' });
    expect(first.model.sent).toEqual([]);
    await first.model.set({ kept: KEPT });
    expect(JSON.parse(localStorage.getItem(KEY) ?? '')).toEqual(KEPT);
    const second = opened({ ...CHAT, keep_as: 'story' });
    expect(second.model.sent).toEqual([{ type: 'restore', kept: KEPT }]);
    second.show();
    expect(second.model.sent).toHaveLength(1); // whatever is in view
  });

  it('keeps what another tab of the page has, but for what this one has forgotten', async () => {
    const of = (...ids: string[]) => ({
      current: ids[0],
      conversations: ids.map(id => ({ id, name: '', turns: [] }))
    });
    const kept = () =>
      JSON.parse(localStorage.getItem(KEY) ?? '').conversations.map(
        (each: { id: string }) => each.id
      );
    const first = opened({ ...CHAT, keep_as: 'story' });
    const second = opened({ ...CHAT, keep_as: 'story' });
    await first.model.set({ kept: of('a') });
    await second.model.set({ kept: of('b') });
    expect(kept()).toEqual(['a', 'b']);
    await first.model.set({ kept: of('a', 'c') });
    expect(kept()).toEqual(['b', 'a', 'c']);
    await first.model.set({ kept: of('c') });
    expect(kept()).toEqual(['b', 'c']);
  });

  it('forgets what another tab has forgotten, but for what is in view', () => {
    const ids = ['a', 'b'].map(id => ({ id, name: '', turns: [] }));
    localStorage.setItem(KEY, JSON.stringify({ current: 'b', conversations: ids }));
    const { model } = opened({ ...CHAT, keep_as: 'story' });
    localStorage.setItem(KEY, JSON.stringify({ current: 'x', conversations: [] }));
    window.dispatchEvent(new StorageEvent('storage', { key: KEY }));
    expect(model.sent.slice(1)).toEqual([{ type: 'remove', id: 'a' }]);
  });

  it('brings back what was forgotten last, where there is something', async () => {
    const { model, el } = opened(CHAT);
    expect(labels(el)).not.toContain('Undo');
    await model.set({ undoable: true });
    button(el, 'Undo').click();
    expect(model.sent).toEqual([{ type: 'undo' }]);
  });

  it('keeps nothing of a notebook', async () => {
    localStorage.setItem(KEY, JSON.stringify(KEPT));
    const { model } = opened(CHAT);
    await model.set({ kept: KEPT });
    expect([model.sent, localStorage.length]).toEqual([[], 1]);
  });

  it('has another workflow for itself', () => {
    localStorage.setItem(KEY, JSON.stringify(KEPT));
    expect(opened({ ...CHAT, keep_as: 'letter' }).model.sent).toEqual([]);
  });

  it('may keep what cannot be read, or keep nothing at all', async () => {
    localStorage.setItem(KEY, '{"current": ');
    expect(opened({ ...CHAT, keep_as: 'story' }).model.sent).toEqual([]);
    vi.spyOn(Storage.prototype, 'getItem').mockImplementation(() => {
      throw new DOMException('denied', 'SecurityError');
    });
    vi.spyOn(Storage.prototype, 'setItem').mockImplementation(() => {
      throw new DOMException('full', 'QuotaExceededError');
    });
    const { model, el } = opened({ ...CHAT, keep_as: 'story' });
    await model.set({ kept: KEPT, turns: [{ role: 'user', content: 'A fox' }] });
    expect(model.sent).toEqual([]);
    expect(query(el, '.modelcompose-said').textContent).toBe('A fox');
  });
});
