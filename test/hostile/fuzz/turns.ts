import { Agent, get } from 'node:http';

/** What has no answer after both never will have one. On a busy machine the turns take longer. */
const silentMs = 30_000;
const silentTurns = 300;

/** Resolves after so long, or when nobody waits any more. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener('abort', () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

/**
 * Counts how often the broker has had its turn, by questions of one connection, each after the
 * answer to the last. What was sent before some questions has been read after the last answer,
 * however busy the machine is.
 */
export class Turns {
  readonly #port: number;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 });
  readonly #waiting = new Set<{ left: number; readonly resolve: () => void }>();
  #asking = false;

  constructor(port: number) {
    this.#port = port;
  }

  /** Resolves after so many turns, also if the broker has gone. */
  passed(count: number): Promise<void> {
    return new Promise((resolve) => {
      // The question under way does not count.
      this.#waiting.add({ left: count + 1, resolve });
      if (!this.#asking) void this.#ask();
    });
  }

  /** Resolves when the broker has had so much time that it cannot be about to answer. */
  async silence(signal: AbortSignal): Promise<'silent'> {
    await pause(silentMs, signal);
    if (!signal.aborted) await this.passed(silentTurns);
    return 'silent';
  }

  /** Nobody waits any more. */
  close(): void {
    this.#waiting.clear();
    this.#agent.destroy();
  }

  async #ask(): Promise<void> {
    this.#asking = true;
    while (this.#waiting.size > 0) {
      await this.#answer();
      for (const waiting of this.#waiting) {
        waiting.left -= 1;
        if (waiting.left > 0) continue;
        this.#waiting.delete(waiting);
        waiting.resolve();
      }
    }
    this.#asking = false;
  }

  #answer(): Promise<void> {
    return new Promise((resolve) => {
      const options = { host: '127.0.0.1', port: this.#port, path: '/healthz', agent: this.#agent };
      const request = get(options, (response) => response.resume().once('close', resolve));
      request.once('error', () => {
        resolve();
      });
    });
  }
}
