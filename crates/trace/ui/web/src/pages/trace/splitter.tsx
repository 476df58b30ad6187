/** A border that can be dragged, or moved with the arrow keys. */

import type { Signal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';

interface Props {
  label: string;
  size: Signal<number>;
  least: number;
  most: number;
  /** On which side of the border the sized part is. */
  side: 'left' | 'right';
}

const STEP_PX = 16;

export function Splitter({ label, size, least, most, side }: Props) {
  const element = useRef<HTMLDivElement>(null);
  const clamp = (px: number): number => Math.round(Math.min(most, Math.max(least, px)));
  const sign = side === 'left' ? 1 : -1;
  useEffect(() => {
    const handle = element.current;
    if (!handle) return undefined;
    const press = (event: PointerEvent): void => {
      const [x, before] = [event.clientX, size.peek()];
      event.preventDefault();
      handle.setPointerCapture(event.pointerId);
      const move = (next: PointerEvent): void => {
        size.value = clamp(before + sign * (next.clientX - x));
      };
      handle.addEventListener('pointermove', move);
      const stop = (): void => handle.removeEventListener('pointermove', move);
      handle.addEventListener('pointerup', stop, { once: true });
      handle.addEventListener('pointercancel', stop, { once: true });
    };
    handle.addEventListener('pointerdown', press);
    return () => handle.removeEventListener('pointerdown', press);
  }, []);
  const onKeyDown = (event: KeyboardEvent): void => {
    const by = event.key === 'ArrowLeft' ? -STEP_PX : event.key === 'ArrowRight' ? STEP_PX : 0;
    if (by === 0) return;
    event.preventDefault();
    size.value = clamp(size.value + sign * by);
  };
  return (
    <div
      ref={element}
      class={`splitter ${side}`}
      role="separator"
      aria-orientation="vertical"
      aria-label={label}
      aria-valuemin={least}
      aria-valuemax={most}
      aria-valuenow={size.value}
      tabIndex={0}
      onKeyDown={onKeyDown}
    />
  );
}
