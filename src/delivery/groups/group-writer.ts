import { Fault } from '../../errors/fault.ts';
import type { GroupChange } from '../../coordinator/group.ts';
import { Backoff } from '../../time/backoff.ts';
import type { Clock, Random } from '../../time/clock.ts';
import { pause } from '../../time/pause.ts';
import { notOwner } from '../dispatch/not-owner.ts';
import type { GroupStore } from '../ports/store.ts';

/** Before a write whose outcome is not known is repeated. */
const repeatMs = 250;

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
  readonly #backoff: Backoff;
  readonly #onFenced: () => void;
  #waiting: Waiting[] = [];
  #writing = false;
  #stopped = false;

  constructor(deps: { store: GroupStore; clock: Clock; random: Random; onFenced: () => void }) {
    this.#store = deps.store;
    this.#clock = deps.clock;
    this.#backoff = new Backoff(deps.clock, deps.random);
    this.#onFenced = deps.onFenced;
  }

  /** Resolves once the change is durable; rejects with FENCED if another broker has taken over first. */
  save(groupId: number, change: GroupChange): Promise<void> {
    if (this.#stopped) return Promise.reject(notOwner());
    const done = Promise.withResolvers<void>();
    this.#waiting.push({ groupId, change, done });
    if (!this.#writing) void this.#writeAll();
    return done.promise;
  }

  /**
   * Does a write of another kind, which must be harmless to repeat: one whose outcome is not known is repeated until it is. A write that
   * has changed nothing fails.
   * @throws Fault
   */
  async settle<T>(write: (store: GroupStore) => Promise<T>): Promise<T> {
    for (let unknown = false; ;) {
      if (this.#stopped) throw notOwner();
      try {
        return await write(this.#store);
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
        if (error.kind === 'FENCED') this.#onFenced();
        unknown ||= error.kind === 'OUTCOME_UNKNOWN';
        if (!unknown || error.kind === 'FENCED') throw error;
        await pause(this.#clock, repeatMs);
      }
    }
  }

  stop(): void {
    this.#stopped = true;
    for (const one of this.#waiting) one.done.reject(notOwner());
    this.#waiting = [];
  }

  async #writeAll(): Promise<void> {
    this.#writing = true;
    while (this.#waiting.length > 0 && !this.#stopped) {
      const taken = this.#waiting;
      this.#waiting = [];
      try {
        await this.#store.saveGroups(taken);
        this.#backoff.reset();
        for (const one of taken) one.done.resolve();
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
        this.#waiting = [...taken, ...this.#waiting];
        if (error.kind === 'FENCED') {
          this.stop();
          this.#onFenced();
          return;
        }
        await this.#backoff.pause();
      }
    }
    this.#writing = false;
  }
}
