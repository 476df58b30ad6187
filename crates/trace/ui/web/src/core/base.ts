/**
 * The path below which a proxy shows us, such as `/jaeger`: the server writes it into the page. Addresses inside of the
 * program are without it; what the browser gets is `at(address)`.
 */

const BASE = typeof document === 'undefined' ? '' : (document.querySelector<HTMLMetaElement>('meta[name="base-path"]')?.content ?? '');

/** A path of ours as the browser needs it. */
export function at(path: string): string {
  return BASE + path;
}

/** A path of the browser as we have it; `null` if it is not ours. */
export function within(path: string, base: string = BASE): string | null {
  if (!path.startsWith(base)) return null;
  const rest = path.slice(base.length);
  if (rest === '') return '/';
  return rest.startsWith('/') ? rest : null;
}

/** A link for the header, from the server's configuration. */
export interface MenuLink {
  label: string;
  url: string;
}

/** `URL LABEL`; `undefined` if it is no such thing. */
export function menuLink(content: string): MenuLink | undefined {
  const space = content.indexOf(' ');
  const url = content.slice(0, space);
  const label = content.slice(space + 1).trim();
  if (space < 0 || !label || !/^(https?:\/\/|\/)/.test(url)) return undefined;
  return { url, label };
}

/** The links that the page names. */
export function menu(): MenuLink[] {
  const metas = document.querySelectorAll<HTMLMetaElement>('meta[name="menu-link"]');
  return [...metas].map((meta) => menuLink(meta.content)).filter((link) => link !== undefined);
}
