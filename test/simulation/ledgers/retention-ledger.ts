import type { CursorSnapshot } from '../../../src/consumption/partitioned/cursor.ts';
import type { CursorKey } from '../../../src/delivery/ports/store.ts';
import type { DroppedSegment, StoredDrop } from '../../../src/lifecycle/store.ts';
import type { RetentionSettings } from '../../../src/retention/settings.ts';
import type { Database } from '../database/database.ts';
import type { World } from '../world.ts';

type DroppedRange = StoredDrop['ranges'][number];

/** What one subscription is owed of one log, record by record. */
interface OwedLog {
  readonly log: string;
  readonly start: number;
  readonly done: Set<number>;
}

interface Place {
  readonly topicId: number;
  readonly partition: number;
  readonly offset: number;
}

interface AccountedRecord {
  readonly appendedMs: number;
  /** When it was owed to somebody last. */
  owedMs: number;
}

/** A segment that is about to go, with the records that go with it. */
export interface GoingSegment extends Pick<DroppedSegment, 'segment' | 'reason'> {
  readonly ranges: readonly DroppedRange[];
  /** The bytes of the topic from this segment on. */
  readonly bytesFrom: number;
}

type Owner = ReturnType<Database['subscriptionsOf']>[number];

/** Stored times are cut to microseconds. */
const roundingMs = 0.01;

/**
 * A plain account of who is owed which record, and since when nobody is. Only commits of the
 * database change it. Every segment that goes, and every one that stays, is held against it.
 */
export class RetentionLedger {
  readonly #world: World;
  readonly #database: Database;
  readonly #records = new Map<string, AccountedRecord[]>();
  readonly #owed = new Map<string, OwedLog>();
  readonly #watermarks = new Map<string, number>();

  constructor(world: World, database: Database) {
    this.#world = world;
    this.#database = database;
  }

  appended(topicId: number, partition: number): void {
    const { nowMs } = this.#world;
    this.#recordsOf(logName(topicId, partition)).push({ appendedMs: nowMs, owedMs: nowMs });
  }

  /** A claim begins, or begins again at another offset. */
  begun(key: CursorKey, topicId: number, { committedOffset }: CursorSnapshot): void {
    const before = this.#owed.get(keyName(key));
    const log = logName(topicId, key.partition);
    this.#owed.set(keyName(key), { log, start: committedOffset, done: new Set() });
    if (before === undefined) return;
    for (let offset = before.start; offset < committedOffset; offset++) {
      if (!before.done.has(offset)) this.#release(log, offset);
    }
  }

  /** The subscription is cancelled: nothing is owed to it any more. */
  ended(subscriptionId: number): void {
    for (const [name, { log, start, done }] of this.#owed) {
      if (!name.startsWith(`${subscriptionId}/`)) continue;
      this.#owed.delete(name);
      for (let offset = start; offset < this.#recordsOf(log).length; offset++) {
        if (!done.has(offset)) this.#release(log, offset);
      }
    }
  }

  /** The record is durably done. */
  done(key: CursorKey, offset: number): void {
    const owed = this.#owed.get(keyName(key));
    if (owed === undefined || offset < owed.start || owed.done.has(offset)) return;
    owed.done.add(offset);
    this.#release(owed.log, offset);
  }

  /** Checks watermarks: they never go back, and pass no record that is owed. */
  watermarksSaved(topicId: number, offsets: readonly number[]): void {
    const owners = this.#database.subscriptionsOf(topicId).filter(({ state }) => state !== 'DEAD');
    offsets.forEach((watermark, partition) => {
      const log = logName(topicId, partition);
      const before = this.#watermarks.get(log) ?? 0;
      this.#watermarks.set(log, watermark);
      this.#world.demand(watermark >= before, () => `the watermark of ${log} goes back from ${before} to ${watermark}`);
      for (let offset = before; offset < watermark; offset++) {
        const [owner] = this.#owedTo(owners, { topicId, partition, offset });
        this.#world.demand(owner === undefined, () => `the watermark of ${log} passes ${offset}, owed to ${owner?.id}`);
      }
      if (watermark > before) this.#world.count('a watermark moves');
    });
  }

  /** Checks that segments may go. Called before they do. */
  dropped(topicId: number, segments: readonly GoingSegment[]): void {
    const { name, retention } = this.#database.log.topics.get(topicId)!.row;
    for (const going of segments) {
      const what = `segment ${going.segment} of ${name}`;
      this.#world.note(`${what} goes: ${going.reason}`);
      this.#world.count(`a segment goes: ${going.reason}`);
      const objection = this.#objection(topicId, going, retention);
      this.#world.demand(objection === null, () => `${what} goes (${going.reason}), and ${objection}`);
      if (going.reason === 'MAX_AGE' || going.reason === 'MAX_BYTES') this.#excuse(topicId, going.ranges);
    }
  }

  /** A cap drops what is owed, which nobody is owed from then on. */
  #excuse(topicId: number, ranges: readonly DroppedRange[]): void {
    const owners = this.#database.subscriptionsOf(topicId);
    for (const { place } of this.#recordsIn(topicId, ranges)) {
      const { partition, offset } = place;
      for (const { id } of this.#owedTo(owners, place)) {
        this.#world.count('a cap drops a record that is owed');
        this.done({ subscriptionId: id, partition, lane: 0 }, offset);
      }
    }
  }

  /** A segment that has to go, some time; null if none has to. */
  overdue(): string | null {
    for (const [topicId, { row, segments }] of this.#database.log.topics) {
      const [first] = segments.sealed;
      if (first === undefined) continue;
      const { segment } = first;
      const dueMs = this.#dueMs(topicId, segments.rangesOf(segment), first.lastAppendMs, row.retention);
      if (dueMs < Infinity)
        return `segment ${segment} of ${row.name} has to go ${dueMs - this.#world.nowMs} ms from now`;
    }
    return null;
  }

  /** When the segment has to go if nothing else happens. */
  #dueMs(topicId: number, ranges: readonly DroppedRange[], sealedMs: number, settings: RetentionSettings): number {
    const { afterCompletionMs, keepUnsubscribedMs } = settings;
    if (afterCompletionMs === null) return Infinity;
    const owners = this.#database.subscriptionsOf(topicId);
    if (owners.length === 0 && keepUnsubscribedMs !== null) return sealedMs + keepUnsubscribedMs;
    let dueMs = sealedMs + afterCompletionMs;
    for (const { place, record } of this.#recordsIn(topicId, ranges)) {
      for (const owner of this.#owedTo(owners, place)) dueMs = Math.max(dueMs, excusedUntilMs(owner, settings));
      dueMs = Math.max(dueMs, record.owedMs + afterCompletionMs);
    }
    return dueMs;
  }

  /** Why the segment may not go for its reason; null if it may. */
  #objection(topicId: number, { reason, ranges, bytesFrom }: GoingSegment, settings: RetentionSettings): string | null {
    const owners = this.#database.subscriptionsOf(topicId);
    const after = settings.afterCompletionMs ?? Infinity;
    switch (reason) {
      case 'MAX_BYTES':
        if (bytesFrom <= (settings.maxBytes ?? Infinity)) return `the topic has only ${bytesFrom} bytes`;
        return null;
      case 'MAX_AGE':
        return this.#tooSoon(topicId, ranges, ({ appendedMs }) => appendedMs + (settings.maxAgeMs ?? Infinity));
      case 'ZERO_SUBSCRIPTIONS':
        if (owners.length > 0) return `${owners[0]!.id} is subscribed`;
        return this.#tooSoon(
          topicId,
          ranges,
          ({ appendedMs }) => appendedMs + (settings.keepUnsubscribedMs ?? Infinity),
        );
      case 'COMPLETED':
        for (const { place } of this.#recordsIn(topicId, ranges)) {
          const owner = this.#owedTo(owners, place).find(
            (one) => this.#world.nowMs < excusedUntilMs(one, settings) - roundingMs,
          );
          if (owner !== undefined) return `${nameOf(place)} is owed to ${owner.id}, which is ${owner.state}`;
        }
        return this.#tooSoon(topicId, ranges, ({ owedMs }) => owedMs + after);
    }
  }

  #tooSoon(
    topicId: number,
    ranges: readonly DroppedRange[],
    fromMs: (record: AccountedRecord) => number,
  ): string | null {
    for (const { place, record } of this.#recordsIn(topicId, ranges)) {
      const earlyMs = fromMs(record) - this.#world.nowMs;
      if (earlyMs > roundingMs) return `${nameOf(place)} stays for ${earlyMs} ms more`;
    }
    return null;
  }

  #owedTo(owners: readonly Owner[], { partition, offset }: Place): Owner[] {
    return owners.filter(({ id }) => {
      const owed = this.#owed.get(keyName({ subscriptionId: id, partition, lane: 0 }));
      return owed !== undefined && offset >= owed.start && !owed.done.has(offset);
    });
  }

  *#recordsIn(
    topicId: number,
    ranges: readonly DroppedRange[],
  ): Generator<{ readonly place: Place; readonly record: AccountedRecord }> {
    for (const { partition, first, last } of ranges) {
      const records = this.#recordsOf(logName(topicId, partition));
      for (let offset = first; offset <= last; offset++) {
        yield { place: { topicId, partition, offset }, record: records[offset]! };
      }
    }
  }

  #release(log: string, offset: number): void {
    const record = this.#recordsOf(log)[offset];
    if (record !== undefined) record.owedMs = this.#world.nowMs;
  }

  #recordsOf(log: string): AccountedRecord[] {
    let records = this.#records.get(log);
    if (records === undefined) this.#records.set(log, (records = []));
    return records;
  }
}

/** When what is owed to the subscription may go all the same. */
function excusedUntilMs({ state, diedAtMs }: Owner, { excusedKeepMs, afterCompletionMs }: RetentionSettings): number {
  if (state !== 'DEAD') return Infinity;
  return diedAtMs + Math.max(excusedKeepMs, afterCompletionMs ?? Infinity);
}

const nameOf = ({ topicId, partition, offset }: Place): string => `${logName(topicId, partition)}@${offset}`;
const logName = (topicId: number, partition: number): string => `${topicId}/${partition}`;
const keyName = ({ subscriptionId, partition, lane }: CursorKey): string => `${subscriptionId}/${partition}/${lane}`;
