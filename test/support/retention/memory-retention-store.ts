import { cursorName } from '../../../src/delivery/ports/store.ts';
import { Fault } from '../../../src/errors/fault.ts';
import type {
  DropPlan,
  MovedWatermarks,
  Planned,
  PlannedDrop,
  RetentionStore,
  StoredDrop,
  StoredFacts,
  StoredWatermarks,
  TableFacts,
} from '../../../src/lifecycle/store.ts';
import type { StoredStart, TopicRow } from '../../../src/log/store.ts';
import { gapReasonOf, type OwedClaim } from '../../../src/retention/decision.ts';
import { isPassed } from '../../../src/retention/gap.ts';
import type { MemoryGroups } from '../memory-group-store.ts';
import type { MemoryDrops } from './memory-drops.ts';
import { logKey, type StoredSegments } from './stored-segments.ts';

/** The tables of the log that retention changes. */
export interface RetentionTables {
  readonly topics: ReadonlyMap<
    number,
    { row: TopicRow; readonly segments: StoredSegments; readonly segmentBytes: number }
  >;
  readonly drops: MemoryDrops;
  readonly watermarks: Map<string, StoredWatermarks>;
  drop(topicId: number, segment: number): void;
}

interface MemoryRetentionOptions {
  readonly logs: RetentionTables;
  readonly groups: MemoryGroups;
  /** Throws if the broker of this store does not own the database any more. */
  readonly demandOwner: () => void;
}

/** RetentionStore in memory, with the faults that a test or the simulation asks for. */
export class MemoryRetentionStore implements RetentionStore {
  readonly #o: MemoryRetentionOptions;
  /** Called before each call has any effect: may wait, or throw the fault that it fails with. */
  before: (call: keyof RetentionStore) => Promise<void> | void = () => undefined;
  /** Called after the effect: throwing here is an answer that was lost. */
  after: (call: keyof RetentionStore) => Promise<void> | void = () => undefined;
  /** Whether the disk is full. */
  isFull = false;
  /** Topics that other work locks. */
  readonly busy = new Set<number>();

  constructor(options: MemoryRetentionOptions) {
    this.#o = options;
    const { groups, logs } = options;
    groups.logStart = (topicId, partition, lane) =>
      logs.topics.get(topicId)?.segments.startOf(logKey(partition, lane)) ?? 0;
    groups.subscriptions.onClaimed = (topicId) => {
      this.#claimed(topicId);
    };
  }

  facts(topicId: number): Promise<StoredFacts | null> {
    return this.#read('facts', () => this.#facts(topicId));
  }

  plan(plan: DropPlan): Promise<Planned | 'CHANGED' | 'BUSY'> {
    return this.#write('plan', () => {
      const { topicId } = plan.facts;
      if (this.busy.has(topicId)) return 'BUSY';
      const now = this.#facts(topicId);
      if (now === null || !isSame(now, plan)) return 'CHANGED';
      return this.#commit(plan, now);
    });
  }

  decidedStarts(topicId: number): Promise<StoredStart[]> {
    return this.#read('decidedStarts', () => this.#starts(topicId));
  }

  saveWatermarks(moved: readonly MovedWatermarks[]): Promise<number[]> {
    return this.#write('saveWatermarks', () =>
      moved.flatMap(({ facts, lane, offsets }) => {
        const { topicId } = facts;
        const claims = this.#facts(topicId)?.claims;
        if (this.busy.has(topicId) || claims === undefined || seqsOf(claims) !== seqsOf(facts.claims)) return [];
        this.#o.logs.watermarks.set(`${topicId}/${lane}`, { topicId, lane, offsets: [...offsets] });
        return [topicId];
      }),
    );
  }

  loadWatermarks(): Promise<StoredWatermarks[]> {
    const { watermarks, topics } = this.#o.logs;
    const order = (a: StoredWatermarks, b: StoredWatermarks): number => a.topicId - b.topicId || a.lane - b.lane;
    return this.#read('loadWatermarks', () =>
      [...watermarks.values()].filter(({ topicId }) => topics.has(topicId)).sort(order),
    );
  }

  pendingDrops(): Promise<PlannedDrop[]> {
    return this.#read('pendingDrops', () => this.#o.logs.drops.pending());
  }

  table(drop: PlannedDrop): Promise<TableFacts> {
    return this.#read('table', () => this.#o.logs.drops.table(drop));
  }

  detach(drop: PlannedDrop): Promise<void> {
    return this.#read('detach', () => this.#o.logs.drops.detach(drop));
  }

  cancelDetach(): Promise<void> {
    return this.#read('cancelDetach', () => undefined);
  }

  finalize(drop: PlannedDrop): Promise<void> {
    return this.#read('finalize', () => this.#o.logs.drops.finalize(drop));
  }

  drop(drop: PlannedDrop): Promise<void> {
    return this.#read('drop', () => this.#o.logs.drops.drop(drop));
  }

  done(drop: PlannedDrop): Promise<void> {
    return this.#write('done', () => this.#o.logs.drops.done(drop, this.#nowMs()));
  }

  firstOffsets(topicId: number, segments: readonly number[], logsMax: number): Promise<Map<number, StoredStart[]>> {
    return this.#read('firstOffsets', () => {
      const topic = this.#o.logs.topics.get(topicId);
      const partitions = topic?.row.partitions.slice(0, logsMax) ?? [];
      const of = (segment: number): StoredStart[] => {
        const bases = [...topic!.segments.sealed, topic!.segments.current].find(
          (one) => one.segment === segment,
        )?.bases;
        return partitions.map(({ partition }) => {
          return { partition, lane: 0, startOffset: bases?.get(logKey(partition, 0)) ?? 0 };
        });
      };
      return new Map(segments.map((segment) => [segment, topic === undefined ? [] : of(segment)]));
    });
  }

  audit(topicName: string, limit: number): Promise<StoredDrop[]> {
    return this.#read('audit', () => this.#o.logs.drops.audit(topicName, limit));
  }

  tidy(): Promise<void> {
    return this.#write('tidy', () => {
      const { cursors, gaps, subscriptions } = this.#o.groups;
      for (const [name, { key, gap, isTold }] of gaps) {
        const committed = cursors.get(name)?.cursor.committedOffset ?? Infinity;
        const isOver = subscriptions.find(key.subscriptionId)?.state === 'CANCELLED';
        if (isOver || (isTold && isPassed(gap, committed))) gaps.delete(name);
      }
    });
  }

  hasSpace(): Promise<boolean> {
    return this.#read('hasSpace', () => !this.isFull);
  }

  freeBallast(): Promise<void> {
    return this.#write('freeBallast', () => undefined);
  }

  makeBallast(): Promise<void> {
    return this.#write('makeBallast', () => undefined);
  }

  stop(): void {
    // Nothing waits for a long time.
  }

  #facts(topicId: number): StoredFacts | null {
    const topic = this.#o.logs.topics.get(topicId);
    if (topic === undefined) return null;
    const { segments, row, segmentBytes } = topic;
    const current = segments.current.segment;
    const claims = this.#claims(topicId, row, segments);
    return {
      topicId,
      nowMs: this.#nowMs(),
      settings: row.retention,
      current,
      currentBytes: row.retention.maxBytes === null ? 0 : segmentBytes,
      sealed: segments.sealed.map(({ segment, bytes, lastAppendMs, completedAtMs }) => {
        return { segment, bytes, lastAppendMs, completedAtMs };
      }),
      claims,
      watermarks: row.partitions.map(({ partition }) => {
        const live = claims.filter(({ state }) => state !== 'DEAD');
        const committed = live.map(({ subscriptionId }) => this.#committed(subscriptionId, partition, segments));
        return { partition, lane: 0, folded: live.length === 0 ? null : Math.min(...committed) };
      }),
    };
  }

  #claims(topicId: number, { partitions }: TopicRow, segments: StoredSegments): OwedClaim[] {
    const { groups } = this.#o.groups;
    return claimRows(this.#o.groups, topicId).map(({ id, groupId, state, claimSeq, stateChangedAtMs }) => {
      const needs = partitions.map(({ partition }) => {
        const key = logKey(partition, 0);
        const committed = this.#committed(id, partition, segments);
        // A log that has nothing behind the cursor in the sealed segments needs none of them.
        return committed >= segments.baseOf(key)
          ? segments.current.segment
          : segments.segmentOf(key, committed).segment;
      });
      return {
        subscriptionId: id,
        group: groups.find((group) => group.id === groupId)?.name ?? '',
        state,
        claimSeq,
        diedAtMs: state === 'DEAD' ? stateChangedAtMs : null,
        needs: Math.min(...needs),
      };
    });
  }

  /** The folded offset of a cursor, but not below the start of its log. */
  #committed(subscriptionId: number, partition: number, segments: StoredSegments): number {
    const stored = this.#o.groups.cursors.get(cursorName({ subscriptionId, partition, lane: 0 }));
    return Math.max(stored?.cursor.committedOffset ?? 0, segments.startOf(logKey(partition, 0)));
  }

  /** Takes the mark "complete" from segments in which something is owed. */
  #claimed(topicId: number): void {
    const topic = this.#o.logs.topics.get(topicId);
    if (topic === undefined) return;
    const needs = Math.min(...this.#claims(topicId, topic.row, topic.segments).map((claim) => claim.needs));
    for (const one of topic.segments.sealed) if (one.segment >= needs) one.completedAtMs = null;
  }

  #commit({ drop, complete, facts }: DropPlan, now: StoredFacts): Planned {
    const { topicId } = facts;
    const { logs } = this.#o;
    const topic = logs.topics.get(topicId)!;
    const plannedAtMs = this.#nowMs();
    const dropped = drop.map(({ segment, reason }) => {
      const { bytes } = now.sealed.find((sealed) => sealed.segment === segment)!;
      const ranges = topic.segments.rangesOf(segment);
      logs.drops.planned({ topicId, topicName: topic.row.name, segment, reason, bytes, plannedAtMs, ranges });
      return { segment, reason, bytes };
    });
    if (drop.length > 0) {
      topic.row = { ...topic.row, gapReason: gapReasonOf(drop) };
      logs.drop(topicId, drop.at(-1)!.segment);
    }
    for (const one of topic.segments.sealed) if (complete.includes(one.segment)) one.completedAtMs ??= plannedAtMs;
    return { dropped, starts: this.#starts(topicId) };
  }

  #starts(topicId: number): StoredStart[] {
    const topic = this.#o.logs.topics.get(topicId);
    return topic?.segments.starts(topic.row.partitions.length) ?? [];
  }

  #nowMs(): number {
    return this.#o.groups.nowMs();
  }

  async #read<T>(call: keyof RetentionStore, read: () => T): Promise<T> {
    await this.before(call);
    const result = read();
    await this.after(call);
    return result;
  }

  #write<T>(call: keyof RetentionStore, write: () => T): Promise<T> {
    return this.#read(call, () => {
      this.#o.demandOwner();
      if (this.isFull && call !== 'freeBallast' && call !== 'plan' && call !== 'done') throw diskFull();
      return write();
    });
  }
}

function diskFull(): Fault {
  return new Fault('DATABASE_UNAVAILABLE', 'the disk is full');
}

/** Whether the facts of a plan still hold, up to the first segment that stays. */
function isSame(now: StoredFacts, { facts, drop }: DropPlan): boolean {
  const numbers = ({ sealed, current }: StoredFacts): number[] =>
    [...sealed.map(({ segment }) => segment), current].slice(0, drop.length + 1);
  return (
    JSON.stringify(now.settings) === JSON.stringify(facts.settings) &&
    seqsOf(now.claims) === seqsOf(facts.claims) &&
    JSON.stringify(numbers(now)) === JSON.stringify(numbers(facts))
  );
}

const seqsOf = (claims: readonly OwedClaim[]): string =>
  JSON.stringify(claims.map(({ subscriptionId, state, claimSeq }) => [subscriptionId, state, claimSeq]));

/** The subscriptions of a topic that are not cancelled. */
function claimRows(groups: MemoryGroups, topicId: number) {
  return groups.subscriptions.live().flatMap(({ state, ...row }) => {
    return row.topicId === topicId && state !== 'CANCELLED' ? [{ ...row, state }] : [];
  });
}
