import type { IModel } from './kernels';
import { trans } from './words';

/** Bytes for people, as the kernel writes them. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) {
    bytes /= 1000;
    unit += 1;
  }
  return `${bytes >= 100 || unit === 0 ? Math.round(bytes) : bytes.toFixed(1)} ${units[unit]}`;
}

/** What a model takes, where it is, and what it does. */
export function modelSummary(model: IModel): string {
  const memory = model.memory_bytes === null ? '' : formatBytes(model.memory_bytes);
  const doing =
    model.state === 'loading'
      ? trans.__('loading')
      : model.running
        ? trans.__('%1 running', model.running)
        : '';
  return [memory, model.device, doing].filter(Boolean).join(' · ');
}
