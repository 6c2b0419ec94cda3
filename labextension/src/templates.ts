// The dialog in which one chooses what a new workflow begins as.

import { Dialog, showDialog } from '@jupyterlab/apputils';
import { Widget } from '@lumino/widgets';

import type { ITemplate } from './core';
import { drawn, sketch } from './sketch';
import { trans } from './words';

/** Have a user choose a template; null where it is called off. */
export async function chooseTemplate(
  templates: ITemplate[],
  accept: string
): Promise<ITemplate | null> {
  const body = new Chooser(templates);
  const { button, value } = await showDialog<number>({
    title: trans.__('New workflow'),
    body,
    buttons: [Dialog.cancelButton(), Dialog.okButton({ label: accept })],
    focusNodeSelector: 'input:checked'
  });
  return button.accept && value !== null ? (templates[value] ?? null) : null;
}

/** Templates as cards, of which one is chosen: by the arrow keys, or by a click; two accept it. */
class Chooser extends Widget implements Dialog.IBodyWidget<number> {
  constructor(templates: ITemplate[]) {
    super({ node: document.createElement('fieldset') });
    this.addClass('modelcompose-templates');
    const legend = document.createElement('legend');
    legend.textContent = trans.__('What it begins as');
    this.node.append(legend, ...templates.map((each, index) => this._card(each, index)));
  }

  getValue(): number {
    return Number(this.node.querySelector<HTMLInputElement>('input:checked')?.value ?? 0);
  }

  private _card({ name, description = '', text }: ITemplate, index: number): HTMLElement {
    const card = document.createElement('label');
    card.className = 'modelcompose-template';
    const radio = document.createElement('input');
    radio.type = 'radio';
    radio.name = 'modelcompose-template';
    radio.value = String(index);
    radio.checked = index === 0;
    const title = document.createElement('span');
    title.className = 'modelcompose-template-name';
    title.textContent = trans.__(name);
    card.append(radio, drawn(sketch(text)), title);
    if (description) {
      const about = document.createElement('span');
      about.className = 'modelcompose-template-description';
      about.id = `modelcompose-template-${index}`;
      about.textContent = trans.__(description);
      radio.setAttribute('aria-describedby', about.id);
      radio.setAttribute('aria-label', title.textContent);
      card.append(about);
    }
    card.addEventListener('dblclick', () => {
      const dialog = this.node.closest('.jp-Dialog');
      dialog?.querySelector<HTMLButtonElement>('.jp-Dialog-button.jp-mod-accept')?.click();
    });
    return card;
  }
}
