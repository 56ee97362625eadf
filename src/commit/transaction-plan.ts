import { present } from '../errors/present.ts';
import { expectedOffsetMismatch } from '../errors/rejections/publishing.ts';
import type { Rejection } from '../errors/rejections/rejection.ts';
import { sliceBytes, type RecordSelection } from '../log/batch.ts';
import type { IdempotencyHit } from '../log/known-keys.ts';
import type { PublishedRecords } from './publish.ts';
import type { AckTable } from './ack-ring.ts';
import type { RoutedPublish, Share } from './route.ts';
import type { Settlement } from './settlements.ts';
import type { AckRow, AppendedBatch, AppendTransaction, BatchToAppend } from './store.ts';
import type { CommitUnit } from './unit.ts';
import type { Partition } from '../log/partition.ts';
import type { Topic } from '../log/topic.ts';

export interface PlanLimits {
  readonly batchBytesMax: number;
  readonly batchRecordsMax: number;
}

const placed = 'each planned batch gets a place';
const based = 'each log that gets records has a base offset';
const shared = 'each chosen partition has a share';

/** Finds the record with an idempotency key; null if the key is new. */
type FindKey = (topic: Topic, key: string) => IdempotencyHit | null;

interface MutableBatch {
  readonly records: RecordSelection[];
  recordCount: number;
  byteSize: number;
}

/** The batches that the transaction appends to one log, in order. */
interface PlannedLog {
  readonly partition: Partition;
  readonly topic: Topic;
  readonly batches: MutableBatch[];
  recordCount: number;
}

/** The places of the records of a publish. Offsets of new records are relative until the commit. */
interface Placement {
  readonly partitions: Int32Array;
  readonly offsets: Float64Array;
  /** 0 if the offset is a position, as in `PlannedKey`; 1 if it is final. Null if all are 0. */
  readonly known: Uint8Array | null;
  readonly duplicates: Uint8Array | null;
  readonly planned: readonly PlannedLog[];
}

interface PlannedKey {
  readonly topic: Topic;
  readonly key: string;
  readonly log: PlannedLog;
  /** Counted from the first record that this transaction appends to the log. */
  readonly position: number;
}

interface PlacedUnit {
  readonly unit: CommitUnit;
  readonly placements: readonly Placement[];
}

/** What the earlier publishes of a unit would add, if no later publish rejects the unit. */
class Ahead {
  readonly counts = new Map<Partition, number>();
  readonly #keys = new Map<Topic, Set<string>>();

  hasKey(topic: Topic, key: string): boolean {
    return this.#keys.get(topic)?.has(key) === true;
  }

  addKey(topic: Topic, key: string): void {
    const keys = this.#keys.get(topic);
    if (keys === undefined) this.#keys.set(topic, new Set([key]));
    else keys.add(key);
  }

  addRecord(partition: Partition): void {
    this.counts.set(partition, (this.counts.get(partition) ?? 0) + 1);
  }
}

/**
 * Combines units into one transaction: the records of each log, cut into batches, and the
 * settlements. Pure: `findKey` supplies the known idempotency keys.
 *
 * 1. The records of a log are in the order of the units, their publishes, and the records of each.
 * 2. A unit leaves nothing in the transaction if one of its publishes expects another offset.
 * 3. Of the records with one key only the first is appended, and the others get its offset.
 * 4. No batch exceeds the limits, except for a batch of one record.
 */
export class TransactionPlan {
  readonly #limits: PlanLimits;
  readonly #findKey: FindKey;
  readonly #logs = new Map<Partition, PlannedLog>();
  readonly #placed: PlacedUnit[] = [];
  readonly #keys: PlannedKey[] = [];
  /** The keys that this transaction stores, by topic. */
  readonly #planned = new Map<Topic, Map<string, PlannedKey>>();

  constructor(limits: PlanLimits, findKey: FindKey) {
    this.#limits = limits;
    this.#findKey = findKey;
  }

  /** The units that were not rejected. */
  get units(): CommitUnit[] {
    return this.#placed.map(({ unit }) => unit);
  }

  /** The receipts of the units with settlements. */
  get receipts(): string[] {
    return this.#placed.map(({ unit }) => unit.receipt).filter((receipt) => receipt !== null);
  }

  /** Adds a unit. @returns the reason of its rejection; null if it was added. */
  add(unit: CommitUnit): Rejection | null {
    const refusal = this.#refusalOf(unit);
    if (refusal !== null) return refusal;
    this.#placed.push({ unit, placements: unit.publishes.map((publish) => this.#place(publish)) });
    return null;
  }

  /** `table` is the table of the ack log that gets the settlements. */
  build(table: AckTable): AppendTransaction {
    const logs = this.#sorted();
    const batches: BatchToAppend[] = [];
    const firstBatch = new Map<PlannedLog, number>();
    for (const log of logs) {
      firstBatch.set(log, batches.length);
      const { topic, partition } = log;
      const { topicId, partition: number, lane } = partition.address;
      const where = { topicId, segment: topic.segment, partitionId: partition.id, partition: number, lane };
      for (const batch of log.batches) batches.push({ ...where, ...batch });
    }
    const keys = this.#keys.map(({ topic, key, log, position }) => {
      let batch = present(firstBatch.get(log), 'a new key is in a log that gets records');
      let index = position;
      const count = () => present(batches[batch], 'a new key is within the batches of its log').recordCount;
      for (; index >= count(); batch++) index -= count();
      return { topicId: topic.row.id, key, batch, index };
    });
    return { batches, keys, acks: this.#acks(table) };
  }

  #acks(table: AckTable): AckRow | null {
    const deltas = this.#settlements().map(({ records: { key, delta } }) => ({ key, delta }));
    return deltas.length === 0 ? null : { table, deltas, receipts: this.receipts };
  }

  #settlements(): Settlement[] {
    return this.#placed.flatMap(({ unit }) => unit.settlements);
  }

  /** The places of the batches, if they are the last ones of their logs. */
  lastOfLogs(): AppendedBatch[] {
    return this.#sorted().flatMap(({ partition, batches, recordCount }) => {
      let baseOffset = partition.endOffset - recordCount;
      return batches.map((batch) => {
        const appended = { baseOffset, appendTimeUs: 0 };
        baseOffset += batch.recordCount;
        return appended;
      });
    });
  }

  /** The results of the commit: the offsets of the batches, the places of the keys, the answers. */
  settle(appended: readonly AppendedBatch[]): {
    readonly logs: readonly (Pick<PlannedLog, 'topic' | 'partition'> & {
      readonly batches: readonly CommittedBatch[];
    })[];
    readonly keys: readonly { readonly topic: Topic; readonly key: string; readonly hit: IdempotencyHit }[];
    readonly answers: readonly { readonly unit: CommitUnit; readonly published: readonly PublishedRecords[] }[];
  } {
    const bases = new Map<PlannedLog, number>();
    let next = 0;
    const logs = this.#sorted().map((log) => {
      const batches = log.batches.map((batch) => ({ ...batch, ...present(appended[next++], placed) }));
      bases.set(log, present(batches[0], 'a log that gets records has a batch').baseOffset);
      return { topic: log.topic, partition: log.partition, batches };
    });
    const keys = this.#keys.map(({ topic, key, log, position }) => ({
      topic,
      key,
      hit: { partition: log.partition.address.partition, offset: present(bases.get(log), based) + position },
    }));
    const answers = this.#placed.map(({ unit, placements }) => ({
      unit,
      published: placements.map((placement) => answerOf(placement, bases)),
    }));
    return { logs, keys, answers };
  }

  /** The logs that get records, in the order of their locks. */
  #sorted(): PlannedLog[] {
    const logs = [...this.#logs.values()].filter((log) => log.recordCount > 0);
    return logs.sort((a, b) => a.partition.id - b.partition.id);
  }

  /** Checks each publish against the log as the earlier publishes of the unit would leave it. */
  #refusalOf({ publishes }: CommitUnit): Rejection | null {
    const ahead = publishes.length > 1 ? new Ahead() : null;
    for (const publish of publishes) {
      const refusal = this.#isKnown(publish, ahead) ? null : this.#refusal(publish, ahead);
      if (refusal !== null) return refusal;
      if (ahead !== null) this.#lookAhead(publish, ahead);
    }
    return null;
  }

  #lookAhead({ topic, command, partitions }: RoutedPublish, ahead: Ahead): void {
    for (const [record, partition] of partitions.entries()) {
      const key = command.idempotencyKeys?.[record] ?? null;
      if (key !== null) {
        if (this.#hasKey(topic, key, ahead)) continue;
        ahead.addKey(topic, key);
      }
      ahead.addRecord(present(topic.partitions[partition], 'the chosen partition is one of the topic'));
    }
  }

  #hasKey(topic: Topic, key: string, ahead: Ahead | null): boolean {
    if (this.#planned.get(topic)?.has(key) === true || ahead?.hasKey(topic, key) === true) return true;
    return this.#findKey(topic, key) !== null;
  }

  /**
   * Whether the publish has only known keys. Its expected offset is then not checked, because it
   * repeats a publish whose answer was lost, and which has itself moved the offset.
   */
  #isKnown({ topic, command }: RoutedPublish, ahead: Ahead | null): boolean {
    const { expectedOffset, idempotencyKeys } = command;
    if (expectedOffset === null || idempotencyKeys === null) return false;
    return idempotencyKeys.every((key) => key !== null && this.#hasKey(topic, key, ahead));
  }

  #refusal({ command, shares }: RoutedPublish, ahead: Ahead | null): Rejection | null {
    const { expectedOffset } = command;
    const partition = shares[0]?.partition;
    if (expectedOffset === null || partition === undefined) return null;
    const planned = (this.#logs.get(partition)?.recordCount ?? 0) + (ahead?.counts.get(partition) ?? 0);
    const currentOffset = partition.endOffset + planned;
    if (currentOffset === expectedOffset) return null;
    const { topicName: topic, partition: number } = partition.address;
    return expectedOffsetMismatch({ topic, partition: number, currentOffset, expected: expectedOffset });
  }

  #place(publish: RoutedPublish): Placement {
    const { idempotencyKeys } = publish.command;
    return idempotencyKeys === null ? this.#placeAll(publish) : this.#placeNew(publish, idempotencyKeys);
  }

  #placeAll(request: RoutedPublish): Placement {
    const { partitions, shares } = request;
    const offsets = new Float64Array(partitions.length);
    const planned: PlannedLog[] = [];
    for (const share of shares) {
      const log = this.#log(request.topic, share.partition);
      planned[share.partition.address.partition] = log;
      let position = log.recordCount;
      for (const record of share.indexes) offsets[record] = position++;
      this.#append(log, request, share);
    }
    return { partitions, offsets, known: null, duplicates: null, planned };
  }

  #placeNew(request: RoutedPublish, keys: readonly (string | null)[]): Placement {
    const { topic, command, shares } = request;
    const { count } = command.records;
    const partitions = request.partitions.slice();
    const offsets = new Float64Array(count);
    const known = new Uint8Array(count);
    const duplicates = new Uint8Array(count);
    const planned = this.#plannedLogs(topic, shares);
    const fresh = planned.map(() => ({ records: [] as number[], bytes: 0 }));
    // The loop goes by record, not by share, so that of two records with one key the first is kept.
    for (let record = 0; record < count; record++) {
      const own = present(request.partitions[record], 'each record has a partition');
      const log = present(planned[own], shared);
      const added = present(fresh[own], shared);
      const key = keys[record] ?? null;
      const position = log.recordCount + added.records.length;
      const first = key === null ? null : this.#first(topic, key, log, position);
      if (first === null) {
        offsets[record] = position;
        added.records.push(record);
        added.bytes += sliceBytes(command.records, record);
        continue;
      }
      duplicates[record] = 1;
      if ('position' in first) {
        partitions[record] = first.log.partition.address.partition;
        planned[first.log.partition.address.partition] = first.log;
        offsets[record] = first.position;
      } else {
        known[record] = 1;
        partitions[record] = first.partition;
        offsets[record] = first.offset;
      }
    }
    for (const { partition } of shares) {
      const own = partition.address.partition;
      const { records, bytes } = present(fresh[own], shared);
      this.#append(present(planned[own], shared), request, {
        partition,
        indexes: Int32Array.from(records),
        bytes,
      });
    }
    return { partitions, offsets, known, duplicates, planned };
  }

  /** The logs of the shares, by the number of their partition. */
  #plannedLogs(topic: Topic, shares: readonly Share[]): PlannedLog[] {
    const planned: PlannedLog[] = [];
    for (const { partition } of shares) planned[partition.address.partition] = this.#log(topic, partition);
    return planned;
  }

  /** The first record with the key. Returns null if it is this one, whose key is then stored. */
  #first(topic: Topic, key: string, log: PlannedLog, position: number): IdempotencyHit | PlannedKey | null {
    let planned = this.#planned.get(topic);
    if (planned === undefined) this.#planned.set(topic, (planned = new Map<string, PlannedKey>()));
    const first = planned.get(key) ?? this.#findKey(topic, key);
    if (first !== null) return first;
    const own = { topic, key, log, position };
    planned.set(key, own);
    this.#keys.push(own);
    return null;
  }

  #log(topic: Topic, partition: Partition): PlannedLog {
    let log = this.#logs.get(partition);
    if (log === undefined) {
      log = { partition, topic, batches: [], recordCount: 0 };
      this.#logs.set(partition, log);
    }
    return log;
  }

  #append(log: PlannedLog, { command }: RoutedPublish, share: Share): void {
    const set = command.records;
    let { indexes } = share;
    let { bytes } = share;
    log.recordCount += indexes.length;
    while (indexes.length > 0) {
      const batch = this.#roomIn(log, indexes.length, bytes, sliceBytes(set, present(indexes[0], 'records are left')));
      let taken = indexes.length;
      if (!this.#fits(batch, taken, bytes)) {
        taken = 0;
        let size = 0;
        for (; taken < indexes.length; taken++) {
          const more = sliceBytes(set, present(indexes[taken], 'records are left'));
          if (taken + batch.recordCount > 0 && !this.#fits(batch, taken + 1, size + more)) break;
          size += more;
        }
        bytes -= size;
        batch.byteSize += size;
      } else {
        batch.byteSize += bytes;
      }
      batch.recordCount += taken;
      batch.records.push({ set, indexes: taken === indexes.length ? indexes : indexes.subarray(0, taken) });
      indexes = indexes.subarray(taken);
    }
  }

  /** The last batch if the next record fits into it, otherwise a new one. */
  #roomIn(log: PlannedLog, count: number, bytes: number, firstBytes: number): MutableBatch {
    const last = log.batches.at(-1);
    if (last !== undefined && (this.#fits(last, count, bytes) || this.#fits(last, 1, firstBytes))) return last;
    const batch = { records: [], recordCount: 0, byteSize: 0 };
    log.batches.push(batch);
    return batch;
  }

  #fits(batch: MutableBatch, records: number, bytes: number): boolean {
    const { batchBytesMax, batchRecordsMax } = this.#limits;
    return batch.recordCount + records <= batchRecordsMax && batch.byteSize + bytes <= batchBytesMax;
  }
}

/** A batch of the transaction with its offsets. */
interface CommittedBatch extends AppendedBatch {
  readonly records: readonly RecordSelection[];
  readonly recordCount: number;
  readonly byteSize: number;
}

function answerOf(placement: Placement, bases: ReadonlyMap<PlannedLog, number>): PublishedRecords {
  const { partitions, offsets, known, duplicates, planned } = placement;
  for (let record = 0; record < offsets.length; record++) {
    if (known?.[record] === 1) continue;
    const log = present(planned[present(partitions[record], 'each record has a partition')], shared);
    offsets[record] = present(offsets[record], 'each record has a place') + present(bases.get(log), based);
  }
  return { partitions, offsets, duplicates };
}
