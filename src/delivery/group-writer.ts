import { Fault } from '../errors/fault.ts';
import type { GroupChange } from '../coordinator/group.ts';
import type { Clock, Random } from '../time/clock.ts';
import type { GroupStore } from './store.ts';

const retryMsMin = 100;
const retryMsMax = 2_000;

interface Waiting {
  readonly groupId: number;
  readonly change: GroupChange;
  readonly done: PromiseWithResolvers<void>;
}

/**
 * Writes what the coordinators of all groups decided. Changes that come while a write is under way go together in the
 * next one, so that a storm of joins costs few transactions. A change says what is, not what to add, so writing it
 * twice is harmless and a write whose outcome is unknown is simply repeated; that goes on until it is durable or this
 * broker is fenced, because the coordinator in memory has gone ahead already.
 */
export class GroupWriter {
  readonly #store: GroupStore;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #onFenced: () => void;
  #waiting: Waiting[] = [];
  #writing = false;
  #stopped = false;

  constructor(deps: { store: GroupStore; clock: Clock; random: Random; onFenced: () => void }) {
    this.#store = deps.store;
    this.#clock = deps.clock;
    this.#random = deps.random;
    this.#onFenced = deps.onFenced;
  }

  /** Resolves once the change is durable; rejects with FENCED if another broker has taken over first. */
  save(groupId: number, change: GroupChange): Promise<void> {
    if (this.#stopped) return Promise.reject(stopped());
    const done = Promise.withResolvers<void>();
    this.#waiting.push({ groupId, change, done });
    if (!this.#writing) void this.#writeAll();
    return done.promise;
  }

  stop(): void {
    this.#stopped = true;
    for (const one of this.#waiting) one.done.reject(stopped());
    this.#waiting = [];
  }

  async #writeAll(): Promise<void> {
    this.#writing = true;
    let retryMs = retryMsMin;
    while (this.#waiting.length > 0 && !this.#stopped) {
      const taken = this.#waiting;
      this.#waiting = [];
      try {
        await this.#store.saveGroups(taken);
        retryMs = retryMsMin;
        for (const one of taken) one.done.resolve();
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
        this.#waiting = [...taken, ...this.#waiting];
        if (error.kind === 'FENCED') {
          this.stop();
          this.#onFenced();
          return;
        }
        await this.#pause(retryMs);
        retryMs = Math.min(retryMsMax, retryMs * 2);
      }
    }
    this.#writing = false;
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resume) => {
      this.#clock.after(ms * (0.5 + this.#random.fraction() / 2), resume);
    });
  }
}

function stopped(): Fault {
  return new Fault('FENCED', 'this broker does not own the group any more');
}
