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

/** A chip: what a model is in memory. */
export const modelIcon = new LabIcon({
  name: 'modelcompose:model',
  svgstr:
    '<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">' +
    '<path class="jp-icon3" fill="#616161" d="M9 2h2v3h2V2h2v3h2a2 2 0 0 1 2 2v2h3v2h-3v2h3v2h-3v2a2 2 ' +
    '0 0 1-2 2h-2v3h-2v-3h-2v3H9v-3H7a2 2 0 0 1-2-2v-2H2v-2h3v-2H2V9h3V7a2 2 0 0 1 2-2h2zm0 7v6h6V9z"/>' +
    '</svg>'
});

/** The workflow in colours, for places as large as the launcher's. */
export const workflowCardIcon = new LabIcon({
  name: 'modelcompose:workflow-card',
  svgstr:
    '<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">' +
    '<path fill="none" stroke="#8a8f98" stroke-width="2" d="M17 6h1a2 2 0 0 1 2 2v4M7 18H6a2 2 0 0 1-2-2v-4"/>' +
    '<rect x="2" y="3" width="13" height="7" rx="2" fill="#3f7fe0"/>' +
    '<rect x="9" y="14" width="13" height="7" rx="2" fill="#1d9a74"/>' +
    '</svg>'
});
