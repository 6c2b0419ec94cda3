// @vitest-environment jsdom
// What switches on and off with the first line, and what the keys do.

import { history, insertNewlineAndIndent, redo, toggleComment, undo } from '@codemirror/commands';
import { python } from '@codemirror/lang-python';
import {
  foldable,
  forceParsing,
  HighlightStyle,
  indentUnit,
  language,
  syntaxHighlighting
} from '@codemirror/language';
import { EditorSelection, EditorState, type Extension, StateField } from '@codemirror/state';
import { EditorView, keymap, runScopeHandlers } from '@codemirror/view';
import { tags } from '@lezer/highlight';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { cellLanguage, composeCell, composeFile } from './language';

const MAGIC = '%%compose story';
const views: EditorView[] = [];

afterEach(() => {
  for (const view of views.splice(0)) {
    view.destroy();
  }
});

/** An editor with a text in which `‸` is the cursor, or two are the ends of the selection. */
function editor(marked: string, extensions: Extension = []): EditorView {
  const doc = marked.replaceAll('‸', '');
  const anchor = Math.max(0, marked.indexOf('‸'));
  const head = marked.lastIndexOf('‸') - 1;
  const view = new EditorView({
    doc,
    selection: { anchor, head: Math.max(head, anchor) },
    extensions: [extensions, composeCell(doc), python(), history()],
    parent: document.body
  });
  views.push(view);
  return view;
}

const text = (view: EditorView) => view.state.doc.toString();
const name = (view: EditorView) => view.state.facet(language)?.name;
const replace = (view: EditorView, from: number, to: number, insert = '') =>
  view.dispatch({ changes: { from, to, insert } });

describe('switching', () => {
  it('follows the first line as it is typed, cut, pasted and replaced', () => {
    const view = editor('a: 1');
    expect(name(view)).toBe('python');
    replace(view, 0, 0, `${MAGIC}\n`);
    expect(name(view)).toBe('compose');
    replace(view, 9, 9, 'r');
    expect(name(view)).toBe('python');
    replace(view, 9, 10);
    expect(name(view)).toBe('compose');
    replace(view, 0, 0, ' ');
    expect(name(view)).toBe('python');
    replace(view, 0, text(view).length, '%%compose');
    expect(name(view)).toBe('compose');
    replace(view, 0, 0, 'import os\n');
    expect(name(view)).toBe('python');
  });

  it('follows undo and redo', () => {
    const view = editor('a: 1');
    replace(view, 0, 0, `${MAGIC}\n`);
    undo(view);
    expect([text(view), name(view)]).toEqual(['a: 1', 'python']);
    redo(view);
    expect([text(view), name(view)]).toEqual([`${MAGIC}\na: 1`, 'compose']);
  });

  it('begins as the text begins', () => {
    expect(name(editor(MAGIC))).toBe('compose');
    expect(name(editor(`\n${MAGIC}`))).toBe('python');
    expect(name(editor('%%composer'))).toBe('python');
    expect(name(editor('%%compose\ta'))).toBe('compose');
  });

  it('leaves nothing of ours in other cells', () => {
    const view = editor('if a:\n  b');
    const plain = EditorState.create({ doc: 'if a:\n  b', extensions: [python()] });
    expect(view.state.facet(indentUnit)).toBe(plain.facet(indentUnit));
    expect(view.state.facet(keymap)).toEqual(
      EditorState.create({ extensions: [python(), history()] }).facet(keymap)
    );
    expect(view.state.languageDataAt('commentTokens', 0)).toEqual(
      plain.languageDataAt('commentTokens', 0)
    );
    expect(foldable(view.state, 0, 5)).toEqual(foldable(plain, 0, 5));
  });

  it('takes extras with it', () => {
    const extra = StateField.define({ create: () => 1, update: value => value + 1 });
    const doc = 'a: 1';
    let state = EditorState.create({ doc, extensions: composeCell(doc, extra) });
    expect(state.field(extra, false)).toBeUndefined();
    state = state.update({ changes: { from: 0, insert: `${MAGIC}\n` } }).state;
    expect(state.field(extra)).toBeDefined();
    state = state.update({ changes: { from: 3, insert: 'x' } }).state;
    expect(state.field(extra, false)).toBeUndefined();
  });

  it('keeps what is there while the first line changes but stays', () => {
    const extra = StateField.define({ create: () => 0, update: value => value + 1 });
    const state = EditorState.create({ doc: MAGIC, extensions: composeCell(MAGIC, extra) });
    const typed = state.update({ changes: { from: MAGIC.length, insert: ' a' } });
    expect(typed.reconfigured).toBe(false);
    expect(typed.state.field(extra)).toBe(1);
  });

  it('colours with the styles of the editor', () => {
    const style = HighlightStyle.define([
      { tag: tags.propertyName, class: 'key' },
      { tag: tags.special(tags.variableName), class: 'path' },
      { tag: tags.keyword, class: 'word' }
    ]);
    const view = editor('if: ${input[0]}', syntaxHighlighting(style));
    const found = () =>
      [...view.dom.querySelectorAll('.key, .path, .word')].map(
        node => `${node.className}:${node.textContent}`
      );
    expect(found()).toEqual(['word:if']);
    replace(view, 0, 0, `${MAGIC}\n`);
    expect(found()).toEqual(['key:if', 'path:input[0]']);
    replace(view, 0, 1);
    expect(found()).not.toContain('path:input[0]');
  });

  it('is there in files without a magic line', () => {
    const state = EditorState.create({
      doc: 'a:\n  b: 1',
      extensions: [indentUnit.of('    '), composeFile()]
    });
    expect(state.facet(language)?.name).toBe('compose');
    expect(state.facet(indentUnit)).toBe('  ');
    expect(foldable(state, 0, 2)).toEqual({ from: 2, to: 9 });
    expect(state.languageDataAt('commentTokens', 0)).toEqual([{ line: '#' }]);
  });
});

describe('Enter', () => {
  const columnAfter = (marked: string, magic = `${MAGIC}\n`) => {
    const view = editor(magic + marked);
    forceParsing(view, view.state.doc.length, 10_000);
    insertNewlineAndIndent(view);
    const { head } = view.state.selection.main;
    return text(view).slice(magic.length, head).split('\n').pop()?.length;
  };

  it.each([
    ['a:', 2],
    ['  a:', 4],
    ['a: # c', 2],
    ['a: |', 2],
    ['a: >- # c', 2],
    ['- a: |', 4],
    ['- |', 2],
    ['- id: a', 2],
    ['  - id: a', 4],
    ['- - a: b', 4],
    ['- a:', 4],
    ['-', 2],
    ['- a', 0],
    ['  - a', 2],
    ['  a: b', 2],
    ['  a: ${input.x | "b:"}', 2],
    ['  a: "b:"', 2],
    ['a: |\n    b:', 4],
    ['a: |\n  b\n    c', 4],
    ['a: |\n  b\n\n', 2],
    ['a: b\n   c', 3],
    ['a: *b', 0],
    ['a: &b', 2],
    ['a: 1', 0],
    ['a:\n  # c', 2],
    ['a:\n# c', 2],
    ['a: [', 2],
    ['a: [1,', 2],
    ['a: [\n  1,', 2],
    ['a: [\n  1\n]', 0],
    ['a: {b: [1]}', 0],
    ['  # c', 2],
    ['a:\n  b: c\n', 2]
  ])('after %j begins in column %i', (before, column) => {
    expect(columnAfter(`${before}‸`)).toBe(column);
    expect(columnAfter(`${before}‸\nz: 1`)).toBe(column);
  });

  it('after the magic line begins in column 0', () => {
    expect(columnAfter(`${MAGIC}:‸`, '')).toBe(0);
    expect(columnAfter(`${MAGIC}‸\n  a: 1`, '')).toBe(0);
  });

  it('within a line takes the rest along', () => {
    const view = editor(`${MAGIC}\na:‸ b`);
    insertNewlineAndIndent(view);
    expect(text(view)).toBe(`${MAGIC}\na:\n  b`);
  });

  it('is right far down in a long document', () => {
    const long = `a:\n${'  - id: b\n    text: c\n'.repeat(1500)}`;
    expect(columnAfter(`${long}  - id: d‸`)).toBe(4);
  });
});

describe('Ctrl-/', () => {
  /** What the key does in JupyterLab, where a command of the application stands behind ours. */
  const press = (view: EditorView) => {
    const event = new KeyboardEvent('keydown', { key: '/', ctrlKey: true });
    return runScopeHandlers(view, event, 'editor') || toggleComment(view);
  };
  const twice = (marked: string) => {
    const view = editor(marked);
    press(view);
    const once = text(view);
    press(view);
    return [once, text(view)];
  };

  it('comments lines of the body, and uncomments them', () => {
    expect(twice(`${MAGIC}\n  a‸: 1`)).toEqual([`${MAGIC}\n  # a: 1`, `${MAGIC}\n  a: 1`]);
    expect(twice(`${MAGIC}\n‸a:\n  b: 1‸\nc`)).toEqual([
      `${MAGIC}\n# a:\n#   b: 1\nc`,
      `${MAGIC}\na:\n  b: 1\nc`
    ]);
  });

  it('leaves lines of the body to the editor', () => {
    expect(twice(`${MAGIC}\na: 1\n‸`)[0]).toBe(`${MAGIC}\na: 1\n# `);
  });

  it('does nothing on the magic line', () => {
    for (const marked of [
      `%%com‸pose s\na: 1`,
      `%‸%com‸pose s\na: 1`,
      `‸${MAGIC}\n‸a: 1`,
      '%%compose‸'
    ]) {
      const view = editor(marked);
      press(view);
      expect(text(view)).toBe(marked.replaceAll('‸', ''));
      expect(toggleComment(view)).toBe(false);
    }
  });

  it('leaves the magic line alone in a selection that holds it', () => {
    expect(twice(`%%com‸pose s\na: 1\nb: 2‸\nc`)).toEqual([
      '%%compose s\n# a: 1\n# b: 2\nc',
      '%%compose s\na: 1\nb: 2\nc'
    ]);
    expect(twice(`‸%%compose s\n  a:\n\n    b: 1\n‸c`)).toEqual([
      '%%compose s\n  # a:\n\n  #   b: 1\nc',
      '%%compose s\n  a:\n\n    b: 1\nc'
    ]);
    expect(twice(`‸%%compose s\n#a\nb‸`)).toEqual(['%%compose s\n# #a\n# b', '%%compose s\n#a\nb']);
    expect(twice(`‸%%compose s\n#a‸`)).toEqual(['%%compose s\na', '%%compose s\n# a']);
    expect(twice(`‸%%compose s\na: 1‸`)).toEqual(['%%compose s\n# a: 1', '%%compose s\na: 1']);
  });

  it('takes several selections, and each line once', () => {
    const view = editor(
      '%%compose s\na: 1\nb: 2\nc: 3',
      EditorState.allowMultipleSelections.of(true)
    );
    const cursors = [2, 12, 14, 22].map(place => EditorSelection.cursor(place));
    view.dispatch({ selection: EditorSelection.create(cursors) });
    press(view);
    expect(text(view)).toBe('%%compose s\n# a: 1\nb: 2\n# c: 3');
  });

  it('keeps the selection, and is undone at once', () => {
    const view = editor(`‸${MAGIC}\na: 1‸`);
    press(view);
    expect(view.state.selection.main.from).toBe(0);
    expect(view.state.selection.main.to).toBe(text(view).length);
    undo(view);
    expect(text(view)).toBe(`${MAGIC}\na: 1`);
  });

  it('changes nothing that is read-only', () => {
    const view = editor(`‸${MAGIC}\na: 1‸`, EditorState.readOnly.of(true));
    press(view);
    expect(text(view)).toBe(`${MAGIC}\na: 1`);
  });

  it('is the language’s own in other cells', () => {
    expect(twice('‸a = 1')).toEqual(['# a = 1', 'a = 1']);
  });
});

describe('folding', () => {
  const fold = (doc: string, line: number) => {
    const { state } = editor(doc);
    const { from, to } = state.doc.line(line);
    const range = foldable(state, from, to);
    return range && state.sliceDoc(range.from, range.to);
  };

  it.each([
    ['a:\n  b: 1\n\n  c: 2\n\nd: 1', '\n  b: 1\n\n  c: 2'],
    ['a:\n- b\n- c\nd: 1', '\n- b\n- c'],
    ['a: |\n  b\n    c\nd: 1', '\n  b\n    c'],
    ['- a: 1\n  b: 2\n- c', '\n  b: 2'],
    ['a: [\n  1\n]', '\n  1'],
    ['a: 1\nb: 2', null],
    ['- a\n- b', null],
    ['', null]
  ])('of %j', (doc, folded) => {
    expect(fold(`${MAGIC}\n${doc}`, 2)).toBe(folded);
  });

  it('is not for the magic line', () => {
    expect(fold(`${MAGIC}\n  a: 1`, 1)).toBeNull();
  });
});

it('closes brackets and quotes', () => {
  const { state } = editor(`${MAGIC}\na`);
  expect(state.languageDataAt('closeBrackets', MAGIC.length + 1)[0]).toEqual({
    brackets: ['[', '{', '"', "'"]
  });
});

it('reads no more than what shows when one types in a long document', () => {
  const doc = `${MAGIC}\n${'- text: ${input.x as text | "a: b"} and more\n'.repeat(2000)}`;
  let state = EditorState.create({ doc, extensions: composeCell(doc) });
  const token = vi.spyOn(cellLanguage.streamParser, 'token');
  state = state.update({ changes: { from: 40, insert: 'x' } }).state;
  expect(token.mock.calls.length).toBeGreaterThan(100);
  expect(token.mock.calls.length).toBeLessThan(2000);
  token.mockRestore();
});
