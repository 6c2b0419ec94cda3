// What CodeMirror knows of documents: their colours, indentation, folding and comments.

import { foldService, indentUnit, LanguageSupport, StreamLanguage } from '@codemirror/language';
import {
  Compartment,
  EditorState,
  type Extension,
  type Line,
  Prec,
  type SelectionRange,
  type Text
} from '@codemirror/state';
import { type EditorView, keymap } from '@codemirror/view';
import { unmarked } from './diagnostics';
import { MAGIC, yaml } from './yaml';

/** The language of cells, whose first line is the magic's, and that of files. */
export const cellLanguage = StreamLanguage.define(yaml(true));
export const fileLanguage = StreamLanguage.define(yaml(false));

const folding = foldService.of((state, from) => {
  const line = state.doc.lineAt(from);
  const own = indentation(line.text);
  if (own < 0 || (line.number === 1 && MAGIC.test(line.text))) {
    return null;
  }
  // A list may stand right below its key, in the same column.
  const holdsList = /:\s*$/.test(line.text) && !/^\s*-\s/.test(line.text);
  let end = line.to;
  for (let number = line.number + 1; number <= state.doc.lines; number++) {
    const next = state.doc.line(number);
    const column = indentation(next.text);
    if (
      column >= 0 &&
      column <= own &&
      !(holdsList && column === own && /^\s*-(\s|$)/.test(next.text))
    ) {
      break;
    }
    end = column >= 0 ? next.to : end;
  }
  return end > line.to ? { from: line.to, to: end } : null;
});

function indentation(text: string): number {
  return text.search(/\S/);
}

const writing: Extension = [Prec.highest(indentUnit.of('  ')), folding];

/** Documents in files. */
export function composeFile(): LanguageSupport {
  return new LanguageSupport(fileLanguage, writing);
}

/** Comment or uncomment the lines of a selection that holds the magic's, but not that one. */
function toggleBody(view: EditorView): boolean {
  const { doc, selection, readOnly } = view.state;
  const body = doc.line(1).to + 1;
  if (selection.ranges.every(range => range.from >= body)) {
    return false; // the editor's own command does
  }
  const lines = bodyLines(doc, selection.ranges);
  const commented = lines.every(line => line.text.trim().startsWith('#'));
  const column = Math.min(...lines.map(line => indentation(line.text)));
  const changes = lines.map(line => {
    const from = line.from + (commented ? indentation(line.text) : column);
    return commented
      ? { from, to: from + (/^\s*# /.test(line.text) ? 2 : 1) }
      : { from, insert: '# ' };
  });
  if (!readOnly) {
    view.dispatch({ changes });
  }
  return true;
}

/** The lines of a selection that are neither blank nor the magic's. */
function bodyLines(doc: Text, ranges: readonly SelectionRange[]): Line[] {
  const lines: Line[] = [];
  const end = ranges[ranges.length - 1].to;
  for (let number = 2; number <= doc.lineAt(end).number; number++) {
    const { from, to, text } = doc.line(number);
    const selected = (range: SelectionRange) =>
      range.from <= to && (range.to > from || (range.empty && range.to === from));
    if (text.trim() && ranges.some(selected)) {
      lines.push(doc.line(number));
    }
  }
  return lines;
}

const inCell = Prec.highest([
  // The editor's own command asks for this first: it does nothing on a line without comments.
  EditorState.languageData.of((state, pos) =>
    pos <= state.doc.line(1).to ? [{ commentTokens: {} }] : []
  ),
  keymap.of([{ key: 'Mod-/', run: toggleBody }]),
  new LanguageSupport(cellLanguage, writing).extension
]);

/**
 * Documents in cells: all of it is there only while the first line is `%%compose`.
 *
 * @param initial - the text that the editor begins with
 * @param extra - what else is there only then
 * @param yaml - whether such a cell is YAML, or only gets what else there is
 */
export function composeCell(initial: string, extra: Extension = [], yaml = true): Extension {
  const slot = new Compartment();
  const on: Extension = yaml ? [inCell, extra] : extra;
  return [
    slot.of(MAGIC.test(initial) ? on : []),
    EditorState.transactionExtender.of(transaction => {
      if (!transaction.docChanged) {
        return null;
      }
      const is = isCompose(transaction.newDoc);
      const was = isCompose(transaction.startState.doc);
      if (is === was) {
        return null;
      }
      const changed = slot.reconfigure(is ? on : []);
      return { effects: is ? changed : [changed, ...unmarked(transaction.startState)] };
    })
  ];
}

function isCompose(doc: Text): boolean {
  return MAGIC.test(doc.line(1).text);
}
