import { Fault } from '../errors/fault.ts';
import type { Trouble } from '../errors/trouble.ts';
import type { Clock } from '../time/clock.ts';
import { pause } from '../time/pause.ts';
import type { LogEnd, LogStore } from './store.ts';

/** The ends of so many topics are read together, by so many reads at a time. */
const loadedTogether = 20;
const readsAtOnce = 2;
const retryMs = 250;

/** A topic whose ends the loader must read. */
interface EndlessTopic {
  readonly row: { readonly id: number };
  /** Takes the ends of its logs; none if the topic is gone. */
  opened(ends: readonly LogEnd[]): void;
}

interface EndsLoaderDeps {
  readonly store: Pick<LogStore, 'endsOf'>;
  readonly clock: Clock;
  readonly trouble: Pick<Trouble, 'failed' | 'worked' | 'drop'>;
}

/**
 * Reads the ends of all logs after a takeover while the broker serves, because each topic has a
 * table of its own, and 10,000 of them take seconds: first the topics that calls wait for, then
 * those of the groups that are loaded next, then the others in the order of their ids.
 *
 * ```
 *   waiting ──next──▶ read under way ──▶ opened
 *      ▲                    │
 *      └───────Fault────────┘   calls that wait get the fault; the loader tries again
 * ```
 */
export class EndsLoader {
  readonly #d: EndsLoaderDeps;
  /** No read of theirs is under way. */
  readonly #waiting = new Map<number, EndlessTopic>();
  readonly #wanted = new Map<number, PromiseWithResolvers<void>>();
  /** Those of the wanted and waiting for which calls wait. */
  readonly #urgent = new Set<number>();
  #ending = new AbortController();
  #reads = 0;
  #running: Promise<unknown> = Promise.resolve();

  constructor(deps: EndsLoaderDeps) {
    this.#d = deps;
  }

  /** Adds a topic, before the start. */
  add(topic: EndlessTopic): void {
    this.#waiting.set(topic.row.id, topic);
  }

  start(): void {
    if (this.#ending.signal.aborted) this.#ending = new AbortController();
    this.#begin();
  }

  /**
   * Resolves when the topic, which was added and has not opened, has opened.
   * @param isUrgent a call waits for it.
   * @throws Fault
   */
  opened(topicId: number, isUrgent: boolean): Promise<void> {
    if (this.#ending.signal.aborted) return Promise.reject(stopped());
    let wanted = this.#wanted.get(topicId);
    if (wanted === undefined) this.#wanted.set(topicId, (wanted = Promise.withResolvers()));
    if (isUrgent && this.#waiting.has(topicId)) this.#urgent.add(topicId);
    this.#begin();
    return wanted.promise;
  }

  /** Rejects the calls that wait. Resolves when the reads under way have ended. Idempotent. */
  async stop(): Promise<void> {
    this.#ending.abort();
    this.#reject(stopped());
    await this.#running;
    if (this.#ending.signal.aborted) this.#d.trouble.drop();
  }

  #begin(): void {
    if (this.#waiting.size === 0) return;
    while (this.#reads < readsAtOnce) {
      this.#reads++;
      const read = this.#run().finally(() => this.#reads--);
      // A read from before a stop may fail after the next start.
      const next = read.then(() => {
        if (!this.#ending.signal.aborted) this.#begin();
      });
      this.#running = Promise.all([this.#running, next]);
    }
  }

  async #run(): Promise<void> {
    const { signal } = this.#ending;
    while (!signal.aborted) {
      const piece = this.#next();
      if (piece.length === 0) return;
      try {
        const ends = await this.#d.store.endsOf(piece.map(({ row }) => row.id));
        this.#d.trouble.worked();
        for (const topic of piece) this.#opened(topic, ends.get(topic.row.id) ?? []);
      } catch (error) {
        for (const topic of piece) this.#waiting.set(topic.row.id, topic);
        if (!(error instanceof Fault)) throw error;
        if (signal.aborted) return;
        this.#reject(error);
        this.#d.trouble.failed(error);
        await pause(this.#d.clock, retryMs, signal);
      }
    }
  }

  /** Topics for which calls wait make a piece of their own, so that they open soonest. */
  #next(): EndlessTopic[] {
    const piece: EndlessTopic[] = [];
    const take = (topicIds: Iterable<number>): void => {
      for (const topicId of topicIds) {
        if (piece.length === loadedTogether) return;
        const topic = this.#waiting.get(topicId);
        if (topic === undefined) continue;
        piece.push(topic);
        this.#waiting.delete(topicId);
        this.#urgent.delete(topicId);
      }
    };
    take(this.#urgent);
    if (piece.length === 0) take(this.#wanted.keys());
    if (piece.length === 0) take(this.#waiting.keys());
    return piece;
  }

  #opened(topic: EndlessTopic, ends: readonly LogEnd[]): void {
    topic.opened(ends);
    this.#wanted.get(topic.row.id)?.resolve();
    this.#wanted.delete(topic.row.id);
  }

  #reject(fault: Fault): void {
    for (const wanted of this.#wanted.values()) wanted.reject(fault);
    this.#wanted.clear();
    this.#urgent.clear();
  }
}

function stopped(): Fault {
  return new Fault('DATABASE_UNAVAILABLE', 'the broker ended before it had read the ends of the logs');
}
