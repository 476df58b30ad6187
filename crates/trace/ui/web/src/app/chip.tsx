/** The two letters that stand for a service. */

import type { Identity } from '../core/colours.ts';

export function ServiceLetters({ identity }: { identity: Identity | undefined }) {
  return (
    <span class={`chip-letters hue-${identity?.hue ?? 0} lap-${identity?.lap ?? 0}`} aria-hidden="true">
      {identity?.monogram}
    </span>
  );
}
