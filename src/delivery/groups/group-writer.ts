import { Fault } from '../../errors/fault.ts';
import type { GroupChange } from '../../coordinator/group.ts';
import { Backoff } from '../../time/backoff.ts';
import type { Clock, Random } from '../../time/clock.ts';
import { pause } from '../../time/pause.ts';
import { notOwner } from '../dispatch/not-owner.ts';
import type { GroupStore, SavedChange, SubscriptionRow } from '../ports/store.ts';

/** The wait before a write with an unknown outcome is repeated. */
const repeatMs = 250;
/** The most groups whose signs of life go in one write. */
const notedTogetherMax = 1_000;

interface Waiting extends SavedChange {
  readonly done: PromiseWithResolvers<void>;
}

/** A group whose members this broker has heard. */
interface HeardGroup {
  readonly id: number;
  /** Whether the database has it, or will have it. */
  isHeardNoted: boolean;
}

/**
 * Writes the decisions of all coordinators. Changes that come during a write go together in the
 * next one, so that a storm of joins costs few transactions.
 *
 * A change contains the new state, so a repeated write of it is harmless. The writer repeats a
 * failed write until the change is durable or this broker is fenced, because the coordinator in
 * memory has gone ahead already.
 */
export class GroupWriter {
  readonly #store: GroupStore;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #backoff: Backoff;
  readonly #onFenced: () => void;
  readonly #onSubscriptions: (rows: readonly SubscriptionRow[]) => void;
  #waiting: Waiting[] = [];
  #writing = false;
  readonly #heard = new Set<HeardGroup>();
  #noting = false;
  /** The last write has failed, and may have committed. */
  #isRepeat = false;
  /** Aborted by the stop. Ends the pauses between tries. */
  readonly #ending = new AbortController();

  constructor(deps: {
    store: GroupStore;
    clock: Clock;
    random: Random;
    onFenced: () => void;
    /** Called with the subscriptions that a write has changed, before it is reported as durable. */
    onSubscriptions: (rows: readonly SubscriptionRow[]) => void;
  }) {
    this.#store = deps.store;
    this.#clock = deps.clock;
    this.#random = deps.random;
    this.#backoff = new Backoff(deps.clock, deps.random);
    this.#onFenced = deps.onFenced;
    this.#onSubscriptions = deps.onSubscriptions;
  }

  /** Resolves when the change is durable. Rejects with FENCED if another broker has taken over. */
  save(groupId: number, change: GroupChange, heardAgoMs: () => number | null): Promise<void> {
    if (this.#ending.signal.aborted) return Promise.reject(notOwner());
    const done = Promise.withResolvers<void>();
    this.#waiting.push({ groupId, change, heardAgoMs, done });
    if (!this.#writing) void this.#writeAll();
    return done.promise;
  }

  /**
   * Runs another write, which must be harmless to repeat. A write with an unknown outcome is
   * repeated until the outcome is known. A write that has changed nothing fails.
   * @param known is called with the result before the answer of any later write counts.
   * @throws Fault
   */
  async settle<T>(write: (store: GroupStore) => Promise<T>, known?: (result: T) => void): Promise<T> {
    for (let unknown = false; ;) {
      if (this.#ending.signal.aborted) throw notOwner();
      try {
        const result = await write(this.#store);
        known?.(result);
        return result;
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
        if (error.kind === 'FENCED') this.#onFenced();
        unknown ||= error.kind === 'OUTCOME_UNKNOWN';
        if (!unknown || error.kind === 'FENCED') throw error;
        await pause(this.#clock, repeatMs, this.#ending.signal);
      }
    }
  }

  /** Makes the first sign of life of a group durable. Those of many groups go together. */
  heard(group: HeardGroup): void {
    if (group.isHeardNoted) return;
    group.isHeardNoted = true;
    this.#heard.add(group);
    if (!this.#noting) void this.#noteAll();
  }

  stop(): void {
    this.#ending.abort();
    for (const one of this.#waiting) one.done.reject(notOwner());
    this.#waiting = [];
  }

  async #noteAll(): Promise<void> {
    this.#noting = true;
    const backoff = new Backoff(this.#clock, this.#random);
    while (this.#heard.size > 0 && !this.#ending.signal.aborted) {
      const groups = [...this.#heard].slice(0, notedTogetherMax);
      try {
        await this.settle((store) => store.noteHeard(groups.map(({ id }) => id)));
        backoff.reset();
        for (const group of groups) this.#heard.delete(group);
      } catch (error) {
        if (!(error instanceof Fault) && !this.#ending.signal.aborted) throw error;
        await backoff.pause(this.#ending.signal);
      }
    }
    this.#noting = false;
  }

  async #writeAll(): Promise<void> {
    this.#writing = true;
    while (this.#waiting.length > 0 && !this.#ending.signal.aborted) {
      const taken = this.#waiting;
      this.#waiting = [];
      try {
        this.#onSubscriptions(await this.#store.saveGroups(taken, this.#isRepeat));
        this.#isRepeat = false;
        this.#backoff.reset();
        for (const one of taken) one.done.resolve();
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
        this.#waiting = [...taken, ...this.#waiting];
        this.#isRepeat = true;
        if (error.kind === 'FENCED') {
          this.stop();
          this.#onFenced();
          return;
        }
        await this.#backoff.pause(this.#ending.signal);
      }
    }
    this.#writing = false;
  }
}
