import { PageConfig, URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';
import type { JSONValue } from '@lumino/coreutils';

import type { IModel } from './kernels';
import { language } from './words';

/** A host, as the Jupyter server describes it. */
export interface IHost {
  id: string;
  title: string;
  document: string | null;
  state: 'ready' | 'ending' | 'unreachable';
  kernel_id: string | null;
}

/** The Jupyter server's half of this extension, where it has one. */
export class ServerPart {
  /** The server's half; null where the server has none, and no request would be answered. */
  static get(settings: ServerConnection.ISettings): ServerPart | null {
    return PageConfig.getOption('modelcompose') === 'true' ? new ServerPart(settings) : null;
  }

  private constructor(private readonly _settings: ServerConnection.ISettings) {}

  /** Ask about a text; see `language_service.py` for what is answered. */
  ask(question: 'check' | 'complete' | 'explain' | 'curl', data: object): Promise<JSONValue> {
    return this._request('POST', 'ask', { question, root: this._root, ...data });
  }

  /** The hosts that run, and the models of those that answer. */
  async hosts(): Promise<[IHost, IModel[]][]> {
    const hosts = (await this._request('GET', 'hosts?no_track_activity=1')) as unknown as IHost[];
    return Promise.all(
      hosts.map(async host => [host, await this._models(host)] as [IHost, IModel[]])
    );
  }

  private async _models(host: IHost): Promise<IModel[]> {
    if (host.state !== 'ready') {
      return [];
    }
    try {
      const path = `${pathOf(host.id)}/models?no_track_activity=1`;
      return ((await this._request('GET', path)) as unknown as { models: IModel[] }).models;
    } catch {
      return []; // it has just ended
    }
  }

  /** Serve a document of the server's files, on the host that does already or on a new one. */
  async serve(path: string): Promise<IHost> {
    return (await this._request('POST', 'hosts', { path })) as unknown as IHost;
  }

  async end(host: string): Promise<void> {
    await this._request('DELETE', pathOf(host));
  }

  async unload(host: string, model: string): Promise<void> {
    await this._request('POST', `${pathOf(host)}/models/unload`, { name: model });
  }

  /** The address of a host's run API. */
  apiOf(host: IHost): string {
    return URLExt.join(this._root, pathOf(host.id));
  }

  /** The address of a document's page. */
  pageOf(path: string, query: Record<string, string> = {}): string {
    const address = URLExt.join(this._root, 'pages', URLExt.encodeParts(path));
    return address + URLExt.objectToQueryString(query);
  }

  private get _root(): string {
    return URLExt.join(this._settings.baseUrl, 'modelcompose');
  }

  private async _request(method: string, path: string, body?: object): Promise<JSONValue> {
    const response = await ServerConnection.makeRequest(
      URLExt.join(this._root, path),
      {
        method,
        headers: { 'Accept-Language': language() },
        ...(body ? { body: JSON.stringify(body) } : {})
      },
      this._settings
    );
    const answer = response.status === 204 ? null : await response.json();
    if (!response.ok) {
      const { message, hint } = answer.error ?? answer;
      throw new Error([message, hint].filter(Boolean).join('\n'));
    }
    return answer;
  }
}

/** The path of a host below the extension's own: its id comes from another process. */
function pathOf(id: string): string {
  return `hosts/${encodeURIComponent(id)}`;
}
