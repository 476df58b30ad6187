/** The part of OTLP's JSON that the fixtures use. */

export interface KeyValue {
  key: string;
  value: { stringValue?: string; intValue?: string; boolValue?: boolean; doubleValue?: number };
}

export interface OtlpSpan {
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  name: string;
  kind: number;
  startTimeUnixNano: string;
  endTimeUnixNano: string;
  attributes?: KeyValue[];
  events?: Array<{ timeUnixNano: string; name: string; attributes?: KeyValue[] }>;
  links?: Array<{ traceId: string; spanId: string; attributes?: KeyValue[] }>;
  status?: { code?: number; message?: string };
}

export interface ResourceSpans {
  resource: { attributes: KeyValue[] };
  scopeSpans: Array<{ scope: { name: string; version?: string }; spans: OtlpSpan[] }>;
}

export interface ExportRequest {
  resourceSpans: ResourceSpans[];
}

export function attribute(key: string, value: string | number | boolean): KeyValue {
  if (typeof value === 'boolean') return { key, value: { boolValue: value } };
  if (typeof value === 'number') return Number.isInteger(value) ? { key, value: { intValue: String(value) } } : { key, value: { doubleValue: value } };
  return { key, value: { stringValue: value } };
}

export function attributes(values: Readonly<Record<string, string | number | boolean>>): KeyValue[] {
  return Object.entries(values).map(([key, value]) => attribute(key, value));
}

/** Nanoseconds since the epoch, as OTLP's JSON writes 64-bit numbers. */
export function nanos(us: number): string {
  return `${Math.round(us)}000`;
}

/** Spans by service, as exporters send them. */
export function exportOf(spans: ReadonlyArray<readonly [service: string, span: OtlpSpan]>, scope: string): ExportRequest {
  const services = new Map<string, OtlpSpan[]>();
  for (const [service, span] of spans) {
    const list = services.get(service);
    if (list) list.push(span);
    else services.set(service, [span]);
  }
  return {
    resourceSpans: [...services].map(([service, list]) => ({
      resource: { attributes: attributes({ 'service.name': service, 'telemetry.sdk.language': 'rust', 'host.name': `${service.split('.')[0]}-7d9f8` }) },
      scopeSpans: [{ scope: { name: scope, version: '1.0' }, spans: list }],
    })),
  };
}
