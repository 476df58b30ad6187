/** A trace that is here: summary, tools, waterfall, side panel. */

import { useEffect } from 'preact/hooks';
import { onKeys } from '../../app/keys.ts';
import { panelWidth, sidePanel } from '../../app/settings.ts';
import { formatBytes, formatDuration, plural } from '../../core/time.ts';
import { traceKey } from './keys.ts';
import type { TraceModel } from './model.ts';
import { SidePanel } from './side-panel.tsx';
import { Splitter } from './splitter.tsx';
import { Summary } from './summary.tsx';
import { Tools } from './tools.tsx';
import { WaterfallPane } from './waterfall-pane.tsx';

interface Props {
  model: TraceModel;
  receiving: boolean;
}

export function TraceView({ model, receiving }: Props) {
  useEffect(() => onKeys((key) => traceKey(key, model)), [model]);
  const open = sidePanel.value === 'open';
  return (
    <div class="trace-page">
      <Summary model={model} receiving={receiving} />
      <Tools model={model} />
      <div class={open ? 'trace-body' : 'trace-body alone'} style={{ '--panel-width': open ? `${panelWidth.value}px` : '0px' }}>
        <WaterfallPane model={model} />
        {open && (
          <>
            <Splitter label="Width of the side panel" size={panelWidth} least={260} most={720} side="right" />
            <SidePanel model={model} />
          </>
        )}
      </div>
      {!model.view.value.embed && <Footer model={model} />}
    </div>
  );
}

/** What the trace weighed on the wire, as the browser measured it. */
function weight(id: string): string {
  const entries = performance.getEntriesByType('resource');
  const entry = entries.reverse().find((item) => item.name.endsWith(`/traces/${id}`));
  if (!(entry instanceof PerformanceResourceTiming)) return '';
  const bytes = entry.encodedBodySize || entry.decodedBodySize;
  return [bytes > 0 ? formatBytes(bytes) : '', formatDuration(entry.duration * 1000)].filter(Boolean).join(' · ');
}

const HINTS: ReadonlyArray<readonly [readonly string[], string]> = [
  [['j', 'k'], 'next / prev'],
  [['→', '←'], 'open / close'],
  [['e'], 'next error'],
  [['p'], 'critical path'],
  [['z'], 'zoom to span'],
  [['?'], 'all keys'],
];

function Footer({ model }: { model: TraceModel }) {
  return (
    <footer class="foot">
      {HINTS.map(([keys, does]) => (
        <span key={does} class="hint">
          {keys.map((key) => (
            <kbd key={key}>{key}</kbd>
          ))}{' '}
          {does}
        </span>
      ))}
      <span class="weight">
        {plural(model.trace.size, 'span')} · {weight(model.trace.id)}
      </span>
    </footer>
  );
}
