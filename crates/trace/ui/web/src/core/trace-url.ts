/** The state of the trace page is its URL. Jaeger's parameter names are read as well. */

export interface TraceView {
  id: string;
  /** The id of the selected span; empty for none. */
  span: string;
  find: string;
  /** Show only the rows that match, and their ancestors. */
  only: boolean;
  /** Draw the critical path. */
  critical: boolean;
  /** The visible part of the time line in µs from the trace's start; undefined for all. */
  zoom: readonly [number, number] | undefined;
  /** Services whose rows do not show. */
  hidden: readonly string[];
  /** The same as Jaeger's links say it; what it means depends on the trace. */
  serviceFilter: string;
  /** Without the frame around the trace, for other pages to embed. */
  embed: boolean;
  /** What the page that embeds this one does not want either; Jaeger's parameters, which stay in `rest`. */
  without: { facts: boolean; minimap: boolean };
  rest: ReadonlyArray<readonly [string, string]>;
}

const KNOWN = new Set(['span', 'find', 'uiFind', 'only', 'cp', 'z', 'hide', 'svcFilter', 'embed', 'uiEmbed']);

/** Whether another page embeds this one. */
export function isEmbedded(query: URLSearchParams): boolean {
  return query.get('embed') === '1' || query.get('uiEmbed') === 'v0';
}

/** The theme that an embedding page asks for. */
export function embeddedTheme(query: URLSearchParams): 'light' | 'dark' | undefined {
  const theme = query.get('uiTheme');
  return isEmbedded(query) && (theme === 'light' || theme === 'dark') ? theme : undefined;
}

/** A trace id in any form that links carry (hex in any case, base64), as lower-case hex; undefined when it is none. */
export function parseTraceId(text: string): string | undefined {
  const trimmed = text.trim();
  if (/^[0-9a-f]{1,32}$/i.test(trimmed)) return trimmed.toLowerCase();
  if (!/^[A-Za-z0-9+/_-]{22}(==)?$/.test(trimmed)) return undefined;
  const bytes = atob(trimmed.replace(/-/g, '+').replace(/_/g, '/'));
  return [...bytes].map((byte) => byte.charCodeAt(0).toString(16).padStart(2, '0')).join('');
}

function parseZoom(text: string | null): readonly [number, number] | undefined {
  const match = /^(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)$/.exec(text ?? '');
  if (!match) return undefined;
  const [from, to] = [Number(match[1]), Number(match[2])];
  return from < to ? [from, to] : undefined;
}

export function parseTraceView(id: string, query: URLSearchParams): TraceView {
  const embed = isEmbedded(query);
  const asked = (name: string): boolean => embed && query.get(name) === '1';
  const collapsed = asked('uiTimelineCollapseTitle');
  return {
    id,
    span: (query.get('span') ?? '').toLowerCase(),
    find: query.get('find') ?? query.get('uiFind') ?? '',
    only: query.get('only') === '1',
    critical: query.get('cp') !== '0',
    zoom: parseZoom(query.get('z')),
    hidden: query.getAll('hide').filter(Boolean),
    serviceFilter: query.get('svcFilter') ?? '',
    embed,
    without: { facts: collapsed || asked('uiTimelineHideSummary'), minimap: collapsed || asked('uiTimelineHideMinimap') },
    rest: [...query].filter(([key]) => !KNOWN.has(key)),
  };
}

/** The page's address; what is at its default is left out. */
export function traceUrl(view: TraceView): string {
  const query = new URLSearchParams();
  if (view.span) query.set('span', view.span);
  if (view.find) query.set('find', view.find);
  if (view.only) query.set('only', '1');
  if (!view.critical) query.set('cp', '0');
  if (view.zoom) query.set('z', view.zoom.map((us) => Math.round(us)).join('-'));
  for (const service of view.hidden) query.append('hide', service);
  if (view.embed) query.set('embed', '1');
  for (const [key, value] of view.rest) query.append(key, value);
  const text = query.toString();
  return `/trace/${view.id}${text ? `?${text}` : ''}`;
}
