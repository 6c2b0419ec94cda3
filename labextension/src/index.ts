import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { PageConfig } from '@jupyterlab/coreutils';

/**
 * Brings the plugins to JupyterLab and Notebook 7. They are imported only there: Voila loads every
 * extension, too, and lacks the packages that they are made of.
 */
const extension: JupyterFrontEndPlugin<void> = {
  id: 'modelcompose-jupyter:extension',
  description: 'Workflows of %%compose cells and model-compose.yml files.',
  autoStart: true,
  activate: async (app: JupyterFrontEnd) => {
    if (PageConfig.getOption('appUrl').startsWith('voila')) {
      return;
    }
    const { default: plugins } = await import('./plugins');
    const wanted = plugins.filter(each => !PageConfig.Extension.isDisabled(each.id));
    app.registerPlugins(wanted);
    await Promise.all(wanted.map(each => app.activatePlugin(each.id)));
  }
};

export default extension;
