/** A canvas that is as sharp as the screen. */

export interface Surface {
  context: CanvasRenderingContext2D;
  width: number;
  height: number;
}

/**
 * Gives the canvas its size in CSS pixels; drawing uses the same unit. The font is set with the size only: looking a
 * list of families up is the dearest call of a frame.
 */
export function prepare(canvas: HTMLCanvasElement, width: number, height: number, font: string): Surface | undefined {
  const context = canvas.getContext('2d');
  if (!context) return undefined;
  const ratio = window.devicePixelRatio || 1;
  const [w, h] = [Math.max(1, Math.round(width * ratio)), Math.max(1, Math.round(height * ratio))];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    context.font = font;
  }
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

/** Calls `draw` once per frame, however often it is asked to. */
export function onceAFrame(draw: () => void): { request: () => void; cancel: () => void } {
  let frame = 0;
  return {
    request: () => {
      if (frame === 0) {
        frame = requestAnimationFrame(() => {
          frame = 0;
          draw();
        });
      }
    },
    cancel: () => cancelAnimationFrame(frame),
  };
}

/** Follows a pointer from the press on an element until it is let go; positions are relative to the element. */
export function dragOn(
  element: HTMLElement,
  handlers: { start: (x: number, event: PointerEvent) => boolean; move: (x: number) => void; end: (x: number) => void; cancel: () => void },
): void {
  element.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return;
    const left = element.getBoundingClientRect().left;
    if (!handlers.start(event.clientX - left, event)) return;
    event.preventDefault();
    element.setPointerCapture(event.pointerId);
    const stop = new AbortController();
    const { signal } = stop;
    element.addEventListener('pointermove', (next) => handlers.move(next.clientX - left), { signal });
    element.addEventListener(
      'pointerup',
      (last) => {
        stop.abort();
        handlers.end(last.clientX - left);
      },
      { signal },
    );
    element.addEventListener(
      'pointercancel',
      () => {
        stop.abort();
        handlers.cancel();
      },
      { signal },
    );
  });
}
