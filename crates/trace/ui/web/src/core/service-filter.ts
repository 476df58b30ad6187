/** Which services a link of Jaeger's UI hides. */

const OFFSET = 0x811c;
const PRIME = 0x0101;

/** 16 bits of FNV-1a over the sorted names, NUL in between: tells whether a link is about these very services. */
function checksumOf(names: readonly string[]): number {
  const text = names.join('\0');
  let value = OFFSET;
  for (let i = 0; i < text.length; i += 1) value = Math.imul(value ^ text.charCodeAt(i), PRIME) & 0xffff;
  return value;
}

/**
 * Jaeger's `svcFilter` is a checksum and a mask, both hexadecimal, with a dot between them: bit `i` says whether the `i`-th
 * of the sorted services shows. One that is about other services, or would hide all, hides none.
 */
export function hiddenByJaeger(services: readonly string[], filter: string): readonly string[] {
  const [, checksum = '', mask = ''] = /^([0-9a-f]{1,4})\.([0-9a-f]{1,1024})$/i.exec(filter) ?? [];
  const names = [...services].sort();
  if (mask === '' || Number.parseInt(checksum, 16) !== checksumOf(names)) return [];
  const shown = BigInt(`0x${mask}`);
  const hidden = names.filter((_, place) => ((shown >> BigInt(place)) & 1n) === 0n);
  return hidden.length === names.length ? [] : hidden;
}
