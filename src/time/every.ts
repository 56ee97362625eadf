import type { BackgroundJob } from './background-job.ts';
import type { Clock } from './clock.ts';

interface EveryOptions {
  readonly clock: Clock;
  /** From the start, or the end of a run, to the next run; a function is called before each. */
  readonly delayMs: number | (() => number);
  readonly run: () => void | Promise<void>;
  /** Called with the error of a run. The loop goes on. */
  readonly onError: (error: unknown) => void;
}

/**
 * A background loop whose runs never overlap. A run must not wait for the `stop` of its own loop.
 */
export class Every implements BackgroundJob {
  readonly #o: EveryOptions;
  #started = false;
  #cancelTimer: (() => void) | null = null;
  #underWay: Promise<void> | null = null;
  /** The next run begins without delay. */
  #soon = false;

  constructor(options: EveryOptions) {
    this.#o = options;
  }

  get isStarted(): boolean {
    return this.#started;
  }

  start(): void {
    if (this.#started) return;
    this.#started = true;
    if (this.#underWay === null) this.#arm();
  }

  async stop(): Promise<void> {
    this.#started = false;
    this.#soon = false;
    this.#disarm();
    await this.#underWay;
  }

  /** Begins the next run at once, or right after the run under way. Has no effect after a stop. */
  soon(): void {
    if (!this.#started) return;
    this.#soon = true;
    if (this.#underWay !== null) return;
    this.#disarm();
    this.#arm();
  }

  #arm(): void {
    const { clock, delayMs } = this.#o;
    const regularMs = typeof delayMs === 'number' ? delayMs : delayMs();
    this.#cancelTimer = clock.after(this.#soon ? 0 : regularMs, () => {
      this.#cancelTimer = null;
      this.#underWay = this.#run();
    });
  }

  #disarm(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = null;
  }

  async #run(): Promise<void> {
    this.#soon = false;
    try {
      await this.#o.run();
    } catch (error) {
      this.#o.onError(error);
    } finally {
      this.#underWay = null;
      if (this.#started) this.#arm();
    }
  }
}
