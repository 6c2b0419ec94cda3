import { LabIcon } from '@jupyterlab/ui-components';

/** Two boxes and what leads from one to the other: the workflow. */
export const workflowIcon = new LabIcon({
  name: 'modelcompose:workflow',
  svgstr:
    '<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">' +
    '<g class="jp-icon3" fill="#616161">' +
    '<path d="M4 3h9a2 2 0 0 1 2 2v3a2 2 0 0 1-2 2H4a2 2 0 0 1-2-2V5a2 2 0 0 1 2-2z"/>' +
    '<path d="M11 14h9a2 2 0 0 1 2 2v3a2 2 0 0 1-2 2h-9a2 2 0 0 1-2-2v-3a2 2 0 0 1 2-2z"/>' +
    '<path d="M17 5h2a2 2 0 0 1 2 2v5h-2V7h-2zM7 19H5a2 2 0 0 1-2-2v-5h2v5h2z"/>' +
    '</g></svg>'
});
