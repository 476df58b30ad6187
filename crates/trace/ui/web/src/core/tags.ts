/** Search tags: Jaeger's JSON object in the URL, logfmt in the form. */

export type Tags = Readonly<Record<string, string>>;

/** Reads `{"k":"v"}` as well as `k=v k2="v 2" flag`. */
export function parseTags(text: string): Tags {
  const trimmed = text.trim();
  return trimmed.startsWith('{') ? parseJson(trimmed) : parseLogfmt(trimmed);
}

function parseJson(text: string): Tags {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return {};
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return {};
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, String(item)]));
}

function parseLogfmt(text: string): Tags {
  const tags: Record<string, string> = {};
  const pattern = /([^\s=]+)(?:=(?:"((?:[^"\\]|\\.)*)"|(\S*)))?/g;
  for (const [, key = '', quoted, bare] of text.matchAll(pattern)) {
    tags[key] = quoted === undefined ? (bare ?? 'true') : quoted.replace(/\\(.)/g, '$1');
  }
  return tags;
}

/** The logfmt form, quoting what needs it. */
export function formatTags(tags: Tags): string {
  return Object.entries(tags)
    .map(([key, value]) => `${key}=${/^[^\s"\\]+$/.test(value) ? value : JSON.stringify(value)}`)
    .join(' ');
}
