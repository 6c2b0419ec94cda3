import { expect, test } from 'vitest';

import { FILE_NAME, holdsWorkflow } from './workflow_files';

const COMPONENT = 'component:\n  type: model\n  task: text-generation\n';

test.each([
  COMPONENT,
  `# A chat\n---\nworkflow:\n  title: A\n${COMPONENT}`,
  `workfow:\n  title: mistyped\n${COMPONENT}`,
  'components:\n  - id: a\n    type: "model"\n',
  'component: {type: model, task: chat-completion}\r\n',
  'workflow:\n  title: half written\ncomponent:\n',
  'name: a\nx-mine: {}\n"workflows":\n  - id: a\ncomponents:\n  - id: b\n'
])('a document is known by its keys: %j', text => {
  expect(holdsWorkflow(text)).toBe(true);
});

test.each([
  '',
  'workflow:\n  title: A\n',
  'version: 2.1\nworkflows:\n  build:\n    jobs: [a]\n',
  'openapi: 3.1.0\npaths: {}\ncomponents:\n  schemas: {a: {type: object}}\n',
  'arazzo: 1.0.0\nworkflows: []\ncomponents: {}\n',
  'services:\n  component:\n    type: model\n',
  'text: |\n  component:\n    type: model\n',
  `${COMPONENT}${'# '.repeat(60_000)}`
])('documents of others are not ours: %j', text => {
  expect(holdsWorkflow(text)).toBe(false);
});

test('some names say it by themselves', () => {
  const names = ['model-compose.yml', 'a/model-compose-chat.yaml', 'my.model-compose.yml'];
  expect(names.every(each => FILE_NAME.test(each))).toBe(true);
  expect(FILE_NAME.test('chat.yml')).toBe(false);
});
