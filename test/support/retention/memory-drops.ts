import type { BlockingSession, PlannedDrop, StoredDrop, TableFacts } from '../../../src/lifecycle/store.ts';
import type { TopicRow } from '../../../src/log/store.ts';
import type { StoredSegments } from './stored-segments.ts';

interface DropRow extends PlannedDrop, Omit<StoredDrop, 'doneAtMs'> {
  doneAtMs: number | null;
}

/** The rows of the audit in memory, and the tables that have to go. */
export class MemoryDrops {
  readonly rows: DropRow[] = [];
  /** Sessions with a lock on a table, by its name. */
  readonly lockers = new Map<string, readonly BlockingSession[]>();
  /** Tables of segments by `topic/segment`. A table that is not here is attached. */
  readonly #tables = new Map<string, 'PENDING' | 'NO' | 'GONE'>();

  planned(row: Omit<DropRow, 'doneAtMs'>): void {
    this.rows.push({ ...row, doneAtMs: null });
  }

  /** All segments of a topic go, and its own table as segment 0. */
  deleted(
    { row, segments }: { readonly row: TopicRow; readonly segments: StoredSegments },
    ends: ReadonlyMap<string, number>,
    nowMs: number,
  ): void {
    const numbers = [...segments.sealed, segments.current].map(({ segment, bytes }) => ({ segment, bytes }));
    if (segments.nextIsMade) numbers.push({ segment: segments.current.segment + 1, bytes: 0 });
    segments.roll(nowMs, ends, null);
    for (const { segment, bytes } of [{ segment: 0, bytes: 0 }, ...numbers]) {
      const isStored = segment > 0 && segment < segments.current.segment;
      const ranges = isStored ? segments.rangesOf(segment) : [];
      const named = { topicId: row.id, topicName: row.name, reason: 'TOPIC_DELETED' as const, plannedAtMs: nowMs };
      this.planned({ ...named, segment, bytes, ranges });
    }
  }

  pending(): PlannedDrop[] {
    const open = this.rows.filter(({ doneAtMs }) => doneAtMs === null);
    const isLast = ({ topicId, segment }: PlannedDrop): boolean =>
      segment > 0 || open.every((one) => one.topicId !== topicId || one.segment === 0);
    return open
      .filter(isLast)
      .sort((a, b) => a.plannedAtMs - b.plannedAtMs || a.topicId - b.topicId || a.segment - b.segment)
      .map(({ topicId, topicName, segment }) => ({ topicId, topicName, segment }));
  }

  table(drop: PlannedDrop): TableFacts {
    const state = this.#tables.get(nameOf(drop)) ?? 'YES';
    const blockers = this.lockers.get(nameOf(drop)) ?? [];
    const attached = state === 'GONE' ? 'NO' : state;
    const locks = { tableLockers: blockers.length, parentLockers: 0, blockers };
    return { exists: state !== 'GONE', attached, ...locks, detaching: null, detachingPid: null };
  }

  detach(drop: PlannedDrop): void {
    if (this.table(drop).attached === 'YES') this.#tables.set(nameOf(drop), 'NO');
  }

  /** The detach of a table was interrupted. */
  interrupt(drop: PlannedDrop): void {
    this.#tables.set(nameOf(drop), 'PENDING');
  }

  finalize(drop: PlannedDrop): void {
    if (this.table(drop).attached === 'PENDING') this.#tables.set(nameOf(drop), 'NO');
  }

  drop(drop: PlannedDrop): void {
    if (this.table(drop).tableLockers === 0) this.#tables.set(nameOf(drop), 'GONE');
  }

  done({ topicId, segment }: PlannedDrop, nowMs: number): void {
    const row = this.rows.find((one) => one.topicId === topicId && one.segment === segment);
    if (row !== undefined) row.doneAtMs ??= nowMs;
  }

  audit(topicName: string, limit: number): StoredDrop[] {
    return this.rows
      .filter((row) => row.topicName === topicName && row.segment > 0)
      .sort((a, b) => b.plannedAtMs - a.plannedAtMs || b.topicId - a.topicId || b.segment - a.segment)
      .slice(0, limit)
      .map(({ segment, reason, bytes, plannedAtMs, doneAtMs, ranges }) => {
        return { segment, reason, bytes, plannedAtMs, doneAtMs, ranges };
      });
  }
}

const nameOf = ({ topicId, segment }: PlannedDrop): string => `${topicId}/${segment}`;
