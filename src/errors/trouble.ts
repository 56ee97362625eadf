/** The part of a clock that is needed here; `src/time/clock.ts` fits. */
interface TroubleClock {
  nowMs(): number;
  after(delayMs: number, run: () => void): () => void;
}

/** The log for trouble; pino's loggers fit. */
interface TroubleLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

interface TroubleDeps {
  /** The name of the thing in trouble, for the log. */
  readonly what: string;
  readonly clock: TroubleClock;
  readonly log: TroubleLog;
}

/** The time until a line is repeated while the trouble lasts. */
const stillMs = 60_000;
/** The trouble ends after this time without a failure, not at each success of a flapping call. */
const quietMs = 3_000;

/**
 * Trouble with one thing that is tried again and again. Each cause is logged when it begins and
 * once a minute while it lasts, and the end is logged once, however many calls fail. A cause that
 * returns within the minute is not logged again.
 */
export class Trouble {
  readonly #d: TroubleDeps;
  /** The time of the last line of each cause. */
  readonly #loggedMs = new Map<string, number>();
  #beganMs: number | null = null;
  #failedMs = 0;
  #logged = false;
  #last: string | null = null;
  #cancel: (() => void) | null = null;

  constructor(deps: TroubleDeps) {
    this.#d = deps;
  }

  /** The last failure; null if the last try worked. */
  get last(): string | null {
    return this.#last;
  }

  failed(error: Error): void {
    const nowMs = this.#d.clock.nowMs();
    const began = this.#beganMs === null;
    this.#beganMs ??= nowMs;
    this.#failedMs = nowMs;
    this.#last = error.message;
    const cause = causeOf(error);
    if (nowMs - (this.#loggedMs.get(cause) ?? -Infinity) < stillMs) return;
    const still = !began && this.#loggedMs.has(cause) ? `still, after ${seconds(nowMs - this.#beganMs)}: ` : '';
    this.#loggedMs.set(cause, nowMs);
    this.#logged = true;
    this.#d.log.warn({ cause }, `${this.#d.what}: ${still}${error.message} (${cause})`);
  }

  worked(): void {
    if (this.#beganMs === null) return;
    this.#last = null;
    const leftMs = this.#failedMs + quietMs - this.#d.clock.nowMs();
    if (leftMs <= 0) this.#end();
    else this.#cancel ??= this.#d.clock.after(leftMs, this.#afterQuiet);
  }

  /** Ends the tries. Whether the next one would have worked is unknown. */
  drop(): void {
    this.#cancel?.();
    this.#cancel = this.#beganMs = this.#last = null;
    this.#logged = false;
  }

  readonly #afterQuiet = (): void => {
    this.#cancel = null;
    if (this.#last === null) this.worked();
  };

  #end(): void {
    const lastedMs = this.#failedMs - (this.#beganMs ?? this.#failedMs);
    if (this.#logged) this.#d.log.info({}, `${this.#d.what}: works again, after ${seconds(lastedMs)} of trouble`);
    this.drop();
  }
}

/** The SQLSTATE or the system's code of an error. It tells causes apart; messages vary. */
function causeOf(error: Error): string {
  for (let at: unknown = error; at instanceof Error; at = at.cause) {
    const { code } = at as { code?: unknown };
    if (typeof code === 'string')
      return /^[0-9A-Z]{5}$/.test(code) && !code.startsWith('E') ? `SQLSTATE ${code}` : code;
  }
  return error.name;
}

function seconds(ms: number): string {
  return `${Math.ceil(ms / 1_000)} s`;
}
