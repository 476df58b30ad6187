/** Line icons, 16 × 16, drawn in the colour of the text around them. */

const PATHS = {
  copy: 'M5.5 5.5v-3h8v8h-3M2.5 5.5h8v8h-8z',
  search: 'M7 2.5a4.5 4.5 0 1 1 0 9a4.5 4.5 0 1 1 0-9M10.3 10.3l3.7 3.7',
  find: 'M2.5 4h11M4.5 8h7M6.5 12h3',
  up: 'M4 10l4-4l4 4',
  down: 'M4 6l4 4l4-4',
  close: 'M4 4l8 8M12 4l-8 8',
  sun: 'M8 5a3 3 0 1 1 0 6a3 3 0 1 1 0-6M8 1v1.5M8 13.5v1.5M1 8h1.5M13.5 8h1.5M3 3l1.1 1.1M11.9 11.9l1.1 1.1M3 13l1.1-1.1M11.9 4.1l1.1-1.1',
  moon: 'M13.5 9.6a6 6 0 0 1-7.1-7.1a6 6 0 1 0 7.1 7.1z',
  system: 'M2.5 3h11v8h-11zM6 13.5h4',
  help: 'M5.8 6a2.2 2.2 0 1 1 3.1 2c-.7.4-.9.8-.9 1.6M8 11.8v.4',
  panel: 'M2.5 3h11v10h-11zM9.5 3v10',
  zoom: 'M2.5 6v-3.5h3.5M13.5 10v3.5h-3.5M2.5 2.5l4.5 4.5M13.5 13.5l-4.5-4.5',
  open: 'M9 2.5h4.5v4.5M13.5 2.5l-6 6M6.5 3.5h-3.5v9.5h9.5v-3.5',
  parent: 'M8 13.5v-9M4.5 7.5l3.5-3.5l3.5 3.5',
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} fill="none" stroke="currentColor" stroke-width="1.4" stroke-linecap="round" stroke-linejoin="round" />
    </svg>
  );
}
