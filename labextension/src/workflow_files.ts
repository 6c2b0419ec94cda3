// Which of the open files hold workflows: by their names, or by what is written in them.

import type { ISharedText } from '@jupyter/ydoc';
import type { IDocumentWidget } from '@jupyterlab/docregistry';
import type { FileEditor, IEditorTracker } from '@jupyterlab/fileeditor';
import { Debouncer } from '@lumino/polling';
import { type ISignal, Signal } from '@lumino/signaling';

/** The type of workflow files in editors. */
export const MIME_TYPE = 'text/x-model-compose';

/** The names of files that hold workflows whatever is in them. */
export const FILE_NAME = /model-compose[^/]*\.ya?ml$/;

type Editor = IDocumentWidget<FileEditor>;

/** How long nobody types before a file is looked at again, in milliseconds. */
const DELAY = 300;

const YAML = /\.ya?ml$/i;
const TOP_KEY = /^([\w.-]+|"[^"\n]*"|'[^'\n]*')[ \t]*:(?=\s|$)/gm;
const OUR_KEY = /^(?:components?|workflows?|controller|name|x-.*)$/;
const MODEL = /\btype:[ \t]+["']?model\b/;
const LONGEST = 100_000; // characters; the checker reads no more

/**
 * Whether a text is a workflow document, as its keys tell; documents of others have some of them,
 * too. It need not be whole.
 */
export function holdsWorkflow(text: string): boolean {
  if (text.length > LONGEST) {
    return false;
  }
  const keys = [...text.matchAll(TOP_KEY)].map(([, key]) => key.replace(/["']/g, ''));
  if (!keys.includes('component') && !keys.includes('components')) {
    return false;
  }
  const hasWorkflow = keys.includes('workflow') || keys.includes('workflows');
  return MODEL.test(text) || (hasWorkflow && keys.every(key => OUR_KEY.test(key)));
}

/** The open files that hold workflows; it follows names and texts as they change. */
export class WorkflowFiles {
  /**
   * @param _editors - all open files
   * @param _hasLanguage - whether there is a language of `MIME_TYPE`
   */
  constructor(
    private readonly _editors: IEditorTracker | null,
    private readonly _hasLanguage: () => boolean
  ) {
    _editors?.forEach(each => {
      this._watch(each);
    });
    _editors?.widgetAdded.connect((_, added) => this._watch(added));
  }

  /** A file holds a workflow now, or does not any more. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  has(editor: Editor): boolean {
    this._watch(editor); // the tracker tells of a new one a little later than it has it
    return this._found.has(editor);
  }

  /** The workflow file that an editor's text is of; undefined where it is of none. */
  of(text: ISharedText): Editor | undefined {
    return this._editors?.find(each => each.content.model.sharedModel === text && this.has(each));
  }

  /** The workflow file in front; null where another file is, or none. */
  get current(): Editor | null {
    const editor = this._editors?.currentWidget;
    return editor && this.has(editor) ? editor : null;
  }

  private _watch(editor: Editor): void {
    if (this._watched.has(editor)) {
      return;
    }
    this._watched.add(editor);
    const { context, content } = editor;
    const look = (): void => this._look(editor);
    const later = new Debouncer(look, DELAY);
    const onText = (): void => void later.invoke();
    content.model.sharedModel.changed.connect(onText);
    context.pathChanged.connect(() => {
      this._languages.delete(editor); // the editor has that of the new name
      look();
    });
    editor.disposed.connect(() => {
      content.model?.sharedModel.changed.disconnect(onText);
      later.dispose();
      this._found.delete(editor);
    });
    look();
    void context.ready.then(look);
  }

  private _look(editor: Editor): void {
    if (editor.isDisposed) {
      return;
    }
    const { path } = editor.context;
    const { model } = editor.content;
    const isNamed = FILE_NAME.test(path);
    const is = isNamed || (YAML.test(path) && holdsWorkflow(model.sharedModel.getSource()));
    if (is && !isNamed && !this._languages.has(editor) && this._hasLanguage()) {
      this._languages.set(editor, model.mimeType);
      model.mimeType = MIME_TYPE;
    } else if (!is && this._languages.has(editor)) {
      model.mimeType = this._languages.get(editor) as string;
      this._languages.delete(editor);
    }
    if (is !== this._found.has(editor)) {
      this._found[is ? 'add' : 'delete'](editor);
      this._changed.emit();
    }
  }

  private _watched = new WeakSet<Editor>();
  private _found = new Set<Editor>();
  private _languages = new WeakMap<Editor, string>(); // what those had that have ours now
  private _changed = new Signal<this, void>(this);
}
