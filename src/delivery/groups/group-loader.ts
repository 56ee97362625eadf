import { present } from '../../errors/present.ts';
import { Fault } from '../../errors/fault.ts';
import type { Clock } from '../../time/clock.ts';
import { within } from '../../time/within.ts';
import type { FoundInAckLog, GroupStore, ListedGroup, NamedGroup } from '../ports/store.ts';

/**
 * The number of groups in a piece. A call waits for the piece under way and for the piece of its
 * group, so pieces are small. 100 groups of 10 members take some 30 ms.
 */
const loadedTogetherMax = 100;
const retryMs = 250;

interface GroupLoaderDeps {
  readonly store: Pick<GroupStore, 'listGroups' | 'readAckLog'>;
  readonly clock: Clock;
  /** Called with all groups, before the first one is loaded. */
  readonly onListed: (groups: readonly ListedGroup[]) => void;
  /**
   * Called when the ack log is read, so that folds can write what the broker before has left there.
   */
  readonly onAckLogRead: (found: FoundInAckLog) => void;
  /**
   * Loads groups into memory. Resolves when their first steps are durable.
   * @param isUrgent calls wait for them.
   * @throws Fault
   */
  readonly take: (groups: readonly NamedGroup[], isUrgent: boolean) => Promise<void>;
  readonly warn: (fields: object, message: string) => void;
  /** Default: 100. */
  readonly loadedTogetherMax?: number;
}

/**
 * Loads all groups after a takeover while the broker serves, in pieces: first the groups that calls
 * wait for, then the others in the order of their ids. The ack log is read once, before the first
 * piece, because a cursor is right only with what the broker before has left there.
 *
 * ```
 *   unloaded ──take──▶ loading ──▶ loaded
 *      ▲                  │
 *      └──────Fault───────┘   calls that wait get the fault; the loader tries again
 * ```
 */
export class GroupLoader {
  readonly #d: GroupLoaderDeps;
  /** Ordered by id. */
  readonly #unloaded = new Map<string, NamedGroup>();
  readonly #wanted = new Map<string, PromiseWithResolvers<void>>();
  #all: PromiseWithResolvers<void> | null = null;
  readonly #halt = Promise.withResolvers<void>();
  #stopped: Error | null = null;
  #running: Promise<void> = Promise.resolve();

  constructor(deps: GroupLoaderDeps) {
    this.#d = deps;
  }

  /** The number of groups that are not in memory yet. */
  get unloaded(): number {
    return this.#unloaded.size;
  }

  isUnloaded(name: string): boolean {
    return this.#unloaded.has(name);
  }

  /** Lists the groups, and begins to load them. @throws Fault */
  async start(): Promise<void> {
    const listed = await this.#d.store.listGroups();
    for (const { id, name } of listed) this.#unloaded.set(name, { id, name });
    this.#d.onListed(listed);
    this.#running = this.#run();
  }

  /**
   * Resolves when the group is in memory, if one of this name exists.
   * @throws Fault, or the reason of `stop`
   */
  loaded(name: string): Promise<void> {
    if (!this.#unloaded.has(name)) return Promise.resolve();
    if (this.#stopped !== null) return Promise.reject(this.#stopped);
    let wanted = this.#wanted.get(name);
    if (wanted === undefined) this.#wanted.set(name, (wanted = Promise.withResolvers()));
    return wanted.promise;
  }

  /** Resolves when all groups are in memory. @throws Fault, or the reason of `stop` */
  allLoaded(): Promise<void> {
    if (this.#unloaded.size === 0) return Promise.resolve();
    if (this.#stopped !== null) return Promise.reject(this.#stopped);
    return (this.#all ??= Promise.withResolvers()).promise;
  }

  /**
   * Stops loading, and rejects waiting calls with `reason`. Resolves when the piece under way has
   * ended. Idempotent.
   */
  async stop(reason: Error): Promise<void> {
    this.#end(reason);
    await this.#running;
  }

  async #run(): Promise<void> {
    await this.#untilDone(async () => {
      const found = await this.#d.store.readAckLog();
      if (this.#stopped === null) this.#d.onAckLogRead(found);
    });
    while (this.#unloaded.size > 0 && this.#stopped === null) {
      const isUrgent = this.#wanted.size > 0;
      const piece = this.#nextPiece();
      await this.#untilDone(() => this.#d.take(piece, isUrgent));
      if (this.#stopped === null) for (const { name } of piece) this.#done(name);
    }
    if (this.#unloaded.size === 0) this.#all?.resolve();
  }

  /** Groups for which calls wait make a piece of their own, so that they are loaded soonest. */
  #nextPiece(): NamedGroup[] {
    const piece: NamedGroup[] = [];
    const names = this.#wanted.size > 0 ? this.#wanted.keys() : this.#unloaded.keys();
    for (const name of names) {
      piece.push(present(this.#unloaded.get(name), 'a queued group is not loaded'));
      if (piece.length === (this.#d.loadedTogetherMax ?? loadedTogetherMax)) break;
    }
    return piece;
  }

  #done(name: string): void {
    this.#unloaded.delete(name);
    this.#wanted.get(name)?.resolve();
    this.#wanted.delete(name);
  }

  /**
   * Repeats the work while the database fails. Waiting calls get the fault at the first failure.
   */
  async #untilDone(work: () => Promise<void>): Promise<void> {
    while (this.#stopped === null) {
      try {
        await work();
        return;
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
        if (this.#stopped !== null) return;
        // Another broker has taken over meanwhile.
        if (error.kind === 'FENCED') this.#end(error);
        else await this.#failed(error);
      }
    }
  }

  async #failed(fault: Fault): Promise<void> {
    this.#reject(fault);
    this.#d.warn({ err: fault, unloaded: this.#unloaded.size }, 'groups could not be loaded; it is tried again');
    await within(this.#d.clock, retryMs, this.#halt.promise);
  }

  #end(reason: Error): void {
    this.#stopped ??= reason;
    this.#halt.resolve();
    this.#reject(this.#stopped);
  }

  #reject(reason: Error): void {
    for (const wanted of this.#wanted.values()) wanted.reject(reason);
    this.#wanted.clear();
    this.#all?.reject(reason);
    this.#all = null;
  }
}
