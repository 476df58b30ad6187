/** Checks for JSON whose shape is only promised. */

export type Fields = Readonly<Record<string, unknown>>;

/** The answer has another shape than the API describes. */
export class DecodeError extends Error {}

function fail(wanted: string, got: unknown): never {
  throw new DecodeError(`the server's answer has ${JSON.stringify(got) ?? 'nothing'} where ${wanted} belongs`);
}

export function object(value: unknown): Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : fail('an object', value);
}

/** A list; `null` counts as an empty one, as Jaeger's API sends it. */
export function list(value: unknown): readonly unknown[] {
  if (value === null) return [];
  return Array.isArray(value) ? value : fail('a list', value);
}

export function text(value: unknown): string {
  return typeof value === 'string' ? value : fail('a text', value);
}

export function nullableText(value: unknown): string | null {
  return value === null || value === undefined ? null : text(value);
}

export function number(value: unknown): number {
  return typeof value === 'number' ? value : fail('a number', value);
}

export function bool(value: unknown): boolean {
  return typeof value === 'boolean' ? value : fail('true or false', value);
}
