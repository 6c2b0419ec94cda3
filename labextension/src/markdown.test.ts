// @vitest-environment jsdom
// Markdown of a model in the page: the Python package's script, with the parser that JupyterLab has.

import { Marked } from 'marked';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  hideFromParser,
  isDrawable,
  isTypesettable,
  MarkdownView,
  markdownBlocks,
  settled
} from '../../modelcompose_jupyter/widgets/markdown.js';

/** A registry as JupyterLab's: code is highlighted word by word, diagrams and formulas are seen. */
class RenderMime {
  parsed: string[] = [];
  diagrams: string[] = [];
  typeset: string[] = [];
  fails = false;

  #marked = new Marked({
    async: true,
    renderer: {
      code: ({ text, lang }) => {
        if (lang === 'mermaid') {
          this.diagrams.push(text);
          const image = `<img src="data:image/svg+xml,${encodeURIComponent(text)}" width="99">`;
          return `<div class="jp-RenderedMermaid"><figure>${image}<pre>${text}</pre></figure></div>`;
        }
        const words = document.createElement('div');
        for (const word of text.split(/(\w+)/)) {
          const span = words.appendChild(document.createElement('span'));
          span.className = 'word';
          span.textContent = word;
        }
        return `<pre><code class="language-${lang}">${words.innerHTML}</code></pre>`;
      }
    }
  });

  markdownParser = {
    render: async (source: string): Promise<string> => {
      this.parsed.push(source);
      if (this.fails) {
        throw new Error('too deep');
      }
      return this.#marked.parse(source);
    }
  };

  latexTypesetter = {
    typeset: async (node: HTMLElement): Promise<void> => {
      for (const formula of node.querySelectorAll('.mathjax_process')) {
        this.typeset.push(formula.textContent ?? '');
        formula.innerHTML = '<mjx-container id="mjx-1">formula</mjx-container>';
      }
    }
  };
}

let rendermime: RenderMime;
let view: MarkdownView;
let copied: string[];

beforeEach(() => {
  rendermime = new RenderMime();
  copied = [];
  const copy = async (text: string) => copied.push(text) > 0;
  view = new MarkdownView(rendermime, { copy });
  document.body.replaceChildren(view.element);
});

afterEach(() => {
  view.dispose();
  vi.restoreAllMocks();
});

async function shown(source: string, growing = false): Promise<HTMLElement> {
  view.update(source, { growing });
  await view.drawn();
  return view.element;
}

const query = (selector: string): HTMLElement => {
  const found = view.element.querySelector<HTMLElement>(selector);
  if (!found) {
    throw new Error(`no ${selector} in ${view.element.innerHTML}`);
  }
  return found;
};
const all = (selector: string): HTMLElement[] => [
  ...view.element.querySelectorAll<HTMLElement>(selector)
];
const blocks = (source: string) => [...markdownBlocks(source)].map(({ text }) => text.trimEnd());

describe('blocks', () => {
  it.each([
    ['paragraphs', 'a\nb\n\nc', ['a\nb', 'c']],
    ['code in them', 'a\n```py\nx\n\ny\n```\nb', ['a', 'x\n\ny', 'b']],
    ['code with longer fences', '````\n```\n````\nb', ['```', 'b']],
    ['code of tildes', '~~~\n```\n~~~', ['```']],
    ['no code, since its first line has more', '```a`b\n\nc', ['```a`b', 'c']],
    ['code that has no end', '```\na\n\nb', ['a\n\nb']],
    ['loose lists', '- a\n\n- b\n\n  c\n\nd', ['- a\n\n- b\n\n  c', 'd']],
    [
      'numbers that go on',
      '1. a\n\n   ```\n   x\n\n   y\n   ```\n\n2. b',
      ['1. a\n\n   ```\n   x\n\n   y\n   ```\n\n2. b']
    ],
    ['a list after its words', 'Do:\n- a\n\n  b', ['Do:\n- a\n\n  b']],
    ['Windows lines', 'a\r\n\r\n```\r\nx\r\n```\r\n', ['a', 'x']],
    ['empty lines', '\n\n \n', []]
  ])('are %s', (_, source, expected) => {
    expect(blocks(source)).toEqual(expected);
  });

  it('begin where they say, so that the rest may be read from there', () => {
    const source = 'a\n\n- b\n\n- c\n\n```x\ny\n```\nd\ne\n\n\nf';
    const whole = [...markdownBlocks(source)];
    for (const [index, { start }] of whole.entries()) {
      expect([...markdownBlocks(source, start)]).toEqual(whole.slice(index));
    }
  });

  it('of a long list are several', () => {
    const list = Array.from({ length: 500 }, (_, index) => `${index + 1}. item of a list`);
    const pieces = blocks(list.join('\n\n'));
    expect(pieces.length).toBeGreaterThan(1);
    expect(pieces.join('\n\n')).toBe(list.join('\n\n'));
  });
});

describe('a text that grows', () => {
  it.each([
    ['a **b', 'a **b**'],
    ['a **b*', 'a **b**'],
    ['a **b** *c', 'a **b** *c'],
    ['a **', 'a '],
    ['a `b', 'a `b`'],
    ['a `', 'a '],
    ['a `b` c', 'a `b` c'],
    ['see [the site](https://exa', 'see the site'],
    ['a\n1', 'a'],
    ['a\n- ', 'a'],
    ['a\n##', 'a'],
    ['| a | b |', ''],
    ['| a | b |\n|--', ''],
    ['| a | b |\n|---|---|\n| c', '| a | b |\n|---|---|\n| c']
  ])('%j is taken for %j', (text, expected) => {
    const block = { start: 0, kind: 'text' as const, text, language: '', closed: true };
    expect(settled(block).text).toBe(expected);
  });

  it('shows code without the beginning of its end', () => {
    const [block] = markdownBlocks('```py\nx\n``');
    expect(settled(block).text).toBe('x');
  });

  it('keeps what it has shown, with a selection in it', async () => {
    await shown('# Title\n\nFirst *words* $x$\n\nand', true);
    const nodes = all('h1, em, .modelcompose-formula, p');
    const text = nodes.at(-1)?.firstChild as Text;
    document.getSelection()?.selectAllChildren(nodes.at(-1) as Node);
    await shown('# Title\n\nFirst *words* $x$\n\nand so on\n\n- a\n- b\n', true);
    await shown('# Title\n\nFirst *words* $x$\n\nand so on\n\n- a\n- b\n- c\n\nend');
    expect(all('h1, em, .modelcompose-formula, p').slice(0, nodes.length)).toEqual(nodes);
    expect(nodes.every(node => node.isConnected)).toBe(true);
    expect(text.isConnected).toBe(true);
    expect(document.getSelection()?.toString()).toBe('and so on');
    expect(rendermime.typeset).toEqual(['\\(x\\)']);
    expect(view.element.textContent).toContain('end');
  });

  it('is parsed anew at its end alone', async () => {
    const paragraphs = Array.from({ length: 60 }, (_, index) => `Paragraph ${index} of *many*.`);
    await shown(paragraphs.join('\n\n'), true);
    rendermime.parsed.length = 0;
    await shown(`${paragraphs.join('\n\n')} And`, true);
    await shown(`${paragraphs.join('\n\n')} And more\n\nNext`, true);
    expect(rendermime.parsed.join()).not.toContain('Paragraph 58');
    expect(rendermime.parsed.length).toBeLessThanOrEqual(4);
    expect(all('em').length).toBe(60);
  });

  it('is drawn now and then, not at each update', async () => {
    for (let length = 1; length <= 200; length++) {
      view.update('x'.repeat(length), { growing: true });
      if (length % 20 === 0) {
        await Promise.resolve();
      }
    }
    await view.drawn();
    expect(view.element.textContent).toBe('x'.repeat(200));
    expect(rendermime.parsed.length).toBeLessThan(4);
  });

  it('grows as code in a fence that is open, and keeps its lines', async () => {
    await shown('```python\ndef f():', true);
    const first = query('.word');
    await shown('```python\ndef f():\n    return 1\n``', true);
    expect(query('code').textContent).toBe('def f():\n    return 1');
    expect(first.isConnected).toBe(true);
  });

  it('shows a formula of its own line as its source until it has ended', async () => {
    await shown('So:\n\n$$x_1 * y_1 =', true);
    expect(query('p > code').textContent).toBe('$$x_1 * y_1 =');
    await shown('So:\n\n$$x_1 * y_1 = 2$$', true);
    expect(rendermime.typeset).toEqual(['\\[x_1 * y_1 = 2\\]']);
  });

  it('draws a diagram once, when its fence is closed', async () => {
    const diagram = 'graph LR\n  A --> B';
    await shown(`\`\`\`mermaid\n${diagram}`, true);
    await shown(`\`\`\`mermaid\n${diagram}\n\`\`\`\n`, true);
    expect(all('img')).toEqual([]);
    await shown(`\`\`\`mermaid\n${diagram}\n\`\`\`\n\nSo`, true);
    const image = query('.modelcompose-diagram img');
    await shown(`\`\`\`mermaid\n${diagram}\n\`\`\`\n\nSo it is.`);
    expect(query('.modelcompose-diagram img')).toBe(image);
    expect(rendermime.diagrams).toEqual([diagram]);
  });

  it('may become another one', async () => {
    await shown('- a\n- b\n\n# c');
    await shown('x');
    expect(view.element.innerHTML).toMatch(/^<div class="mathjax_ignore"><p>x<\/p><\/div>$/);
    await shown('');
    expect(view.element.innerHTML).toBe('');
  });
});

describe('formulas', () => {
  it.each([
    ['$x$', '\\(x\\)'],
    ['\\(x_1 * y_1\\)', '\\(x_1 * y_1\\)'],
    ['$$x$$', '\\[x\\]'],
    ['\\[\n- x\n= y\n\\]', '\\[\n- x\n= y\n\\]'],
    ['\\begin{align}x &= y \\\\ z\\end{align}', '\\begin{align}x &= y \\\\ z\\end{align}'],
    ['| a |\n|---|\n| $|x|$ |', '\\(|x|\\)'],
    ['- $a_1$ is', '\\(a_1\\)'],
    ['$x<y>z$', '\\(x<y>z\\)'],
    ['$$x\\label{eq:1}$$', '\\[x\\]'],
    ['값은 $x$는', '\\(x\\)']
  ])('%j is typeset', async (source, tex) => {
    await shown(source);
    expect(rendermime.typeset).toEqual([tex]);
    expect(query('.modelcompose-formula').innerHTML).not.toContain('id=');
  });

  it.each([
    'it costs $5, not $10',
    '\\$5 and 6\\$',
    '`$x$` and `` \\(y\\) ``',
    '```sh\necho $HOME $PATH\n```',
    '- a\n  ```sh\n  echo $A $B\n  ```',
    'a $x\n\ny$ b',
    '[a](https://example.org/$x$y)'
  ])('%j has none', async source => {
    await shown(source);
    expect(rendermime.typeset).toEqual([]);
    expect(view.element.innerHTML).not.toMatch(/[\uE000-\uE003]|%EE%80/);
  });

  it.each([
    '\\href{javascript:alert(1)}{x}',
    '\\require{html}x',
    '\\unicode{x41}',
    '\\style{background:url(//evil.example)}{x}',
    '\\class{jp-Dialog}{x}',
    '\\cssId{main}{x}',
    '\\bbox[background:url(//evil.example)]{x}',
    '\\def\\a{\\a\\a}\\a',
    '\\newcommand{\\alpha}{x}\\alpha',
    '\\let\\alpha\\beta',
    '\\csname href\\endcsname{//evil.example}{x}',
    '\\htmlData{a=b}{x}',
    '\\mmlToken{mi}[href="//evil.example"]{x}',
    '\\begin{array}{*{99999999}{c}}x\\end{array}',
    '\\rule{9999em}{1em}',
    '\\kern-100em x',
    'x\\\\[500pt]y',
    `${'{'.repeat(500)}${'}'.repeat(500)}`,
    `${'\\left('.repeat(100)}`
  ])('%s is shown as its source', async tex => {
    expect(isTypesettable(tex)).toBe(false);
    await shown(`See $${tex}$.`);
    expect(rendermime.typeset).toEqual([]);
    expect(query('code').textContent).toBe(`$${tex}$`);
  });

  it('that MathJax does not understand are shown as their source', async () => {
    rendermime.latexTypesetter.typeset = async node => {
      const formula = node.querySelector('.mathjax_process') as HTMLElement;
      formula.innerHTML = '<mjx-container><mjx-merror>?</mjx-merror></mjx-container>';
    };
    await shown('$\\nosuch$');
    expect(query('.modelcompose-formula').textContent).toBe('$\\nosuch$');
  });

  it('take linear time to be found', () => {
    for (const piece of ['\\(', '\\[', '$$ ', '$a', '`', '``` ', '<', '\\begin{a}', '\\end{a}']) {
      const text = piece.repeat(100_000);
      expect(hideFromParser(text).text.length).toBeGreaterThan(0);
    }
  });
});

describe('code', () => {
  it('is highlighted, and copied as it was written', async () => {
    await shown('```python\nx = "<b>" & `y`\n\n```');
    expect(all('.word').length).toBeGreaterThan(2);
    expect(query('.modelcompose-code-head span').textContent).toBe('python');
    const button = query('button');
    button.click();
    await Promise.resolve();
    await Promise.resolve();
    expect(copied).toEqual(['x = "<b>" & `y`\n']);
    expect(button.textContent).toBe('Copied');
    expect(button.getAttribute('aria-label')).toBe('Copy code');
  });

  it('in a list has its language, too', async () => {
    await shown('1. a\n   ```html\n   <b>x</b> $y$ $z$\n   ```\n2. b');
    expect(query('li .modelcompose-code code').textContent).toBe('<b>x</b> $y$ $z$');
    expect(all('li .word').length).toBeGreaterThan(1);
  });

  it('with fences in it stays whole', async () => {
    await shown('~~~md\n````\n```\n~~~');
    expect(query('code').textContent).toBe('````\n```');
  });

  it('of any language makes no markup', async () => {
    await shown(
      '- ```x"><img/src=x/onerror=alert(1)>\n  y\n  ```\n\n```"onclick="alert(1)\nz\n```'
    );
    expect(all('code').map(({ textContent }) => textContent)).toEqual(['y', 'z']);
    expect(all('img, [onclick], [onerror]')).toEqual([]);
  });
});

describe('safety', () => {
  it.each([
    ['<script>alert(1)</script>'],
    ['<img src="https://evil.example/x" onerror="alert(1)">'],
    ['<style>*{background:url(https://evil.example)}</style>'],
    ['<iframe src="https://evil.example"></iframe>'],
    ['<a href="javascript:alert(1)">x</a>'],
    ['<!-- note -->'],
    ['<sub><b>x</b></sub>'],
    ['<svg><image href="https://evil.example"/></svg>'],
    ['<div id="jp-main-dock-panel">']
  ])('%s stays text', async html => {
    for (const source of [html, `a ${html} b`, `> ${html}`, `| a |\n|---|\n| ${html} |`]) {
      const element = await shown(source);
      expect(element.textContent).toContain(html);
      expect(all('script, img, style, iframe, svg, b, [id], [onerror]')).toEqual([]);
    }
  });

  it('lets small tags be', async () => {
    await shown('H<sub>2</sub>O<br>x <kbd>Ctrl</kbd>');
    expect(all('sub, br, kbd').length).toBe(3);
  });

  it.each([
    '![pixel](https://evil.example/x.png)',
    '![pixel][1]\n\n[1]: https://evil.example/x.png'
  ])('%j becomes a link', async source => {
    await shown(source);
    const link = query('a') as HTMLAnchorElement;
    expect([link.textContent, link.href]).toEqual(['pixel', 'https://evil.example/x.png']);
    expect([link.target, link.rel]).toEqual(['_blank', 'noopener noreferrer nofollow']);
    expect(all('img')).toEqual([]);
  });

  it.each([
    '[x](javascript:alert(1))',
    '[x](JaVaScript&#58;alert(1))',
    '[x](data:text/html,y)',
    '![x](data:image/svg+xml,y)',
    '[x](/lab/api/shutdown)',
    '[x](//evil.example)',
    '[x](#top)',
    '<javascript:alert(1)>',
    '[x][y]\n\n[y]: javascript:alert(1)'
  ])('%j leads nowhere', async source => {
    await shown(source);
    expect(all('[href]')).toEqual([]);
  });

  it('gives links their addresses, and headings no names', async () => {
    await shown('# Main\n\n[x](https://example.org/$a$b?<c>) <https://example.org/d>\n\n[y][z]');
    await shown(`${'# Main\n\n[y][z]'}\n\n[z]: https://example.org/z "why"`);
    const link = query('a') as HTMLAnchorElement;
    expect([link.href, link.title]).toEqual(['https://example.org/z', 'why']);
    expect(all('[id], [name], [data-jupyter-id]')).toEqual([]);
  });

  it.each([
    ['graph TD\n  A-->B', true],
    ['flowchart LR\n  A["x <br/> y"] -->|a & b| B{한국어}\n  style A fill:#f9f', true],
    ['sequenceDiagram\n  A->>B: hello\n  B-->>A: it includes all', true],
    ['classDiagram\n  A <|-- B\n  <<interface>> A', true],
    ['pie\n  "a" : 1', true],
    ['gantt\n  title A\n  section B\n  C :a1, 2024-01-01, 30d', true],
    ['erDiagram\n  A ||--o{ B : has', true],
    ['%%{init: {"flowchart": {"htmlLabels": true}}}%%\ngraph TD\n  A-->B', false],
    ['graph TD\n  %%{init: {"themeCSS": "x"}}%%\n  A-->B', false],
    ['---\nconfig:\n  theme: dark\n---\ngraph TD\n  A-->B', false],
    ['graph TD\n  A-->B\n  click A "https://evil.example"', false],
    ['graph TD\n  A-->B\n  click A href "javascript:alert(1)"', false],
    ['graph TD\n  A["<img src=x>"]', false],
    ['graph TD\n  A@{ img: "x.png" }', false],
    ['graph TD\n  A@{ "im\\x67": "x.png" }', false],
    ['graph TD\n  A\n  style A background:url(x)', false],
    ['graph TD\n  A\n  style A background:u\\72l(x)', false],
    ['graph TD\n  A\n  classDef b background-image: image-set("x" 1x)', false],
    ['graph TD\n  A["#lt;img src=x#gt;"]', false],
    ['graph TD\n  A["&lt;img src=x&gt;"]', false],
    ['graph TD\n  A["http:evil.example"]', false],
    ['gantt\n  tickInterval 1millisecond\n  C :a1, 2024-01-01, 30d', false],
    ['gantt\n  excludes monday\n  C :a1, 2024-01-01, 30d', false],
    ['flowchart-elk TD\n  A-->B', false],
    ['C4Context\n  Person(a, "b")', false],
    ['packet-beta\n  0-999999999: "a"', false],
    [`graph TD\n  ${'A & '.repeat(30)}B --> C`, false],
    [`graph TD\n${'  A --> B\n'.repeat(600)}`, false]
  ])('of a diagram as %.60j is known whether it may be drawn: %s', async (diagram, drawable) => {
    expect(isDrawable(diagram)).toBe(drawable);
    await shown(`\`\`\`mermaid\n${diagram}\n\`\`\``);
    expect(rendermime.diagrams).toEqual(drawable ? [diagram] : []);
    expect(all('img').length).toBe(drawable ? 1 : 0);
    expect(query('.modelcompose-code').textContent).toContain(drawable ? 'mermaid' : diagram);
  });

  it.each([
    '- ```mermaid\n  %%{init: {}}%%\n  ```',
    '> ```mermaid\n> %%{init: {}}%%\n> ```',
    '- ~~~~\u00a0 mermaid\n  %%{init: {}}%%\n  ~~~~',
    'a\n\n    ```mermaid\n    %%{init: {}}%%\n    ```',
    '> - ```\tmermaid\n>   %%{init: {}}%%\n>   ```',
    '```mermaid x\n%%{init: {}}%%\n```'
  ])('lets no diagram in %j reach mermaid unseen', async source => {
    await shown(source);
    expect(rendermime.diagrams).toEqual([]);
    expect(view.element.textContent).toContain('%%{init: {}}%%');
  });

  it('shows what cannot be parsed, or is too large, as it is', async () => {
    const warn = vi.spyOn(console, 'warn').mockReturnValue();
    rendermime.fails = true;
    expect((await shown('a *b*')).textContent).toBe('a *b*');
    expect(warn).toHaveBeenCalled();
    rendermime.fails = false;
    expect((await shown('*a '.repeat(10_000))).textContent).toBe('*a '.repeat(10_000));
    const deep = `${'>'.repeat(3000)} a`;
    expect((await shown(deep)).textContent).toMatch(/a$/);
  });
});

describe('where there is no parser', () => {
  beforeEach(() => {
    view.dispose();
    view = new MarkdownView(undefined, { copy: async text => copied.push(text) > 0 });
    document.body.replaceChildren(view.element);
  });

  it('is text while it grows, then what the kernel has made of it', async () => {
    view.update('a *b', { growing: true });
    const text = query('div').firstChild;
    view.update('a *b*\n```', { growing: true });
    expect(view.element.textContent).toBe('a *b*\n```');
    expect(query('div').firstChild).toBe(text);
    const html = '<p>a <em>b</em></p><pre><code class="language-py">x</code></pre>';
    view.update('a *b*\n```', { html });
    expect(query('em').textContent).toBe('b');
    expect(query('.modelcompose-code-head span').textContent).toBe('py');
    query('button').click();
    await Promise.resolve();
    expect(copied).toEqual(['x']);
  });
});
