// Colours of `${path as type | default @(note)}`, token by token, so that expressions may nest and
// span lines. What is right is the kernel's to say: here wrong ones only stay plain.

import type { StringStream } from '@codemirror/language';

/** The quotes of the YAML scalar that an expression stands in; none in plain and block scalars. */
export type Quote = '' | '"' | "'";

/** One expression that is not closed yet, and what is read of it. */
export interface IOpenExpression {
  part: 'path' | 'as' | 'type' | 'more' | 'default' | 'text' | 'note' | 'broken';
  /** The braces, or in a note the parentheses, that are open in the part. */
  depth: number;
  /** What ends the quoted text that is read of the default. */
  quote: string;
}

/** Numbers, booleans and null, as the kernel's reader takes them. */
const CONSTANTS: readonly [style: string, pattern: string][] = [
  ['null', 'null|Null|NULL|~'],
  ['bool', 'true|True|TRUE|false|False|FALSE'],
  ['number', '0o[0-7]+|0x[0-9a-fA-F]+|[-+]?\\.(?:inf|Inf|INF)|\\.(?:nan|NaN|NAN)'],
  ['number', '[-+]?(?:\\.[0-9]+|[0-9]+(?:\\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?']
];

/** The constants that may stand before `end`, a pattern. */
export function constants(end: string): readonly [style: string, pattern: RegExp][] {
  return CONSTANTS.map(([style, pattern]) => [style, new RegExp(`^(?:${pattern})(?=${end})`)]);
}

const BRACE = 'meta';
const PATH = 'variableName.special';
const WORD = 'keyword';
const TYPE = 'variableName.standard';
const TEXT = 'string';
const NOTE = 'comment';

const NAME = '[\\p{L}_][\\p{L}\\p{N}_-]*';
const SEGMENTS = `(?:\\.(?:${NAME})?|\\[(?:[^\\]"'$}]*|\\s*\\\\?"[^"]*"\\s*|\\s*'[^']*'\\s*)\\])*`;
const STARTS_PATH = new RegExp(`^${NAME}${SEGMENTS}`, 'u');
const GOES_ON = new RegExp(`^\\]${SEGMENTS}`, 'u'); // behind a subscript that is an expression
const DEFAULTS = constants('\\s*(?:\\}|@\\()');
const OPENERS: Record<Quote, RegExp> = { '': /^["']/, '"': /^(?:\\"|')/, "'": /^(?:"|'')/ };

/** Text of one scalar on one line: reads it and moves the stream, but no further than `end`. */
export class ScalarReader {
  constructor(
    private stream: StringStream,
    private open: IOpenExpression[],
    private quote: Quote,
    private end: number = stream.string.length
  ) {}

  /** Take an expression's next token, or text in `style` as far as `pattern` goes. */
  token(pattern: RegExp, style: string | null): string | null {
    if (this.open.length) {
      return this.expression(this.open[this.open.length - 1]);
    }
    if (this.begins()) {
      return BRACE;
    }
    if (!this.escaped()) {
      this.take(pattern);
    }
    return style;
  }

  private expression(now: IOpenExpression): string | null {
    switch (now.part) {
      case 'path':
        if (this.take(/^\s+/)) {
          return null;
        }
        now.part = this.take(STARTS_PATH) ? 'more' : 'broken';
        return now.part === 'more' ? PATH : null;
      case 'as':
        this.take(/^as/);
        now.part = 'type';
        return WORD;
      case 'type':
        if (this.take(/^\s+/)) {
          return null;
        }
        this.take(/^(?:(?!@\()[^|}])+/);
        now.part = 'more';
        return TYPE;
      case 'more':
        return this.more(now);
      case 'default':
        return this.beginsDefault(now);
      case 'text':
        return now.quote ? this.quoted(now) : this.raw(now);
      case 'note':
        return this.note(now);
      case 'broken':
        return this.raw(now) === BRACE ? BRACE : null;
    }
  }

  private more(now: IOpenExpression): string | null {
    if (this.take(/^\s+(?=as(?:\s|$))/)) {
      now.part = 'as';
      return null;
    }
    if (this.take(/^\s+/)) {
      return null;
    }
    if (this.take(/^\[\s*(?=\$\{)/) || this.take(GOES_ON)) {
      return PATH;
    }
    if (this.begins() || this.ends()) {
      return BRACE;
    }
    if (this.take(/^\|/)) {
      now.part = 'default';
      return BRACE;
    }
    if (this.beginsNote(now)) {
      return NOTE;
    }
    now.part = 'broken';
    return null;
  }

  private beginsDefault(now: IOpenExpression): string | null {
    if (this.take(/^\s+/)) {
      return null;
    }
    const constant = DEFAULTS.find(([, pattern]) => this.take(pattern));
    if (constant) {
      now.part = 'more';
      return constant[0];
    }
    now.part = 'text';
    now.depth = 0;
    now.quote = this.take(OPENERS[this.quote]);
    // Quotes are quotes where nothing but the end follows them, as in the kernel's grammar.
    const rest = this.rest.split(now.quote || '\n').slice(1);
    if (now.quote && !rest.some(text => /^\s*(?:\}|@\()/.test(text))) {
      now.quote = '';
      return TEXT;
    }
    return now.quote ? TEXT : this.raw(now);
  }

  private quoted(now: IOpenExpression): string {
    if (this.begins()) {
      return BRACE;
    }
    const { rest } = this;
    if (rest.startsWith(now.quote) && !(now.quote === "'" && rest.startsWith("''"))) {
      this.stream.pos += now.quote.length;
      now.quote = '';
    } else if (!this.escaped()) {
      this.some(now.quote);
    }
    return TEXT;
  }

  /** Take text without quotes, in which braces come in pairs. */
  private raw(now: IOpenExpression): string {
    if (this.begins() || (now.depth === 0 && this.ends())) {
      return BRACE;
    }
    if (now.depth === 0 && /[\s|]/.test(this.before) && this.beginsNote(now)) {
      return NOTE;
    }
    if (!this.escaped()) {
      const taken = this.some();
      now.depth += taken === '{' ? 1 : taken === '}' ? -1 : 0;
    }
    return TEXT;
  }

  private note(now: IOpenExpression): string {
    const parenthesis = this.take(/^[()]/) || this.take(/^[^()]+/);
    now.depth += parenthesis === '(' ? 1 : parenthesis === ')' ? -1 : 0;
    if (!now.depth) {
      now.part = 'more';
    }
    return NOTE;
  }

  private begins(): boolean {
    const begins = this.take(/^\$\{/) !== '';
    if (begins) {
      this.open.push({ part: 'path', depth: 0, quote: '' });
    }
    return begins;
  }

  private ends(): boolean {
    const ends = this.take(/^\}/) !== '';
    if (ends) {
      this.open.pop();
    }
    return ends;
  }

  private beginsNote(now: IOpenExpression): boolean {
    const begins = this.take(/^@\(/) !== '';
    if (begins) {
      now.part = 'note';
      now.depth = 1;
    }
    return begins;
  }

  /** Take backslashes before `${`, and `${` with them where they make it ordinary text. */
  private escaped(): boolean {
    const slashes = this.take(/^\\+(?=\$\{)/).length;
    const read = this.quote === '"' ? Math.ceil(slashes / 2) : slashes;
    if (read % 2) {
      this.take(/^\$\{/);
    }
    return slashes > 0;
  }

  /** Take one character, or several that mean nothing; pairs that stand for a quote stay whole. */
  private some(quote = ''): string {
    const around = this.quote || quote;
    const pair = around === '"' ? /^\\./s : /^''/;
    return (around && this.take(pair)) || this.take(/^[^"'\\${}@]+/) || this.take(/^./su);
  }

  private take(pattern: RegExp): string {
    const taken = pattern.exec(this.rest)?.[0] ?? '';
    this.stream.pos += taken.length;
    return taken;
  }

  private get rest(): string {
    return this.stream.string.slice(this.stream.pos, this.end);
  }

  private get before(): string {
    return this.stream.string.charAt(this.stream.pos - 1);
  }
}
