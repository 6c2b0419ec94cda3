// YAML as our reader takes it: a plain scalar may hold `${…}` with anything in its braces. A parser
// of YAML alone would end such a scalar at the first `: ` or `}`, so this one reads line by line,
// keeping what is open: it stays right where a document is half written.

import type { StreamParser, StringStream } from '@codemirror/language';
import { constants, type IOpenExpression, ScalarReader } from './expression';

/** The first line of a cell that holds a document. */
export const MAGIC = /^%%compose(?!\S)/;

/** What is open at a place in a document. */
interface IState {
  /** Whether this is the first line, which may be that of a cell. */
  magic: boolean;
  scalar: 'none' | 'plain' | 'header' | 'block' | '"' | "'";
  expressions: IOpenExpression[];
  /** How many brackets are open. */
  flow: number;
  /** Whether a key may stand here: outside brackets, a line has one. */
  key: boolean;
  /** The column of the last key or dash: what belongs to it stands to the right of it. */
  parent: number;
  /** The column of what the line holds, and whether the next line goes deeper. */
  column: number;
  deeper: boolean;
}

const QUOTED_TEXT = `"(?:[^"\\\\]|\\\\.)*"|'(?:[^']|'')*'`;
const PLAIN_START = '(?![-?:](?:\\s|$)|\\$\\{)[^\\s"\'[\\]{}|>&*!%@`#,]';
const KEY = new RegExp(
  `^(?:(?:${QUOTED_TEXT})(?=\\s*:(?:\\s|$))|` +
    `${PLAIN_START}(?:(?!\\s#|\\$\\{)(?:[^:]|:(?=\\S)))*(?=:(?:\\s|$)))`
);
const FLOW_KEY = new RegExp(
  `^(?:(?:${QUOTED_TEXT})(?=\\s*:)|` +
    `${PLAIN_START}(?:(?!\\s#|\\$\\{)(?:[^:,[\\]{}]|:(?=[^\\s,[\\]{}])))*(?=:(?:[\\s,[\\]{}]|$)))`
);
const TEXT = /^(?:(?!\\*\$\{).)+/s;
const PLAIN = /^(?:(?!\s#|\\*\$\{).)+/s;
const FLOW_PLAIN = /^(?:(?!\s#|\\*\$\{|:(?:[\s,[\]{}]|$)|[,[\]{}]).)+/s;
const CONSTANTS = constants('\\s*(?:$|\\s#)');
const FLOW_CONSTANTS = constants('\\s*(?:$|\\s#|[,\\]}])');
const TO_QUOTE = { '"': /^(?:[^"\\]|\\.)*/s, "'": /^(?:[^']|'')*/ };

/** A parser of documents; `magic` lets the first line be that of a cell. */
export function yaml(magic: boolean): StreamParser<IState> {
  return {
    name: 'compose',
    startState: () => ({
      magic,
      scalar: 'none',
      expressions: [],
      flow: 0,
      key: true,
      parent: -1,
      column: 0,
      deeper: false
    }),
    copyState: state => ({ ...state, expressions: state.expressions.map(one => ({ ...one })) }),
    token: (stream, state) => (state.magic ? firstLine(stream, state) : token(stream, state)),
    blankLine: state => {
      state.magic = false;
    },
    indent: (state, _after, context) => state.column + (state.deeper ? context.unit : 0),
    languageData: {
      commentTokens: { line: '#' },
      closeBrackets: { brackets: ['[', '{', '"', "'"] }
    }
  };
}

function firstLine(stream: StringStream, state: IState): string | null {
  if (stream.sol() && stream.match(MAGIC)) {
    state.magic = !stream.eol();
    return 'meta';
  }
  state.magic = false;
  if (stream.sol()) {
    return token(stream, state);
  }
  stream.skipToEnd();
  return null;
}

function token(stream: StringStream, state: IState): string | null {
  if (stream.sol()) {
    beginLine(stream, state);
  }
  switch (state.scalar) {
    case 'none':
    case 'header':
      return stream.eatSpace() ? null : structure(stream, state);
    case 'plain':
      return plain(stream, state);
    case 'block':
      return new ScalarReader(stream, state.expressions, '').token(TEXT, null);
    default:
      return quoted(stream, state, state.scalar);
  }
}

/** Close what the indentation says is over, also where its end is missing. */
function beginLine(stream: StringStream, state: IState): void {
  const column = stream.indentation();
  const text = stream.string.trimStart();
  if (!text) {
    return;
  }
  const broken = state.expressions.findIndex(one => one.part === 'broken');
  if (broken >= 0) {
    state.expressions.length = broken;
  }
  if (state.scalar === 'header') {
    state.scalar = 'block';
  }
  const comment = text.startsWith('#') && !state.expressions.length;
  if (endsScalar(text, column, comment, state)) {
    state.scalar = 'none';
    state.expressions = [];
    state.parent = Math.min(state.parent, column - 1);
    state.flow = 0;
  }
  if (!comment || !state.deeper || state.scalar === 'block') {
    state.column = column;
    state.deeper = false;
  }
  state.key = true;
}

/** Whether a line begins anew, so that nothing before it is open. */
function endsScalar(text: string, column: number, comment: boolean, state: IState): boolean {
  const outside = column <= state.parent;
  if (state.scalar === 'block') {
    return outside;
  }
  if (state.scalar === 'plain' && !state.expressions.length && !state.flow) {
    // A plain scalar holds no key: where one follows, the line above is half written.
    return outside || comment || KEY.test(text.replace(/^(?:-\s+)+/, ''));
  }
  return outside && !/^[\]}#]/.test(text);
}

/** Take what stands between scalars, or begin one. */
function structure(stream: StringStream, state: IState): string | null {
  const column = stream.column();
  if (stream.match(/^#.*/)) {
    return 'lineComment';
  }
  if (column === 0 && stream.match(/^(?:%.*|(?:---|\.\.\.)(?=\s|$))/)) {
    return 'meta';
  }
  if (stream.match(/^&[^\s,[\]{}]+/)) {
    return 'labelName';
  }
  if (stream.match(/^![^\s,[\]{}]*/)) {
    return 'typeName';
  }
  return state.flow ? inBrackets(stream, state) : inBlock(stream, state, column);
}

function inBlock(stream: StringStream, state: IState, column: number): string | null {
  const dash = state.key && stream.match(/^[-?](?=\s|$)/);
  if (dash || (state.key && stream.match(KEY))) {
    state.parent = state.column = column;
    state.key = state.deeper = Boolean(dash);
    return dash ? 'separator' : 'propertyName.definition';
  }
  if (stream.match(/^:(?=\s|$)/)) {
    state.deeper = true;
    return 'separator';
  }
  if (stream.match(/^[|>][-+0-9]*(?=\s*(?:$|\s#))/)) {
    state.scalar = 'header';
    state.deeper = true;
    return 'string.special';
  }
  return value(stream, state, CONSTANTS);
}

function inBrackets(stream: StringStream, state: IState): string | null {
  if (stream.match(/^[\]}]/)) {
    state.flow -= 1;
    state.deeper = false;
    return 'bracket';
  }
  if (stream.match(/^[,:]/)) {
    return 'separator';
  }
  return stream.match(FLOW_KEY) ? 'propertyName.definition' : value(stream, state, FLOW_CONSTANTS);
}

function value(stream: StringStream, state: IState, known: typeof CONSTANTS): string | null {
  state.key = false;
  if (stream.match(/^[[{]/)) {
    state.flow += 1;
    state.deeper = true;
    return 'bracket';
  }
  state.deeper = state.deeper && state.flow > 0;
  if (stream.match(/^\*[^\s,[\]{}]+/)) {
    return 'labelName';
  }
  const constant = known.find(([, pattern]) => stream.match(pattern));
  if (constant) {
    return constant[0];
  }
  const quote = stream.match(/^["']/) as RegExpMatchArray | null;
  if (quote) {
    state.scalar = quote[0] as '"' | "'";
    return 'string';
  }
  state.scalar = 'plain';
  return plain(stream, state);
}

function plain(stream: StringStream, state: IState): string | null {
  const reader = new ScalarReader(stream, state.expressions, '');
  const inside = state.expressions.length > 0;
  const style = reader.token(state.flow ? FLOW_PLAIN : PLAIN, null);
  if (!inside && stream.pos === stream.start) {
    state.scalar = 'none';
  }
  return style;
}

function quoted(stream: StringStream, state: IState, quote: '"' | "'"): string | null {
  const rest = stream.string.slice(stream.pos);
  const length = TO_QUOTE[quote].exec(rest)?.[0].length ?? 0;
  if (length) {
    const reader = new ScalarReader(stream, state.expressions, quote, stream.pos + length);
    return reader.token(TEXT, 'string');
  }
  stream.next();
  state.scalar = 'none';
  state.expressions = [];
  return 'string';
}
