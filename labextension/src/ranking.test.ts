import { expect, test } from 'vitest';

import { ranked } from './ranking';

const ORDER = ['text: ', 'messages: ', 'temperature: ', 'title: '];
const labelled = (...labels: string[]) => labels.map(label => ({ label }));

test('what goes on from what is typed comes first, in the order of likelihood', () => {
  const found = ranked(
    labelled(
      '<mark>t</mark>itle: ',
      '<mark>t</mark>emperature: ',
      '<mark>t</mark>ext: ',
      'ou<mark>t</mark>put: '
    ),
    ORDER,
    't'
  );
  expect(found.map(each => each.label.replace(/<.?mark>/g, ''))).toEqual([
    'text: ',
    'temperature: ',
    'title: '
  ]);
});

test('where nothing goes on from it, what has its letters is left', () => {
  expect(ranked(labelled('title: ', 'text: '), ORDER, 'tt')).toEqual(labelled('text: ', 'title: '));
});
