// What is coloured how, by the tags that JupyterLab's own theme has colours for.

import { ensureSyntaxTree } from '@codemirror/language';
import { EditorState } from '@codemirror/state';
import type { Tree } from '@lezer/common';
import { highlightTree, tagHighlighter, tags } from '@lezer/highlight';
import { describe, expect, it } from 'vitest';
import { cellLanguage, composeFile, fileLanguage } from './language';

const lab = tagHighlighter([
  { tag: tags.meta, class: 'meta' },
  { tag: tags.keyword, class: 'keyword' },
  { tag: tags.number, class: 'number' },
  { tag: tags.bool, class: 'bool' },
  { tag: tags.null, class: 'null' },
  { tag: tags.standard(tags.variableName), class: 'type' },
  { tag: tags.special(tags.variableName), class: 'path' },
  { tag: tags.propertyName, class: 'key' },
  { tag: tags.comment, class: 'comment' },
  { tag: tags.string, class: 'string' },
  { tag: tags.special(tags.string), class: 'header' },
  { tag: tags.labelName, class: 'label' },
  { tag: tags.typeName, class: 'tag' },
  { tag: tags.bracket, class: 'bracket' }
]);

/** The coloured pieces of a text, each as `class:piece`. */
function coloured(doc: string, tree: Tree = fileLanguage.parser.parse(doc)): string[] {
  const pieces: string[] = [];
  highlightTree(tree, lab, (from, to, style) => {
    pieces.push(`${style}:${doc.slice(from, to).trim()}`);
  });
  return pieces;
}

const cell = (doc: string) => coloured(doc, cellLanguage.parser.parse(doc));
const INPUT = ['meta:${', 'path:input.x'];
const PLAIN = [...INPUT, 'meta:}'];

describe('the first line', () => {
  it('is plain but for the magic, whatever it holds', () => {
    const line = '%%compose story --run key="a: b" n:=1 # no';
    expect(cell(`${line}\na: 1`)).toEqual(['meta:%%compose', 'key:a', 'number:1']);
    expect(cell(line)).toEqual(['meta:%%compose']);
  });

  it('is the magic line only at the start of a cell, and only once', () => {
    expect(cell('%%compose\n%%compose b\na: 1')).toEqual([
      'meta:%%compose',
      'meta:%%compose b',
      'key:a',
      'number:1'
    ]);
    expect(cell('\n%%compose a: 1')).toEqual(['meta:%%compose a: 1']);
    expect(cell('a: 1\n%%compose b')).toEqual(['key:a', 'number:1', 'meta:%%compose b']);
    expect(cell('%%composer b')).toEqual(['meta:%%composer b']);
    expect(coloured('%%compose a\nb: 1')).toEqual(['meta:%%compose a', 'key:b', 'number:1']);
  });
});

describe('YAML', () => {
  it('has keys, plain and quoted, in lists and in brackets', () => {
    expect(coloured('a: b\n"c": d\n- e f: g')).toEqual(['key:a', 'key:"c"', 'key:e f']);
    expect(coloured("x: {a: b, 'c':d, e f: [g]}")).toEqual([
      'key:x',
      'bracket:{',
      'key:a',
      "key:'c'",
      'key:e f',
      'bracket:[',
      'bracket:]}'
    ]);
    expect(coloured('- - a: b')).toEqual(['key:a']);
    expect(coloured('a : 1')).toEqual(['key:a', 'number:1']);
    expect(coloured('a:b')).toEqual([]);
    expect(coloured('a: b: c')).toEqual(['key:a']);
  });

  it.each([
    '1',
    '-1',
    '+1',
    '010',
    '0.5',
    '.5',
    '1.',
    '1e3',
    '1.5E-3',
    '0x1F',
    '0o17',
    '.inf',
    '-.inf',
    '.nan'
  ])('has the number %s', number => {
    expect(coloured(`a: ${number}`)).toEqual(['key:a', `number:${number}`]);
    expect(coloured(`a: ${number} # c`)).toEqual(['key:a', `number:${number}`, 'comment:# c']);
    expect(coloured(`- ${number}`)).toEqual([`number:${number}`]);
    expect(coloured(`[${number}, ${number}]`)).toEqual([
      'bracket:[',
      `number:${number}`,
      `number:${number}`,
      'bracket:]'
    ]);
  });

  it.each(['true', 'True', 'FALSE', 'false'])('has the boolean %s', word => {
    expect(coloured(`a: ${word}`)).toEqual(['key:a', `bool:${word}`]);
    expect(coloured(`{a: ${word}}`)).toEqual(['bracket:{', 'key:a', `bool:${word}`, 'bracket:}']);
  });

  it.each(['null', 'Null', '~'])('has %s', word => {
    expect(coloured(`a: ${word}`)).toEqual(['key:a', `null:${word}`]);
  });

  it.each([
    '1 2',
    'true story',
    '1:30',
    '2024-01-01',
    'nullable',
    '1.2.3',
    '-',
    'nO-1',
    '~/a',
    '1_0'
  ])('takes %s as text', text => {
    expect(coloured(`a: ${text}`)).toEqual(['key:a']);
  });

  it('colours no number in what goes on from the line above', () => {
    expect(coloured('a: some\n  42\nb: 42')).toEqual(['key:a', 'key:b', 'number:42']);
  });

  it('has comments, but not within text', () => {
    expect(coloured('# a: 1\nb: c#d # e\n# f')).toEqual([
      'comment:# a: 1',
      'key:b',
      'comment:# e',
      'comment:# f'
    ]);
    expect(coloured('a: "# b"')).toEqual(['key:a', 'string:"# b"']);
  });

  it('has comments below text, too', () => {
    expect(coloured('a\n# b')).toEqual(['comment:# b']);
  });

  it('has quoted text below what stood deeper', () => {
    expect(coloured('  k: v\n"x\n y: 1"')).toEqual(['key:k', 'string:"x', 'string:y: 1"']);
  });

  it('has quoted text, over lines, with its escapes', () => {
    expect(coloured('a: "b \\" c: 1"\nd: 1')).toEqual([
      'key:a',
      'string:"b \\" c: 1"',
      'key:d',
      'number:1'
    ]);
    expect(coloured("a: 'it''s'\nd: 1")).toEqual(['key:a', "string:'it''s'", 'key:d', 'number:1']);
    expect(coloured('a: "b\n  c: 1"\nd: 1')).toEqual([
      'key:a',
      'string:"b',
      'string:c: 1"',
      'key:d',
      'number:1'
    ]);
  });

  it.each(['|', '>', '|-', '>+', '|2', '| # c'])('leaves text after %s alone', header => {
    const [first, ...rest] = coloured(`a: ${header}\n  b: 1\n\n  "c # d\n   e: {\nf: 1`);
    expect(first).toBe('key:a');
    expect(rest[0]).toMatch(/^header:/);
    expect(rest.filter(piece => !/^(header|comment):/.test(piece))).toEqual(['key:f', 'number:1']);
  });

  it('ends a block scalar of a list where the next item begins', () => {
    expect(coloured('- |\n  a: 1\n- b: 1')).toEqual(['header:|', 'key:b', 'number:1']);
    expect(coloured('- k: |\n    a: 1\n  b: 1')).toEqual([
      'key:k',
      'header:|',
      'key:b',
      'number:1'
    ]);
  });

  it('has anchors, aliases, tags and markers', () => {
    expect(coloured('a: &x {b: 1}\nc: *x\nd: !!str 1\n---\ne: 1')).toEqual([
      'key:a',
      'label:&x',
      'bracket:{',
      'key:b',
      'number:1',
      'bracket:}',
      'key:c',
      'label:*x',
      'key:d',
      'tag:!!str',
      'number:1',
      'meta:---',
      'key:e',
      'number:1'
    ]);
  });

  it('has brackets over lines, which may close in the column of their key', () => {
    expect(coloured('a: [\n  1,\n  b: 2\n]\nc: 1')).toEqual([
      'key:a',
      'bracket:[',
      'number:1',
      'key:b',
      'number:2',
      'bracket:]',
      'key:c',
      'number:1'
    ]);
  });

  it.each([
    'compon',
    'k: "open',
    "k: 'open",
    'k: [1, {',
    'k: ${input.x | {',
    'k: "${input.x',
    '- a'
  ])('goes on with the next key after the unfinished %s', unfinished => {
    expect(coloured(`${unfinished}\nnext: x, y: 1`).pop()).toBe('key:next');
  });

  it('takes characters that are no line ends in an editor', () => {
    expect(coloured('a: "x\u2028y\\\u2028z"\nb: \u2028c\nd: 1').slice(-2)).toEqual([
      'key:d',
      'number:1'
    ]);
  });
});

describe('an expression', () => {
  it('is coloured in every kind of scalar', () => {
    expect(coloured('a: ${input.x}')).toEqual(['key:a', ...PLAIN]);
    expect(coloured('a: say ${input.x} now')).toEqual(['key:a', ...PLAIN]);
    expect(coloured('- ${input.x}')).toEqual(PLAIN);
    expect(coloured('a: "b ${input.x} c"')).toEqual(['key:a', 'string:"b', ...PLAIN, 'string:c"']);
    expect(coloured("a: 'b ${input.x} c'")).toEqual(['key:a', "string:'b", ...PLAIN, "string:c'"]);
    expect(coloured('a: |\n  b ${input.x} c\n  ${input.x}')).toEqual([
      'key:a',
      'header:|',
      ...PLAIN,
      ...PLAIN
    ]);
    expect(coloured('a: >\n  ${input.x}')).toEqual(['key:a', 'header:>', ...PLAIN]);
    expect(coloured('[${input.x}, b ${input.x}]')).toEqual([
      'bracket:[',
      ...PLAIN,
      ...PLAIN,
      'bracket:]'
    ]);
    expect(coloured('a:\n  ${input.x}\n  and ${input.x}')).toEqual(['key:a', ...PLAIN, ...PLAIN]);
  });

  it('is none in a comment', () => {
    expect(coloured('# ${input.x}\na: 1 # ${input.x')).toEqual([
      'comment:# ${input.x}',
      'key:a',
      'number:1',
      'comment:# ${input.x'
    ]);
  });

  it('has a colour for each part', () => {
    expect(coloured('a: ${input.x as select/a,b | 0.7 @(description Who (it) is)}')).toEqual([
      'key:a',
      ...INPUT,
      'keyword:as',
      'type:select/a,b',
      'meta:|',
      'number:0.7',
      'comment:@(description Who (it) is)',
      'meta:}'
    ]);
    expect(coloured('a: ${input.x as text[] @(d x)}').slice(3)).toEqual([
      'keyword:as',
      'type:text[]',
      'comment:@(d x)',
      'meta:}'
    ]);
    expect(coloured('a: ${ input.x@(d x) | y @(e z) }')).toEqual([
      'key:a',
      ...INPUT,
      'comment:@(d x)',
      'meta:|',
      'string:y',
      'comment:@(e z)',
      'meta:}'
    ]);
  });

  it.each([
    'input',
    'jobs.a-b.output',
    'input.tags[0]',
    'input.tags[-1:]',
    'input.users[*].id',
    'input["sp } ace"]',
    "input['x']",
    'input.tags[index]',
    'über.größe'
  ])('has the path %s', path => {
    expect(coloured(`a: \${${path}}`)).toEqual(['key:a', 'meta:${', `path:${path}`, 'meta:}']);
  });

  it.each([
    ['1', 'number'],
    ['-2.5', 'number'],
    ['true', 'bool'],
    ['null', 'null'],
    ['some text', 'string'],
    ['"a } b"', 'string'],
    ["'a } b'", 'string'],
    ["'it''s } b'", 'string'],
    ["'tis", 'string'],
    ['"a" b', 'string'],
    ['"\\" } "', 'string'],
    ['{"a": {}}', 'string'],
    ['[1, 2]', 'string'],
    ['a: b # c, d', 'string'],
    ['1 apple', 'string'],
    ['me@(you)', 'string'],
    ["''", 'string']
  ])('has the default %s', (written, style) => {
    const expected = [...INPUT, 'meta:|', `${style}:${written}`, 'meta:}'];
    expect(coloured(`a: \${input.x | ${written}}`)).toEqual(['key:a', ...expected]);
    expect(coloured(`{a: \${input.x | ${written}}, b: 1}`)).toEqual([
      'bracket:{',
      'key:a',
      ...expected,
      'key:b',
      'number:1',
      'bracket:}'
    ]);
    expect(coloured(`a: |\n  \${input.x | ${written}}\nb: 1`)).toEqual([
      'key:a',
      'header:|',
      ...expected,
      'key:b',
      'number:1'
    ]);
  });

  it('nests, in defaults and in subscripts', () => {
    expect(coloured('a: ${input.a | "x: } ${input.x | "y: }"} z"}\nb: 1')).toEqual([
      'key:a',
      'meta:${',
      'path:input.a',
      'meta:|',
      'string:"x: }',
      ...INPUT,
      'meta:|',
      'string:"y: }"',
      'meta:}',
      'string:z"',
      'meta:}',
      'key:b',
      'number:1'
    ]);
    expect(coloured('a: ${input.a | b ${input.x} c}')).toEqual([
      'key:a',
      'meta:${',
      'path:input.a',
      'meta:|',
      'string:b',
      ...PLAIN,
      'string:c',
      'meta:}'
    ]);
    expect(coloured('a: ${input.a[${input.x}].b | 1}')).toEqual([
      'key:a',
      'meta:${',
      'path:input.a[',
      ...PLAIN,
      'path:].b',
      'meta:|',
      'number:1',
      'meta:}'
    ]);
  });

  it('goes over lines', () => {
    const parts = [...INPUT, 'meta:|', 'number:3', 'comment:@(d', 'comment:x)', 'meta:}'];
    expect(coloured('a: ${input.x\n    | 3 @(d\n  x)}\nb: 1')).toEqual([
      'key:a',
      ...parts,
      'key:b',
      'number:1'
    ]);
    expect(coloured('a: |\n  ${input.x\n  | 3 @(d\n  x)}\nb: 1')).toEqual([
      'key:a',
      'header:|',
      ...parts,
      'key:b',
      'number:1'
    ]);
  });

  it('does not end its scalar where YAML alone would', () => {
    expect(coloured('text: ${input.x | a: b} tail # c')).toEqual([
      'key:text',
      ...INPUT,
      'meta:|',
      'string:a: b',
      'meta:}',
      'comment:# c'
    ]);
    expect(coloured('- ${input.x | a: b}\n- c: 1')).toEqual([
      ...INPUT,
      'meta:|',
      'string:a: b',
      'meta:}',
      'key:c',
      'number:1'
    ]);
    expect(coloured('{a: ${input.x as select/a,b | c, d: e}, f: 1}').slice(-3)).toEqual([
      'key:f',
      'number:1',
      'bracket:}'
    ]);
  });

  it('ends with its quoted scalar', () => {
    expect(coloured('a: "${input.x | b"\nc: 1')).toEqual([
      'key:a',
      'string:"',
      ...INPUT,
      'meta:|',
      'string:b"',
      'key:c',
      'number:1'
    ]);
    expect(coloured('a: "${input.x | \\"b } c\\"} d"\ne: 1')).toEqual([
      'key:a',
      'string:"',
      ...INPUT,
      'meta:|',
      'string:\\"b } c\\"',
      'meta:}',
      'string:d"',
      'key:e',
      'number:1'
    ]);
    expect(coloured("a: '${input.x | ''b } c''} d'\ne: 1")).toEqual([
      'key:a',
      "string:'",
      ...INPUT,
      'meta:|',
      "string:''b } c''",
      'meta:}',
      "string:d'",
      'key:e',
      'number:1'
    ]);
    expect(coloured('a: "${input[\\"x y\\"]}"')).toEqual([
      'key:a',
      'string:"',
      'meta:${',
      'path:input[\\"x y\\"]',
      'meta:}',
      'string:"'
    ]);
  });

  it.each(['| b', 'as text', '@(d x', '["x', ''])('ends with its quoted scalar after %s', part => {
    expect(coloured(`{a: "\${input.x ${part}", c: d, e: 1}`).slice(-3)).toEqual([
      'key:e',
      'number:1',
      'bracket:}'
    ]);
  });

  it('is literal behind an odd number of backslashes', () => {
    expect(coloured('a: \\${input.x}')).toEqual(['key:a']);
    expect(coloured('a: b \\\\${input.x}')).toEqual(['key:a', ...PLAIN]);
    expect(coloured('a: |\n  \\${input.x}')).toEqual(['key:a', 'header:|']);
    expect(coloured("a: '\\${input.x}'")).toEqual(['key:a', "string:'\\${input.x}'"]);
    expect(coloured('a: "\\\\${input.x}"')).toEqual(['key:a', 'string:"\\\\${input.x}"']);
    expect(coloured('a: "\\\\\\\\${input.x}"')).toEqual([
      'key:a',
      'string:"\\\\\\\\',
      ...PLAIN,
      'string:"'
    ]);
    expect(coloured('a: $${input.x}')).toEqual(['key:a', ...PLAIN]);
    expect(coloured('a: ${input.x | \\${b}')).toEqual([
      'key:a',
      ...INPUT,
      'meta:|',
      'string:\\${b',
      'meta:}'
    ]);
  });

  it('stays plain where it is wrong, to its brace or the end of its line', () => {
    expect(coloured('a: |\n  costs ${ 1\n  }')).toEqual(['key:a', 'header:|', 'meta:${']);
    expect(coloured('a: ${} b')).toEqual(['key:a', 'meta:${}']);
    expect(coloured('a: ${input x {y}} b ${input.x}')).toEqual([
      'key:a',
      'meta:${',
      'path:input',
      'meta:}',
      ...PLAIN
    ]);
    expect(coloured('a: |\n  costs ${ 1 | or\n  ${input.x}')).toEqual([
      'key:a',
      'header:|',
      'meta:${',
      ...PLAIN
    ]);
  });
});

describe('a document of which much is wrong', () => {
  const DOC = [
    '%%compose s',
    'a: ${input.x as text | "b ${input["c"]} }" @(d (e))}',
    "f: {g: [1, \"h\\\"\", 'i''']}",
    'j: |-',
    '  ${k | l',
    '  } \\${m}',
    '- "n ${o | \\"p\\"} q"',
    "- 'r ${s | ''t''}'",
    '? u',
    ': v # w',
    ''
  ].join('\n');

  it('is read to its end, whatever is left out', () => {
    for (let from = 0; from < DOC.length; from++) {
      for (const to of [from + 1, from + 7, DOC.length]) {
        const doc = DOC.slice(0, from) + DOC.slice(to);
        expect(cellLanguage.parser.parse(doc).length).toBe(doc.length);
      }
    }
  });

  it('is coloured while one types as it is when read anew', () => {
    const extensions = composeFile();
    let state = EditorState.create({ doc: DOC.repeat(20), extensions });
    for (let step = 0; step < 60; step++) {
      const from = (step * 7919) % state.doc.length;
      const insert = ['"', '${', '}', '\n', '|', "'", '{', ' '][step % 8];
      state = state.update({ changes: { from, to: from + (step % 3), insert } }).state;
      const doc = state.doc.toString();
      const tree = ensureSyntaxTree(state, doc.length, 10_000) as Tree;
      expect(coloured(doc, tree)).toEqual(coloured(doc));
    }
  });
});
