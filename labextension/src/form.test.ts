// @vitest-environment jsdom
// What a panel's form has beside what ipywidgets draws, and which keys stay in it.

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { button, opened, press, query } from './testing/widget';

const SUPPRESSED = 'data-lm-suppress-shortcuts';

/** A row as ipywidgets draws it. */
const row = (label: string, control: string, more = '') => `
  <div class="modelcompose-input">
    <div class="widget-inline-hbox"><label class="widget-label">${label}</label>${control}</div>
    ${more}
  </div>`;
const SLIDER = `
  <div class="slider-container">
    <div class="noUi-handle" tabindex="0" aria-valuemin="0.0" aria-valuemax="2.0"></div>
  </div>
  <div class="widget-readout"></div>`;
const HELP =
  '<div class="modelcompose-help modelcompose-on-demand"><div> Less is likelier. </div></div>';
const NOTE = '<div class="modelcompose-help">How it begins</div>';
const FOLD = '<button class="modelcompose-fold">Advanced</button>';
const CONTROLS = `
  <div class="modelcompose-controls"><button>Run</button><button disabled>Stop</button></div>`;

/** A panel with such rows, completed. */
function form(...rows: string[]) {
  const widget = opened();
  widget.root.insertAdjacentHTML('afterbegin', rows.join(''));
  vi.advanceTimersByTime(100); // until the next frame
  return widget;
}

const changed = () => vi.advanceTimersByTimeAsync(0); // observers of the page have been told

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
  document.body.replaceChildren();
});

describe('a form', () => {
  it('names sliders, which ipywidgets does not', () => {
    const { root } = form(row('Length', SLIDER));
    for (const selector of ['.noUi-handle', '.widget-readout']) {
      expect(query(root, selector).getAttribute('aria-label')).toBe('Length');
    }
    expect(query(root, '.widget-readout').getAttribute('role')).toBe('textbox');
  });

  it('shows the ends of a slider, which follow its range', async () => {
    const { root } = form(row('Temperature', SLIDER));
    const ends = () =>
      [...query(root, '.modelcompose-ends').children].map(each => each.textContent);
    expect(ends()).toEqual(['0', '2']);
    expect(query(root, '.modelcompose-ends').getAttribute('aria-hidden')).toBe('true');
    query(root, '.noUi-handle').setAttribute('aria-valuemax', '3.5');
    await changed();
    expect(ends()).toEqual(['0', '3.5']);
  });

  it('folds help behind a button that is named after its field', () => {
    const { root } = form(row('Temperature', SLIDER, HELP));
    const [help, handle] = [query(root, '.modelcompose-help'), query(root, '.noUi-handle')];
    const ask = button(root, '?');
    expect(help.hidden).toBe(true);
    expect(handle.getAttribute('aria-describedby')).toBe(help.id);
    expect([ask.getAttribute('aria-label'), ask.title]).toEqual([
      'About Temperature',
      'Less is likelier.'
    ]);
    expect(ask.getAttribute('aria-controls')).toBe(help.id);
    expect(ask.getAttribute('aria-expanded')).toBe('false');
    ask.click();
    expect([help.hidden, ask.getAttribute('aria-expanded')]).toEqual([false, 'true']);
    ask.click();
    expect([help.hidden, ask.getAttribute('aria-expanded')]).toEqual([true, 'false']);
  });

  it("shows the document's own words at once, and ties them to their field", () => {
    const { root } = form(
      row('Prompt *', '<textarea></textarea>', NOTE),
      row('Tone', '<select></select>', NOTE)
    );
    const [first, second] = [...root.querySelectorAll<HTMLElement>('.modelcompose-help')];
    expect([first.hidden, second.hidden]).toEqual([false, false]);
    expect(query(root, 'textarea').getAttribute('aria-describedby')).toBe(first.id);
    expect(query(root, 'select').getAttribute('aria-describedby')).toBe(second.id);
    expect(first.id).not.toBe(second.id);
    expect(root.querySelector('.modelcompose-ask')).toBeNull();
  });

  it('says of a toggle whether what it shows is shown', async () => {
    const { root } = form(FOLD);
    const fold = button(root, 'Advanced');
    expect(fold.getAttribute('aria-expanded')).toBe('false');
    fold.classList.add('mod-active');
    await changed();
    expect(fold.getAttribute('aria-expanded')).toBe('true');
    fold.classList.remove('mod-active');
    await changed();
    expect(fold.getAttribute('aria-expanded')).toBe('false');
  });

  it('moves the focus to the neighbour of a button that is no longer to be pressed', async () => {
    const { root } = form(CONTROLS);
    const [run, stop] = [button(root, 'Run'), button(root, 'Stop')];
    run.focus();
    stop.disabled = false;
    await changed();
    expect(document.activeElement).toBe(run);
    run.disabled = true;
    await changed();
    expect(document.activeElement).toBe(stop);
  });

  it('is completed once, however many views there are', () => {
    const { root, show } = form(row('Temperature', SLIDER, HELP), FOLD);
    show();
    vi.advanceTimersByTime(100);
    for (const selector of ['.modelcompose-ends', '.modelcompose-ask']) {
      expect(root.querySelectorAll(selector)).toHaveLength(1);
    }
  });
});

describe('keys in a panel', () => {
  const field = (root: Element) => root.appendChild(document.createElement('input'));

  it.each(['x', 'b', 'a', 'd', 'm', '0', 'Enter', 'Escape', 'ArrowDown', 'Delete'])(
    'are none of the application: %s',
    key => {
      const input = field(opened().root);
      press(input, { key });
      expect(input.hasAttribute(SUPPRESSED)).toBe(true);
    }
  );

  it.each([
    { key: 's', ctrlKey: true },
    { key: 's', metaKey: true },
    { key: 'C', ctrlKey: true, shiftKey: true }
  ])('are the application’s where they save, or open its palette: %o', init => {
    const input = field(opened().root);
    press(input, { key: 'x' });
    press(input, init);
    expect(input.hasAttribute(SUPPRESSED)).toBe(false);
    press(input, { key: 'x' });
    expect(input.hasAttribute(SUPPRESSED)).toBe(true);
  });

  it.each([
    { key: 'c', ctrlKey: true }, // copies what is selected
    { key: 'S', ctrlKey: true, shiftKey: true },
    { key: 's' }
  ])('stay where they are like those: %o', init => {
    const input = field(opened().root);
    press(input, init);
    expect(input.hasAttribute(SUPPRESSED)).toBe(true);
  });

  it('are told before the application hears of them', () => {
    const input = field(opened().root);
    const heard: boolean[] = [];
    const listener = () => heard.push(input.hasAttribute(SUPPRESSED));
    document.addEventListener('keydown', listener, true);
    press(input, { key: 'x' });
    document.removeEventListener('keydown', listener, true);
    expect(heard).toEqual([true]);
  });

  it('are of no concern elsewhere', () => {
    opened();
    const input = field(document.body);
    press(input, { key: 'x' });
    expect(input.hasAttribute(SUPPRESSED)).toBe(false);
  });
});
