/**
 * Imported by a process before its program (`node --import`), this makes its wall clock wrong: by
 * so many milliseconds, or "jumping" an hour to and fro at every look. The monotonic clock stays as
 * it is.
 */
export function nodeFlagsOfClock(shift: number | 'jumping'): string[] {
  return ['--import', `${import.meta.url}?shift=${shift}`];
}

export const hourMs = 3_600_000;

function shiftClock(shift: string): void {
  const RightDate = Date;
  let looks = 0;
  const now = (): number => RightDate.now() + (shift === 'jumping' ? ((looks++ % 3) - 1) * hourMs : Number(shift));
  class WrongDate extends RightDate {
    constructor(...given: unknown[]) {
      super(...((given.length === 0 ? [now()] : given) as [number]));
    }

    static override now(): number {
      return now();
    }
  }
  globalThis.Date = WrongDate as DateConstructor;
}

const shift = new URL(import.meta.url).searchParams.get('shift');
if (shift !== null) shiftClock(shift);
