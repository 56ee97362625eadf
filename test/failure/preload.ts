/**
 * Faults of a process from within. A process that imports this before its program (`node --import`)
 * has the fault that the query names.
 */

/**
 * Makes the wall clock wrong: by so many milliseconds, or "jumping" an hour to and fro at every
 * look. The monotonic clock stays as it is.
 */
export function nodeFlagsOfClock(shift: number | 'jumping'): string[] {
  return ['--import', `${import.meta.url}?shift=${shift}`];
}

/** On SIGUSR2 the event loop is blocked for so long, and the process is not stopped. */
export function nodeFlagsOfBlocking(forMs: number): string[] {
  return ['--import', `${import.meta.url}?block=${forMs}`];
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

function blockOnSignal(forMs: number): void {
  const nothing = new Int32Array(new SharedArrayBuffer(4));
  process.on('SIGUSR2', () => {
    Atomics.wait(nothing, 0, 0, forMs);
  });
}

const faults = new URL(import.meta.url).searchParams;
const shift = faults.get('shift');
if (shift !== null) shiftClock(shift);
const block = faults.get('block');
if (block !== null) blockOnSignal(Number(block));
