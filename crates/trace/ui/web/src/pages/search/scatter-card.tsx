/** The picture of a result: when each trace began against how long it took. */

import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { navigate } from '../../app/router.ts';
import { isDark, zone } from '../../app/settings.ts';
import type { Summary } from '../../core/results.ts';
import { formatDuration, plural } from '../../core/time.ts';
import { Scatter } from '../../views/scatter.ts';

interface Props {
  traces: readonly Summary[];
  hovered: string;
  onHover: (traceId: string) => void;
}

/** The picture in a sentence; the table below has every number. */
function sentence(traces: readonly Summary[]): string {
  const sorted = traces.map((trace) => trace.durationUs).sort((a, b) => a - b);
  const pick = (share: number): string => formatDuration(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0);
  const failed = traces.filter((trace) => trace.errors > 0).length;
  return `Durations of ${plural(traces.length, 'trace')} over time: from ${pick(0)} to ${pick(1)}, half of them under ${pick(0.5)}; ${failed} with errors.`;
}

export function ScatterCard({ traces, hovered, onHover }: Props) {
  const host = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const view = useRef<Scatter | undefined>(undefined);
  const card = useSignal<{ trace: Summary; x: number; y: number } | undefined>(undefined);
  useEffect(() => {
    if (!host.current || !canvas.current) return undefined;
    const scatter = new Scatter(host.current, canvas.current, {
      open: (trace) => navigate(`/trace/${trace.traceId}`),
      hover: (trace, x, y) => {
        if (trace?.traceId === card.value?.trace.traceId) return;
        card.value = trace ? { trace, x, y } : undefined;
        onHover(trace?.traceId ?? '');
      },
    });
    view.current = scatter;
    return () => scatter.destroy();
  }, []);
  useEffect(() => view.current?.update({ traces, zone: zone.value, dark: isDark(), hovered }));
  void zone.value;
  void isDark();
  const at = card.value;
  return (
    <figure class="scatter" aria-label={sentence(traces)}>
      <figcaption class="muted" aria-hidden="true">
        duration × start
      </figcaption>
      <div ref={host} class="scatter-host">
        <canvas ref={canvas} aria-hidden="true" />
        {at && (
          <div class={at.x > 500 ? 'card left' : 'card'} style={{ transform: `translate(${at.x}px, ${at.y}px)` }} aria-hidden="true">
            <div>
              <b>{at.trace.root.service}</b> <span class="muted">{at.trace.root.operation}</span>
            </div>
            <div>
              {formatDuration(at.trace.durationUs)} · {plural(at.trace.spans, 'span')}
              {at.trace.errors > 0 && <span class="error-text"> · ✕ {plural(at.trace.errors, 'error')}</span>}
            </div>
          </div>
        )}
      </div>
    </figure>
  );
}
