import { limits } from '../../src/limits/limits.ts';
import type { RecordSelection, RecordSet } from '../../src/log/batch.ts';
import { boundsPerRecord } from '../../src/log/batch.ts';
import type { BatchToAppend, CommitStore } from '../../src/commit/store.ts';
import type { TopicRow } from '../../src/log/store.ts';

/** Eight bounds of a record: key, headers, value, rest, each from and to. */
const valueStart = 4;
/** As in src/commit/publisher.ts. */
const sharedBytesMin = 131_072;

/** Records of nothing but a value, as the scan of a request would leave them. */
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
 * What a broker does in front of its storage, and no more: while a slot's append is in flight, what comes meanwhile
 * waits, and the next free slot takes all of it in one transaction. A partition is with one slot at a time.
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

  /** Appends to the partitions in turn, as a publisher without keys does. */
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
      // As the broker shares out what waits (src/commit/publish-queue.ts), only by partition.
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

  /** What waits for a partition is one row, or several if it is more than a row may be. */
  #batches(partition: number, requests: readonly Waiting[]): BatchToAppend[] {
    const rows: RecordSelection[][] = [[]];
    let rowBytes = 0;
    for (const piece of requests.flatMap(({ records }) => pieces(records))) {
      const bytes = bytesOf(piece);
      if (rowBytes > 0 && rowBytes + bytes > limits.storedBatchBytesMax) {
        rows.push([]);
        rowBytes = 0;
      }
      rows.at(-1)!.push(piece);
      rowBytes += bytes;
    }
    return rows.map((records) => ({
      topicId: this.#topic.id,
      segment: this.#topic.segment,
      partitionId: this.#topic.partitions[partition]!.id,
      partition,
      lane: 0,
      recordCount: records.reduce((sum, { indexes }) => sum + indexes.length, 0),
      byteSize: records.reduce((sum, piece) => sum + bytesOf(piece), 0),
      records,
    }));
  }
}

/** All records of a set have the same size here. */
function bytesOf({ set, indexes }: RecordSelection): number {
  return (set.buffer.length / set.count) * indexes.length;
}

function pieces(selection: RecordSelection): RecordSelection[] {
  const { set, indexes } = selection;
  if (bytesOf(selection) <= limits.storedBatchBytesMax) return [selection];
  const recordsMax = Math.max(1, Math.floor(limits.storedBatchBytesMax / (set.buffer.length / set.count)));
  return Array.from({ length: Math.ceil(indexes.length / recordsMax) }, (_, i) => ({
    set,
    indexes: indexes.subarray(i * recordsMax, (i + 1) * recordsMax),
  }));
}
