/** A timer, and the call that set it. */
export class SetTimer {
  readonly timer: NodeJS.Timeout;
  readonly #delayMs: number;
  readonly #call: Error;

  constructor(timer: NodeJS.Timeout, delayMs: number, call: Error) {
    this.timer = timer;
    this.#delayMs = delayMs;
    this.#call = call;
  }

  toString(): string {
    const frames = (this.#call.stack ?? '').split('\n').filter((line) => /^ +at /.test(line));
    const own = frames.filter((line) => !/node_modules|node:/.test(line));
    const shown = (own.length > 0 ? own : frames).slice(0, framesShown);
    return `a timer of ${String(Math.round(this.#delayMs))} ms, set\n${shown.join('\n')}`;
  }
}

const framesShown = 6;
/** Timers that have ended leave the list once it has grown by this number. */
const pruneAfter = 1_000;

let timers: SetTimer[] = [];
let pruneAt = pruneAfter;

type Original = (run: () => void, delayMs: number, ...rest: unknown[]) => NodeJS.Timeout;

/**
 * Notes every timer that is set from now on, with the call that sets it. Vitest took the functions
 * of before for its own timers, so those are not noted.
 */
export function noteTimers(): void {
  for (const name of ['setTimeout', 'setInterval'] as const) {
    const original: Original = globalThis[name];
    const noting = (run: () => void, delayMs = 1, ...rest: unknown[]): NodeJS.Timeout => {
      const timer = original(run, delayMs, ...rest);
      note(new SetTimer(timer, delayMs, callOf(noting)));
      return timer;
    };
    // Among them is the form that `promisify` takes.
    Object.defineProperties(noting, Object.getOwnPropertyDescriptors(original));
    globalThis[name] = noting as typeof setTimeout & typeof setInterval;
  }
}

/** The noted timers that wait and keep the process alive. */
export function setTimers(): readonly SetTimer[] {
  prune();
  return timers.filter(({ timer }) => timer.hasRef());
}

function note(set: SetTimer): void {
  timers.push(set);
  if (timers.length < pruneAt) return;
  prune();
  pruneAt = timers.length + pruneAfter;
}

function prune(): void {
  // Node has no public name for the end of a timer.
  timers = timers.filter(({ timer }) => !(timer as unknown as { readonly _destroyed: boolean })._destroyed);
}

function callOf(above: (run: () => void) => unknown): Error {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 16;
  const call = new Error('set here');
  Error.captureStackTrace(call, above);
  Error.stackTraceLimit = stackTraceLimit;
  return call;
}
