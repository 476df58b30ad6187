/** The keys of the trace page. */

import { notify } from '../../app/announce.ts';
import { sidePanel } from '../../app/settings.ts';
import type { TraceModel } from './model.ts';

const ZOOM_STEP = 1.5;
const PAN_STEP = 0.25;

/** Asks the waterfall to fit the time to the rows that show. */
export const FIT_EVENT = 'periplus-fit';

export function traceKey(key: string, model: TraceModel): boolean {
  const focus = document.activeElement;
  if (focus?.closest('.side-panel, [role=slider], [role=separator], dialog') && /^([↑↓←→]|Home|End|Enter|Shift)/.test(key)) return false;
  switch (key) {
    case 'j':
    case '↓':
      model.step(1);
      return true;
    case 'k':
    case '↑':
      model.step(-1);
      return true;
    case '→':
      model.right();
      return true;
    case '←':
      model.left();
      return true;
    case 'Home':
      model.first();
      return true;
    case 'End':
      model.last();
      return true;
    case 'PageDown':
      model.step(20);
      return true;
    case 'PageUp':
      model.step(-20);
      return true;
    case 'Enter':
      return model.selected.value >= 0 && awaitsRow(focus) ? openPanel() : false;
    case 'n':
      return model.nextFound(1) || sorry('nothing matches the find box');
    case 'N':
      return model.nextFound(-1) || sorry('nothing matches the find box');
    case 'e':
      return model.nextError(1) || sorry('no span of this trace failed');
    case 'E':
      return model.nextError(-1) || sorry('no span of this trace failed');
    case 'p':
      return model.nextCritical() || sorry('this trace has no critical path');
    default:
      return viewKey(key, model);
  }
}

function viewKey(key: string, model: TraceModel): boolean {
  switch (key) {
    case 'c':
      model.setCritical(!model.view.value.critical);
      return true;
    case 'm':
      model.setOnly(!model.view.value.only);
      return true;
    case 'z':
      model.zoomToRow(model.selected.value);
      return true;
    case '0':
    case 'Z':
      model.zoomOut();
      return true;
    case '+':
    case '=':
      model.zoomBy(1 / ZOOM_STEP);
      return true;
    case '-':
      model.zoomBy(ZOOM_STEP);
      return true;
    case 'Shift+←':
      model.pan(-PAN_STEP);
      return true;
    case 'Shift+→':
      model.pan(PAN_STEP);
      return true;
    case 'f':
      window.dispatchEvent(new Event(FIT_EVENT));
      return true;
    case '[':
      model.collapseAll(true);
      return true;
    case ']':
      model.collapseAll(false);
      return true;
    case 'd':
      sidePanel.value = sidePanel.value === 'open' ? 'closed' : 'open';
      return true;
    case 'Esc':
      return escape(model);
    default:
      return false;
  }
}

function sorry(text: string): true {
  notify(text);
  return true;
}

function openPanel(): boolean {
  sidePanel.value = 'open';
  if (!focusPanel()) requestAnimationFrame(focusPanel);
  return true;
}

/** False while the panel is not on the page yet, or hidden: then the next frame has it. At once where it can be, so that the next key already is the panel's. */
function focusPanel(): boolean {
  const panel = document.querySelector<HTMLElement>('.side-panel');
  panel?.focus();
  return panel !== null && document.activeElement === panel;
}

/** Whether the focus is on a row, or where the waterfall takes it from with the next frame: a key may come before that. */
function awaitsRow(focus: Element | null): boolean {
  return focus === null || focus === document.body || focus.matches('.row, .scroller');
}

/** While the row is out of view the focus waits on the scroller, and goes to the row when it is drawn. */
function focusRow(): void {
  const row = document.querySelector<HTMLElement>('.row.selected') ?? document.querySelector<HTMLElement>('.scroller');
  row?.focus({ preventScroll: true });
}

/** From the panel back to the row; from a row to no selection. */
function escape(model: TraceModel): boolean {
  const focus = document.activeElement;
  if (focus?.matches('input, select') || focus?.closest('dialog')) return false;
  if (focus?.closest('.side-panel') && model.selected.value >= 0) {
    focusRow();
    model.select(model.selected.value);
    return true;
  }
  if (model.selected.value < 0) return false;
  model.unselect();
  return true;
}
