// @vitest-environment jsdom
// A conversation as people read it, and what they do with its messages.

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { button, labels, opened, press, query } from './testing/widget';

const FOX = { role: 'user', content: 'A story about a fox' };
const STORY = { role: 'assistant', content: 'Once upon', html: '<p>Once upon</p>' };
const OWL = { role: 'user', content: 'And an owl' };
const ENDED = { is_chat: true, run_id: 'a', ended: true, state: 'completed' };
const GOES = { is_chat: true, run_id: 'b', ended: false, state: 'running', reply: -1 };

const turns = (el: Element) => [...el.querySelectorAll<HTMLElement>('.modelcompose-turn')];
const said = (el: Element) =>
  turns(el).map(each => [each.dataset.role, query(each, '.modelcompose-said').textContent]);
const offered = (turn: Element) => labels(query(turn, '.modelcompose-turn-actions'));

/** A chat with the field for its next message, as the panel has it. */
function chat(state = {}) {
  const widget = opened({ is_chat: true, ...state });
  const composer = widget.root.appendChild(document.createElement('div'));
  composer.className = 'modelcompose-composer';
  const message = composer.appendChild(document.createElement('textarea'));
  return { ...widget, message };
}

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
  document.getSelection()?.removeAllRanges();
  document.body.replaceChildren();
});

describe('a conversation', () => {
  it('has what was said, and by whom', () => {
    const system = { role: 'system', content: 'Be brief' };
    const { el } = chat({ ...ENDED, turns: [system, FOX, STORY] });
    const log = query(el, '.modelcompose-chat');
    expect([log.getAttribute('role'), log.getAttribute('aria-live')]).toEqual(['log', 'off']);
    expect(turns(el).map(each => query(each, 'h4').textContent)).toEqual([
      'Instructions',
      'You',
      'Assistant'
    ]);
    expect(said(el)).toEqual([
      ['system', 'Be brief'],
      ['user', 'A story about a fox'],
      ['assistant', 'Once upon']
    ]);
    expect(query(turns(el)[2], 'p').textContent).toBe('Once upon');
  });

  it('has no markup of people', () => {
    const { el } = chat({ turns: [{ role: 'user', content: '<b>bold</b>' }] });
    expect(said(el)).toEqual([['user', '<b>bold</b>']]);
    expect(el.querySelector('b')).toBeNull();
  });

  it('says how to begin', async () => {
    const { model, el } = chat();
    expect(query(el, '.modelcompose-chat').textContent).toBe('Say something to begin.');
    await model.set({ turns: [FOX] });
    expect(el.querySelector('.modelcompose-chat-empty')).toBeNull();
  });

  it('gives way to another one', async () => {
    const { model, el } = chat({ ...ENDED, turns: [FOX, STORY, OWL] });
    await model.set({ turns: [OWL] });
    expect(said(el)).toEqual([['user', 'And an owl']]);
    await model.set({ turns: [STORY] });
    expect(said(el)).toEqual([['assistant', 'Once upon']]);
    await model.set({ turns: [] });
    expect(turns(el)).toEqual([]);
  });
});

describe('a reply', () => {
  it('grows where it will stay, in nodes that stay', async () => {
    const { model, el } = chat({ ...GOES, turns: [FOX] });
    model.text([0, 0, 'Once']);
    await model.set({ reply: 0 });
    const [, turn] = turns(el);
    const plain = query(turn, '.modelcompose-markdown');
    expect(turn.classList).toContain('modelcompose-growing');
    model.text([0, 4, ' upon']);
    expect(said(el)[1]).toEqual(['assistant', 'Once upon']);
    const node = query(turn, '.modelcompose-markdown-plain').firstChild;
    model.text([0, 9, ' a time']);
    expect(query(turn, '.modelcompose-markdown-plain').firstChild).toBe(node);
    const content = 'Once upon a time';
    await model.set({
      ...ENDED,
      run_id: 'b',
      turns: [FOX, { role: 'assistant', content, html: `<p>${content}</p>` }],
      texts: [content]
    });
    expect(said(el)).toEqual([
      ['user', 'A story about a fox'],
      ['assistant', content]
    ]);
    expect(turns(el)[1]).toBe(turn);
    expect(query(turn, '.modelcompose-markdown')).toBe(plain);
    expect(turn.classList).not.toContain('modelcompose-growing');
  });

  it('is not read below the conversation once more, but several texts are', async () => {
    const { model, el } = chat({ ...GOES, turns: [FOX] });
    model.text([0, 0, 'Once']);
    await model.set({ reply: 0 });
    expect(query(el, '.modelcompose-texts').hidden).toBe(true);
    model.text([1, 0, 'Twice']);
    expect(query(el, '.modelcompose-texts').hidden).toBe(false);
  });

  it('says what it waits for, and for how long', async () => {
    const { model, el } = chat({ ...GOES, turns: [FOX] });
    const waiting = () => query(el, '.modelcompose-thinking');
    expect(waiting().textContent).toBe('Thinking');
    const element = waiting();
    await model.set({ progress: { text: 'Loading the model', elapsed: 0 } });
    vi.advanceTimersByTime(2500);
    expect(waiting()).toBe(element);
    expect(query(element, 'span').textContent).toBe('Loading the model');
    expect(query(element, 'small').textContent).toBe('2.5 s');
    expect(query(el, '.modelcompose-progress').hidden).toBe(true); // it is said once
    model.text([0, 0, 'Once']);
    await model.set({ reply: 0, progress: {} });
    expect(el.querySelector('.modelcompose-thinking')).toBeNull();
    expect(said(el)[1]).toEqual(['assistant', 'Once']);
  });

  it('that failed leaves its message, and waits no more', async () => {
    const { model, el } = chat({ ...GOES, turns: [FOX] });
    await model.set({ state: 'failed', ended: true, error: 'It failed' });
    expect(said(el)).toEqual([['user', 'A story about a fox']]);
    expect(query(el, '.modelcompose-error').textContent).toBe('It failed');
    expect(offered(turns(el)[0])).toEqual(['Copy', 'Edit', 'Try again']);
    button(el, 'Try again').click();
    expect(model.sent).toEqual([{ type: 'regenerate' }]);
  });
});

describe('what can be done with a message', () => {
  it('is to copy and to edit one’s own, and to have the last reply again', () => {
    const { model, el } = chat({ ...ENDED, turns: [FOX, STORY, OWL, STORY] });
    expect(turns(el).map(offered)).toEqual([
      ['Copy', 'Edit'],
      ['Copy'],
      ['Copy', 'Edit'],
      ['Copy', 'Regenerate', 'Edit']
    ]);
    button(turns(el)[3], 'Regenerate').click();
    expect(model.sent).toEqual([{ type: 'regenerate' }]);
  });

  it('is only to copy it while a reply comes', async () => {
    const { model, el } = chat({ ...ENDED, turns: [FOX, STORY] });
    await model.set({ ...GOES, turns: [FOX, STORY, OWL] });
    expect(turns(el).map(offered)).toEqual([['Copy'], ['Copy'], ['Copy'], []]);
    await model.set({ ...ENDED, run_id: 'b', turns: [FOX, STORY, OWL, STORY] });
    expect(offered(turns(el)[3])).toEqual(['Copy', 'Regenerate', 'Edit']);
  });

  it('is to go on where the reply was cut, and only there', async () => {
    const { model, el } = chat({ ...ENDED, turns: [FOX, STORY], is_extendable: true });
    expect(turns(el).map(offered)).toEqual([
      ['Copy', 'Edit'],
      ['Copy', 'Regenerate', 'Edit', 'Continue']
    ]);
    button(el, 'Continue').click();
    expect(model.sent).toEqual([{ type: 'extend' }]);
    await model.set({ is_extendable: false });
    expect(labels(el)).not.toContain('Continue');
  });

  it('keeps the focus while other things change', async () => {
    const { model, el } = chat({ ...ENDED, turns: [FOX, STORY] });
    button(el, 'Regenerate').focus();
    await model.set({ warnings: ['short'], turns: [{ ...FOX }, { ...STORY }] });
    expect(document.activeElement).toBe(button(el, 'Regenerate'));
  });

  it('keeps the focus, and what is selected, when the next one comes', async () => {
    const { model, el } = chat({ ...ENDED, turns: [FOX, STORY] });
    button(turns(el)[1], 'Copy').focus();
    document.getSelection()?.selectAllChildren(query(turns(el)[0], '.modelcompose-said'));
    await model.set({ ...GOES, turns: [FOX, STORY, OWL] });
    expect(turns(el)).toHaveLength(4);
    expect(document.activeElement).toBe(button(turns(el)[1], 'Copy'));
    expect(String(document.getSelection())).toBe(FOX.content);
  });

  it('copies it as it was written', async () => {
    const copied: string[] = [];
    vi.stubGlobal('navigator', {
      clipboard: { writeText: async (text: string) => void copied.push(text) }
    });
    const { el } = chat({ ...ENDED, turns: [FOX, { ...STORY, content: '**Once**' }] });
    button(turns(el)[1], 'Copy').click();
    await vi.advanceTimersByTimeAsync(0);
    expect(copied).toEqual(['**Once**']);
    expect(labels(turns(el)[1])).toContain('Copied');
  });
});

describe('a message that is edited', () => {
  function editing(index = 0) {
    const widget = chat({ ...ENDED, turns: [FOX, STORY, OWL, STORY] });
    const turn = turns(widget.el)[index];
    button(turn, 'Edit').click();
    const field = query<HTMLTextAreaElement>(turn, 'textarea');
    return { ...widget, turn, field };
  }

  it('is written in its place, and sent with Enter', () => {
    const { model, el, turn, field } = editing(2);
    expect(document.activeElement).toBe(field);
    expect([field.value, field.getAttribute('aria-label')]).toEqual([
      'And an owl',
      'Edit the message'
    ]);
    expect(labels(turn)).toEqual(['Send', 'Cancel']);
    field.value = 'And a bear';
    expect(press(field, { key: 'Enter' })).toBe(true);
    expect(model.sent).toEqual([
      { type: 'edit', index: 2, text: 'And a bear', conversation: model.get('conversation') }
    ]);
    expect(turn.querySelector('textarea')).toBeNull();
    expect(document.activeElement).toBe(query(el, '.modelcompose-chat')); // still in the panel
  });

  it('is sent by its button', () => {
    const { model, turn, field } = editing();
    field.value = 'A bear';
    button(turn, 'Send').click();
    expect(model.sent).toEqual([
      { type: 'edit', index: 0, text: 'A bear', conversation: model.get('conversation') }
    ]);
  });

  it.each([
    ['Shift+Enter', { key: 'Enter', shiftKey: true }],
    ['Enter that ends a word of Korean, say', { key: 'Enter', isComposing: true }],
    ['the same in Safari', { key: 'Enter', keyCode: 229 }]
  ])('is not sent by %s', (_, init) => {
    const { model, field } = editing();
    expect(press(field, init)).toBe(false);
    expect([field.isConnected, model.sent]).toEqual([true, []]);
  });

  it('is not sent empty', () => {
    const { model, field } = editing();
    field.value = ' \n';
    press(field, { key: 'Enter' });
    expect([field.isConnected, model.sent]).toEqual([true, []]);
  });

  it.each(['Escape', 'Cancel'])('stays as it was with %s', how => {
    const { model, turn, field } = editing();
    field.value = 'A bear';
    if (how === 'Escape') {
      press(field, { key: 'Escape' });
    } else {
      button(turn, 'Cancel').click();
    }
    expect([field.isConnected, model.sent]).toEqual([false, []]);
    expect(query(turn, '.modelcompose-said').hidden).toBe(false);
    expect(labels(turn)).toEqual(['Copy', 'Edit']);
    expect(document.activeElement).toBe(button(turn, 'Edit')); // where one came from
  });

  it('keeps what is written while other things change, and what can be done after that', async () => {
    const { model, turn, field } = editing();
    field.value = 'A bear';
    await model.set({ warnings: ['short'] });
    expect([field.value, document.activeElement]).toEqual(['A bear', field]);
    press(field, { key: 'Escape' });
    expect(labels(turn)).toEqual(['Copy', 'Edit']);
  });

  it('is left alone where another conversation takes its place', async () => {
    const { model, el, field } = editing();
    await model.set({ turns: [OWL, STORY] });
    expect(field.isConnected).toBe(false);
    expect(query(turns(el)[0], '.modelcompose-said').hidden).toBe(false);
    expect(turns(el).map(offered)).toEqual([
      ['Copy', 'Edit'],
      ['Copy', 'Regenerate', 'Edit']
    ]);
  });
});

describe('keys in a chat', () => {
  it('send the message with Enter, once it is known', () => {
    const { model, message } = chat();
    const order: string[] = [];
    message.addEventListener('change', () => order.push(`typed, ${model.sent.length} sent`));
    expect(press(message, { key: 'Enter' })).toBe(true);
    expect(order).toEqual(['typed, 0 sent']);
    expect(model.sent).toEqual([{ type: 'run' }]);
  });

  it.each([
    ['Shift+Enter', { key: 'Enter', shiftKey: true }],
    ['Enter that ends a word of Korean, say', { key: 'Enter', isComposing: true }],
    ['the same in Safari', { key: 'Enter', keyCode: 229 }],
    ['Escape while nothing goes on', { key: 'Escape' }]
  ])('send nothing with %s', (_, init) => {
    const { model, message } = chat();
    expect(press(message, init)).toBe(false);
    expect(model.sent).toEqual([]);
  });

  it('send nothing with Enter in another field', () => {
    const { model, root } = chat();
    expect(press(root.appendChild(document.createElement('input')), { key: 'Enter' })).toBe(false);
    expect(model.sent).toEqual([]);
  });

  it.each(['queued', 'running'])('stop a reply that is %s with Escape', state => {
    const { model, message } = chat({ ...GOES, state, turns: [FOX] });
    press(message, { key: 'Escape' });
    expect(model.sent).toEqual([{ type: 'stop' }]);
  });
});
