import { limits } from '../../../src/limits/limits.ts';
import type { RecordSelection, RecordSet } from '../../../src/log/batch.ts';
import { boundsPerRecord } from '../../../src/log/batch.ts';
import type { BatchToAppend, CommitStore } from '../../../src/commit/store.ts';
import type { TopicRow } from '../../../src/log/store.ts';

/** The index of the value's start among the eight bounds of a record. */
const valueStart = 4;
/** The same value as in src/commit/publisher.ts. */
const sharedBytesMin = 131_072;

/** Records that have only a value, in the form that the scan of a request returns. */
export function recordSetOf(values: readonly Buffer[]): RecordSet {
  const bounds = new Int32Array(values.length * boundsPerRecord);
  let position = 0;
  for (const [i, value] of values.entries()) {
    bounds[i * boundsPerRecord + valueStart] = position;
    position += value.length;
    bounds[i * boundsPerRecord + valueStart + 1] = position;
  }
  return { count: values.length, buffer: Buffer.concat(values), bounds };
}

interface Waiting {
  readonly records: RecordSelection;
  readonly done: (error: Error | null) => void;
}

/**
 * The least that a broker must do in front of its storage. Appends wait while the slots are busy,
 * and the next free slot takes all of them in one transaction. One slot at a time appends to a
 * partition.
 */
export class RawLog {
  readonly #store: CommitStore;
  readonly #topic: TopicRow;
  readonly #waiting: Waiting[][];
  readonly #busy: boolean[];
  readonly #freeSlots: number[];
  #next = 0;
  #soon = false;

  constructor(store: CommitStore, topic: TopicRow) {
    this.#store = store;
    this.#topic = topic;
    this.#waiting = topic.partitions.map(() => []);
    this.#busy = topic.partitions.map(() => false);
    this.#freeSlots = Array.from({ length: store.appendSlots }, (_, slot) => slot);
  }

  /** Appends to the partitions in turn, as requests without keys do. */
  append(set: RecordSet, done: (error: Error | null) => void): void {
    const indexes = Int32Array.from({ length: set.count }, (_, i) => i);
    this.#waiting[this.#next]!.push({ records: { set, indexes }, done });
    this.#next = (this.#next + 1) % this.#waiting.length;
    if (this.#soon) return;
    this.#soon = true;
    setImmediate(() => {
      this.#soon = false;
      this.#dispatch();
    });
  }

  #dispatch(): void {
    while (this.#freeSlots.length > 0) {
      const partitions = [...this.#waiting.keys()].filter((p) => this.#waiting[p]!.length > 0 && !this.#busy[p]);
      if (partitions.length === 0) return;
      // Like src/commit/publish-queue.ts, this shares the waiting appends, but by partition.
      const bytes = partitions.reduce((sum, partition) => sum + this.#waitingBytes(partition), 0);
      const share = bytes <= sharedBytesMin ? partitions.length : Math.ceil(partitions.length / this.#freeSlots.length);
      void this.#run(this.#freeSlots.pop()!, partitions.slice(0, share));
    }
  }

  #waitingBytes(partition: number): number {
    return this.#waiting[partition]!.reduce((sum, { records }) => sum + bytesOf(records), 0);
  }

  async #run(slot: number, partitions: readonly number[]): Promise<void> {
    const taken = partitions.map((partition) => {
      this.#busy[partition] = true;
      return { partition, requests: this.#waiting[partition]!.splice(0) };
    });
    let failure: Error | null = null;
    try {
      const batches = taken.flatMap(({ partition, requests }) => this.#batches(partition, requests));
      await this.#store.append(slot, { batches, keys: [], acks: null });
    } catch (error) {
      failure = error as Error;
    }
    for (const partition of partitions) this.#busy[partition] = false;
    this.#freeSlots.push(slot);
    for (const { requests } of taken) for (const { done } of requests) done(failure);
    this.#dispatch();
  }

  /**
   * Combines the appends of a partition into one row, or into several if one would be too large.
   */
  #batches(partition: number, requests: readonly Waiting[]): BatchToAppend[] {
    const rows: RecordSelection[][] = [[]];
    let rowBytes = 0;
    for (const part of requests.flatMap(({ records }) => parts(records))) {
      const bytes = bytesOf(part);
      if (rowBytes > 0 && rowBytes + bytes > limits.storedBatchBytesMax) {
        rows.push([]);
        rowBytes = 0;
      }
      rows.at(-1)!.push(part);
      rowBytes += bytes;
    }
    return rows.map((records) => ({
      topicId: this.#topic.id,
      segment: this.#topic.segment,
      partitionId: this.#topic.partitions[partition]!.id,
      partition,
      lane: 0,
      recordCount: records.reduce((sum, { indexes }) => sum + indexes.length, 0),
      byteSize: records.reduce((sum, part) => sum + bytesOf(part), 0),
      records,
    }));
  }
}

/** The size of a selection. All records of a set have the same size here. */
function bytesOf({ set, indexes }: RecordSelection): number {
  return (set.buffer.length / set.count) * indexes.length;
}

function parts(selection: RecordSelection): RecordSelection[] {
  const { set, indexes } = selection;
  if (bytesOf(selection) <= limits.storedBatchBytesMax) return [selection];
  const recordsMax = Math.max(1, Math.floor(limits.storedBatchBytesMax / (set.buffer.length / set.count)));
  return Array.from({ length: Math.ceil(indexes.length / recordsMax) }, (_, i) => ({
    set,
    indexes: indexes.subarray(i * recordsMax, (i + 1) * recordsMax),
  }));
}
