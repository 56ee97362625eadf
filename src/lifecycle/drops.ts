import { Fault } from '../errors/fault.ts';
import { Trouble } from '../errors/trouble.ts';
import { limits } from '../limits/limits.ts';
import { nextStep, type DropPressure, type DropStep } from '../retention/drop-step.ts';
import type { BackgroundJob } from '../time/background-job.ts';
import type { Clock } from '../time/clock.ts';
import { Every } from '../time/every.ts';
import type { Logger } from '../time/logger.ts';
import {
  detachesAtOnce,
  type BlockingSession,
  type PlannedDrop,
  type RetentionStore,
  type TableFacts,
} from './store.ts';

const intervalMs = 5_000;
/** Tables that one look reads. */
const tablesMax = 50;
/** A look with so many failures ends, because the database does not serve. */
const failuresMax = 3;

type DropStore = Pick<
  RetentionStore,
  'pendingDrops' | 'table' | 'detach' | 'cancelDetach' | 'finalize' | 'drop' | 'done' | 'audit' | 'stop'
>;

/** A table that is planned to go. */
export interface OpenDrop {
  readonly segment: number;
  readonly bytes: number;
  readonly blockers: readonly BlockingSession[];
}

interface DropsDeps {
  readonly store: DropStore;
  readonly clock: Clock;
  readonly log: Logger;
  /** Whether the topic needs its next segment now, whose attach a detach may block. */
  readonly wantsSegment: (topicId: number) => boolean;
}

/** What is remembered of a table between two looks. */
interface OpenTable {
  readonly drop: PlannedDrop;
  /** Since when its drop was tried while others used it. */
  missedSinceMs: number | null;
  /** Since when sessions keep it from going. */
  blockedSinceMs: number | null;
  blockers: readonly BlockingSession[];
  isDetaching: boolean;
  /** The number of the last look that read it. */
  seen: number;
}

/**
 * Detaches and drops the tables of dropped segments, step by step. What to do is decided by a look
 * at the catalog each time, so that a crash between two steps loses nothing. Without open drops
 * nothing is asked.
 */
export class Drops implements BackgroundJob {
  readonly #d: DropsDeps;
  readonly #loop: Every;
  readonly #trouble: Trouble;
  readonly #tables = new Map<string, OpenTable>();
  readonly #detaching = new Set<Promise<void>>();
  #open = 0;
  /** Whether there may be open drops. */
  #hasWork = false;
  #look = 0;
  /** A table waited for a session in the last look. */
  #wantsSession = false;
  #stopped = true;

  constructor(deps: DropsDeps) {
    const { clock, log } = deps;
    this.#d = deps;
    this.#trouble = new Trouble({ what: 'the drop of tables', clock, log });
    this.#loop = new Every({
      clock,
      delayMs: intervalMs,
      run: () => this.#lookAtAll(),
      onError: (error) => {
        this.#failed(error);
      },
    });
  }

  start(): void {
    this.#stopped = false;
    this.#hasWork = true;
    this.#loop.start();
    this.#loop.soon();
  }

  /** A detach under way goes on in the server, and the next owner finds it. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#d.store.stop();
    await this.#loop.stop();
    await Promise.allSettled(this.#detaching);
    if (this.#stopped) this.#trouble.drop();
  }

  /** A plan has made more drops. */
  soon(): void {
    this.#hasWork = true;
    this.#loop.soon();
  }

  /**
   * The last drops of topics of that name whose tables are still there, with the sessions that the
   * last look has found to keep them. @throws Fault
   */
  async openDrops(topicName: string): Promise<OpenDrop[]> {
    const audit = await this.#d.store.audit(topicName, limits.dropsListedMax);
    const open = audit.filter(({ doneAtMs }) => doneAtMs === null);
    return open.map(({ segment, bytes }) => ({ segment, bytes, blockers: this.#blockersOf(topicName, segment) }));
  }

  /** For /metrics. */
  stats() {
    const nowMs = this.#d.clock.nowMs();
    let blockedMs = 0;
    for (const { blockedSinceMs } of this.#tables.values()) {
      if (blockedSinceMs !== null) blockedMs = Math.max(blockedMs, nowMs - blockedSinceMs);
    }
    return { dropsOpen: this.#open, dropsBlockedSeconds: blockedMs / 1_000 };
  }

  async #lookAtAll(): Promise<void> {
    if (!this.#hasWork) return;
    this.#hasWork = false;
    const pending = await this.#d.store.pendingDrops().catch((error: unknown) => {
      this.#hasWork = true;
      throw error;
    });
    this.#open = pending.length;
    this.#hasWork = pending.length > 0;
    this.#forgetAllBut(pending);
    this.#look += 1;
    let wantsSession = false;
    let failures = 0;
    for (const drop of this.#chosen(pending)) {
      if (this.#stopped || failures === failuresMax) return;
      try {
        if ((await this.#advance(drop)) === 'NO_SESSION') wantsSession = true;
      } catch (error) {
        failures += 1;
        this.#failed(error);
      }
    }
    this.#wantsSession = wantsSession;
    if (failures === 0) this.#trouble.worked();
  }

  #blockersOf(topicName: string, segment: number): readonly BlockingSession[] {
    for (const { drop, blockers } of this.#tables.values()) {
      if (drop.topicName === topicName && drop.segment === segment) return blockers;
    }
    return [];
  }

  #forgetAllBut(pending: readonly PlannedDrop[]): void {
    const left = new Set(pending.map(keyOf));
    for (const [key, { isDetaching }] of this.#tables) if (!left.has(key) && !isDetaching) this.#tables.delete(key);
  }

  /**
   * The tables of this look: those with a session at work, then the oldest of each topic, the
   * topics that were not looked at for longest first.
   */
  #chosen(pending: readonly PlannedDrop[]): PlannedDrop[] {
    const isAtWork = (drop: PlannedDrop): boolean => this.#tables.get(keyOf(drop))?.isDetaching === true;
    const chosen = pending.filter(isAtWork);
    const waiting = Map.groupBy(
      pending.filter((drop) => !isAtWork(drop)),
      ({ topicId }) => topicId,
    );
    const seen = ([first]: readonly PlannedDrop[]): number =>
      first === undefined ? 0 : (this.#tables.get(keyOf(first))?.seen ?? -1);
    const topics = [...waiting.values()].sort((a, b) => seen(a) - seen(b));
    for (let turn = 0; chosen.length < tablesMax; turn += 1) {
      const next = topics.flatMap((drops) => drops[turn] ?? []);
      if (next.length === 0) break;
      chosen.push(...next);
    }
    return chosen.slice(0, tablesMax);
  }

  /** Does the next step of a table, and notes that it is gone. */
  async #advance(drop: PlannedDrop): Promise<'LATER' | 'NO_SESSION'> {
    const table = await this.#d.store.table(drop);
    const open = this.#seen(drop, table);
    const step = nextStep(table, this.#pressure(drop, open));
    // The catalog may not show yet that a detach of this process has begun.
    if (step.type === 'DETACH') return open.isDetaching ? 'LATER' : this.#detach(drop, open);
    await this.#carryOut(drop, table, open, step);
    if (step.type === 'DROP' && !(await this.#d.store.table(drop)).exists) await this.#done(drop);
    return 'LATER';
  }

  async #done(drop: PlannedDrop): Promise<void> {
    await this.#d.store.done(drop);
    this.#tables.delete(keyOf(drop));
    this.#open -= 1;
    // The table of a deleted topic goes after those of its segments, which may be the ones.
    this.soon();
  }

  #seen(drop: PlannedDrop, { attached, exists, blockers }: TableFacts): OpenTable {
    const nowMs = this.#d.clock.nowMs();
    const key = keyOf(drop);
    const before = this.#tables.get(key);
    const isPending = exists && attached === 'PENDING';
    const open: OpenTable = {
      drop,
      missedSinceMs: isPending ? (before?.missedSinceMs ?? nowMs) : null,
      blockedSinceMs: blockers.length > 0 ? (before?.blockedSinceMs ?? nowMs) : null,
      blockers,
      isDetaching: before?.isDetaching ?? false,
      seen: this.#look,
    };
    this.#tables.set(key, open);
    return open;
  }

  #pressure({ topicId }: PlannedDrop, { missedSinceMs }: OpenTable): DropPressure {
    return {
      wantsSegment: this.#d.wantsSegment(topicId),
      wantsSession: this.#wantsSession,
      missedMs: missedSinceMs === null ? 0 : this.#d.clock.nowMs() - missedSinceMs,
    };
  }

  /** Begins a detach, which may wait for minutes, beside the looks. */
  #detach(drop: PlannedDrop, open: OpenTable): 'LATER' | 'NO_SESSION' {
    if (this.#detaching.size >= detachesAtOnce) return 'NO_SESSION';
    // PostgreSQL lets one detach of a topic be under way.
    if (this.#isDetachingOf(drop.topicId)) return 'LATER';
    open.isDetaching = true;
    const detaching: Promise<void> = this.#d.store
      .detach(drop)
      .catch((error: unknown) => {
        this.#failed(error);
      })
      .finally(() => {
        this.#detaching.delete(detaching);
        const now = this.#tables.get(keyOf(drop));
        if (now !== undefined) now.isDetaching = false;
        this.soon();
      });
    this.#detaching.add(detaching);
    return 'LATER';
  }

  #isDetachingOf(topicId: number): boolean {
    for (const [key, { isDetaching }] of this.#tables) if (isDetaching && key.startsWith(`${topicId}/`)) return true;
    return false;
  }

  async #carryOut(drop: PlannedDrop, table: TableFacts, open: OpenTable, step: DropStep): Promise<void> {
    const { store, clock } = this.#d;
    switch (step.type) {
      case 'DONE':
        await this.#done(drop);
        return;
      case 'DROP':
        await store.drop(drop, step.lockTimeoutMs);
        return;
      case 'FINALIZE':
        // The misses count from now, or each look would block the attach of the next segment.
        open.missedSinceMs = clock.nowMs();
        await store.finalize(drop, step.lockTimeoutMs);
        return;
      case 'CANCEL':
        if (table.detachingPid !== null) await store.cancelDetach(table.detachingPid);
        return;
      case 'WAIT':
      case 'DETACH':
    }
  }

  #failed(error: unknown): void {
    this.#hasWork = true;
    if (this.#stopped) return;
    if (error instanceof Fault) {
      // Another broker drops from now on.
      if (error.kind !== 'FENCED') this.#trouble.failed(error);
    } else {
      this.#d.log.warn({ err: error }, 'the table of a dropped segment could not be dropped; it is tried again');
    }
  }
}

function keyOf({ topicId, segment }: PlannedDrop): string {
  return `${topicId}/${segment}`;
}
