// A small picture of what a document makes: its form and its jobs.

const SVG = 'http://www.w3.org/2000/svg';
const WIDTH = 120;
const HEIGHT = 90;
const MOST_JOBS = 3;

/** What a template's picture shows: a chat, or the fields of its form, then its jobs. */
export interface ISketch {
  isChat: boolean;
  fields: ('text' | 'slider' | 'other')[];
  jobs: number;
}

/** What a document's picture shows, as far as its text tells. */
export function sketch(text: string): ISketch {
  const inputs = new Map<string, string>();
  for (const [, name, type = ''] of text.matchAll(/\$\{\s*input\.([\w-]+)(?:\s+as\s+(\w+))?/g)) {
    inputs.set(name, inputs.get(name) || type);
  }
  const isChat = /\btask:\s*chat-completion\b/.test(text);
  const [, list = ''] = /^[ \t]*jobs:[ \t]*\n((?:[ \t].*\n|\n)*)/m.exec(`${text}\n`) ?? [];
  const dash = /^[ \t]*- /m.exec(list)?.[0];
  const fields = [...inputs.values()].map(type =>
    type === 'slider' ? 'slider' : ['', 'text', 'messages'].includes(type) ? 'text' : 'other'
  );
  return {
    isChat,
    fields,
    jobs: list.split('\n').filter(each => dash && each.startsWith(dash)).length || 1
  };
}

/** A small picture of a form and its workflow, in the colours of the theme. */
export function drawn({ isChat, fields, jobs }: ISketch): SVGElement {
  const svg = shape('svg', {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    'aria-hidden': 'true',
    class: 'modelcompose-template-picture'
  });
  if (isChat) {
    svg.append(
      bar(44, 8, 68, 14, 'field', 7),
      bar(8, 30, 80, 24, 'accent', 8),
      bar(8, 70, 84, 12, 'field', 6),
      bar(97, 70, 15, 12, 'accent', 6)
    );
    return svg;
  }
  if (jobs > 1) {
    jobs = Math.min(jobs, MOST_JOBS);
    const width = (WIDTH - 16 - 14 * (jobs - 1)) / jobs;
    svg.append(bar(8, 10, WIDTH - 16, 12, 'field', 3));
    for (let job = 0; job < jobs; job += 1) {
      const x = 8 + job * (width + 14);
      svg.append(bar(x, 36, width, 22, 'accent', 4));
      if (job) {
        svg.append(shape('path', { d: `M${x - 13} 47h9m-4-4l4 4-4 4`, class: 'line' }));
      }
    }
    svg.append(bar(8, 68, 56, 4, 'words', 2), bar(74, 68, 30, 4, 'words', 2));
    return svg;
  }
  let y = 8;
  for (const field of fields.slice(0, 3)) {
    if (field === 'slider') {
      svg.append(bar(8, y + 3, WIDTH - 16, 3, 'field', 1.5));
      svg.append(
        shape('circle', { cx: 8 + 0.6 * (WIDTH - 16), cy: y + 4.5, r: 4, class: 'accent' })
      );
      y += 13;
    } else {
      svg.append(bar(8, y, WIDTH - 16, field === 'text' ? 16 : 10, 'field', 3));
      y += field === 'text' ? 21 : 15;
    }
  }
  svg.append(bar(8, y, 30, 9, 'accent', 4.5));
  for (const [line, width] of [WIDTH - 16, WIDTH - 46].entries()) {
    svg.append(bar(8, y + 15 + 8 * line, width, 4, 'words', 2));
  }
  return svg;
}

function bar(x: number, y: number, width: number, height: number, kind: string, rx: number) {
  return shape('rect', { x, y, width, height, rx, class: kind });
}

function shape(name: string, attributes: Record<string, string | number>): SVGElement {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) {
    element.setAttribute(key, String(value));
  }
  return element;
}
