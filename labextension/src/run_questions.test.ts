// @vitest-environment jsdom
// What a run asks, as the widget of a run shows it: its script is the Python package's.

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { button, labels, type Model, opened, press, query } from './testing/widget';

const QUESTION = {
  id: 'write.after',
  job: 'write',
  message: 'Good **enough**?',
  html: '<p>Good <strong>enough</strong>?</p>',
  metadata: [
    ['by', 'model'],
    ['tries', '1']
  ],
  text: 'Once',
  json: false,
  choices: [] as string[],
  until: 0
};
const ASKS = { run_id: 'a', state: 'interrupted' };
const asked = (...more: object[]) => ({
  ...ASKS,
  questions: more.map(each => ({ ...QUESTION, ...each }))
});
const forms = (el: Element) => [...el.querySelectorAll<HTMLFormElement>('.modelcompose-question')];
const field = (el: Element) => query<HTMLTextAreaElement>(el, '.modelcompose-question textarea');
const answers = (model: Model) => model.sent as Record<string, unknown>[];

function enter(area: HTMLTextAreaElement, text: string): void {
  area.value = text;
  area.dispatchEvent(new Event('input', { bubbles: true }));
}

beforeEach(() => sessionStorage.clear());
afterEach(() => document.body.replaceChildren());

describe('a question', () => {
  it('shows what it is about, with the value to be changed', () => {
    const { el } = opened(asked({}));
    const [form] = forms(el);
    expect(query(form, '.modelcompose-markdown strong').textContent).toBe('enough');
    expect([...form.querySelectorAll('tr')].map(row => row.textContent)).toEqual([
      'bymodel',
      'tries1'
    ]);
    expect(query(form, 'small').textContent).toContain('write · open until ');
    expect(field(el).value).toBe('Once');
    const name = form.getAttribute('aria-labelledby') ?? '';
    expect(document.getElementById(name)?.textContent).toContain('Good enough?');
  });

  it('goes on as it is, unless the value was changed', () => {
    const { model, el } = opened(asked({}));
    button(el, 'Continue').click();
    enter(field(el), 'Twice');
    button(el, 'Continue').click();
    const given = { type: 'answer', run: 'a', question: 'write.after' };
    expect(answers(model)).toEqual([given, { ...given, text: 'Twice' }]);
  });

  it('is answered by Ctrl+Enter, which runs nothing then', () => {
    const { model, el } = opened(asked({}));
    expect(press(field(el), { key: 'Enter', ctrlKey: true })).toBe(true);
    expect(answers(model).map(({ type }) => type)).toEqual(['answer']);
    expect(press(field(el), { key: 'Enter' })).toBe(false);
  });

  it('takes data as JSON, and says what is none', () => {
    const { model, el } = opened(asked({ text: '[1]', json: true }));
    enter(field(el), '[1');
    button(el, 'Continue').click();
    expect(model.sent).toEqual([]);
    const error = query(el, '.modelcompose-question-error');
    expect(error.textContent).toContain('This is no JSON');
    expect(field(el).getAttribute('aria-invalid')).toBe('true');
    expect(document.activeElement).toBe(field(el));
    enter(field(el), '[1, 2]');
    expect(error.hidden).toBe(true);
    button(el, 'Continue').click();
    expect(answers(model)[0].text).toBe('[1, 2]');
  });

  it('has a button for each of a few choices', () => {
    const { model, el } = opened(asked({ choices: ['good', 'bad'] }));
    expect(labels(forms(el)[0])).toEqual(['good', 'bad', 'Continue']);
    expect(el.querySelector('.modelcompose-question textarea')).toBeNull();
    expect(query(el, '.modelcompose-question-value').textContent).toBe('Once');
    button(el, 'bad').click();
    button(el, 'Continue').click();
    const given = { type: 'answer', run: 'a', question: 'write.after' };
    expect(answers(model)).toEqual([{ ...given, choice: 1 }, given]);
  });

  it('of choices gets the focus as a whole, so that Enter answers nothing', async () => {
    const { model, el } = opened({ run_id: 'a', state: 'running' });
    await model.set(asked({ choices: ['good', 'bad'] }));
    expect(document.activeElement).toBe(forms(el)[0]);
  });

  it('has a list of many choices', () => {
    const choices = [...'abcdefgh'];
    const { model, el } = opened(asked({ choices }));
    const list = query<HTMLSelectElement>(el, '.modelcompose-question select');
    expect([...list.options].map(each => each.text)).toEqual(['As it is', ...choices]);
    button(el, 'Continue').click();
    list.selectedIndex = 3;
    button(el, 'Continue').click();
    expect(answers(model).map(({ choice }) => choice)).toEqual([undefined, 2]);
  });

  it('without words asks whether to go on', () => {
    const { el } = opened(asked({ message: '', html: '' }));
    expect(query(el, '.modelcompose-question').textContent).toContain('Go on with this?');
  });
});

describe('questions', () => {
  it('stand one below the other, and keep what is typed while others come and go', async () => {
    const { model, el } = opened(asked({}));
    enter(field(el), 'typed');
    await model.set(asked({}, { id: 'other.after', text: 'Other' }));
    expect([...el.querySelectorAll('textarea')].map(each => each.value)).toEqual([
      'typed',
      'Other'
    ]);
    await model.set(asked({ id: 'other.after', text: 'Other' }));
    expect([...el.querySelectorAll('textarea')].map(each => each.value)).toEqual(['Other']);
    await model.set({ questions: [], state: 'running' });
    expect(forms(el)).toEqual([]);
    expect(query(el, '.modelcompose-questions').hidden).toBe(true);
  });

  it('of the same name in another run are others', async () => {
    const { model, el } = opened(asked({}));
    enter(field(el), 'typed');
    await model.set({ ...asked({}), run_id: 'b' });
    expect(field(el).value).toBe('Once');
  });

  it('are announced, and get the focus of who is in the panel', async () => {
    const { model, el } = opened({ run_id: 'a', state: 'running' });
    await model.set(asked({}));
    const status = query(el, '.modelcompose-unseen');
    expect(status.textContent).toBe('Question: Good enough?');
    expect(document.activeElement).toBe(field(el));
    await model.set({ progress: { text: 'Working' } });
    expect(status.textContent).toBe('Question: Good enough?');
  });

  it('leave the focus to who is elsewhere, or types', async () => {
    const elsewhere = document.body.appendChild(document.createElement('input'));
    elsewhere.focus();
    const { model, el, root } = opened({ run_id: 'a', state: 'running' });
    await model.set(asked({}));
    expect(document.activeElement).toBe(elsewhere);
    const prompt = root.appendChild(document.createElement('textarea'));
    prompt.focus();
    press(prompt, { key: 'x' });
    await model.set(asked({}, { id: 'other.after' }));
    expect(document.activeElement).toBe(prompt);
    expect(forms(el)).toHaveLength(2);
  });
});

describe('a page', () => {
  it('keeps a run that asks, and finds it when it is loaded again', async () => {
    const first = opened({ keep_as: 'page' });
    expect(first.model.sent).toEqual([]);
    await first.model.set({ kept_run: 'a', run_id: 'a' });
    expect(opened({ keep_as: 'page' }).model.sent).toEqual([{ type: 'rejoin', run: 'a' }]);
    expect(opened({ keep_as: 'other' }).model.sent).toEqual([]);
    expect(opened({ keep_as: 'page', run_id: 'a' }).model.sent).toEqual([]);
    await first.model.set({ kept_run: '' });
    expect(opened({ keep_as: 'page' }).model.sent).toEqual([]);
  });
});
