import { weights } from '../account/weights.ts';
import { present } from '../errors/present.ts';
import { invalidField } from '../errors/rejections/requests.ts';
import { partitionOutOfRange } from '../errors/rejections/topics.ts';
import { allOf, boundsPerRecord, sliceBytes, type RecordSet } from '../log/batch.ts';
import { demandLog } from '../log/lanes.ts';
import { partitionOf, partitionOfText } from '../log/partitioner.ts';
import type { PublishCommand } from './publish.ts';
import type { QueuedSize } from './queue-room.ts';
import type { Partition } from '../log/partition.ts';
import type { Topic } from '../log/topic.ts';

/** The records of a request that go to one partition. */
export interface Share {
  readonly partition: Partition;
  readonly indexes: Int32Array;
  /** Bytes of the records' slices. */
  readonly bytes: number;
}

/** A publish with the partitions of its records. */
export interface RoutedPublish {
  readonly topic: Topic;
  readonly command: PublishCommand;
  readonly shares: readonly Share[];
  /** The partition of each record. */
  readonly partitions: Int32Array;
  /** Bytes that it takes in the queue: the whole buffer of the request. */
  readonly bytes: number;
}

/** Chooses the partition of each record. @throws Rejection */
export function route(topic: Topic, command: PublishCommand): RoutedPublish {
  const { records } = command;
  const partitions = new Int32Array(records.count);
  const single = singlePartition(topic, command);
  if (single !== null) {
    partitions.fill(single);
    refuseWrongLane(topic, command, single);
    const partition = present(topic.partitions[single], 'the chosen partition is one of the topic');
    const share = { partition, indexes: allOf(records.count), bytes: bytesOf(records) };
    return { topic, command, shares: [share], partitions, bytes: records.buffer.length };
  }
  choose(topic, command, partitions);
  const shares = sharesOf(topic, records, partitions);
  if (command.expectedOffset !== null && shares.length > 1) {
    throw invalidField('expected_offset', 'the records fall into more than one partition: name the partition');
  }
  refuseWrongLane(topic, command, present(partitions[0], 'a publish has records'));
  return { topic, command, shares, partitions, bytes: records.buffer.length };
}

/** A request is in memory as a whole, and beside it what was scanned of its records. */
export function queuedSize({ bytes, command: { records, idempotencyKeys } }: RoutedPublish): QueuedSize {
  let heapBytes: number = weights.queuedPublish;
  for (const key of idempotencyKeys ?? []) {
    heapBytes += key === null ? weights.queuedNoKey : weights.queuedKey + 2 * key.length;
  }
  return { bytes: bytes + records.count * weights.queuedRecord, heapBytes };
}

/**
 * Checks the lane of an expected offset.
 * @throws Rejection LANE_REQUIRED, PARTITION_OUT_OF_RANGE
 */
function refuseWrongLane(topic: Topic, { expectedOffset, lane }: PublishCommand, partition: number): void {
  if (expectedOffset !== null) demandLog(topic.row.name, topic.partitions, topic.lanes, { partition, lane });
}

/** The partition of all records, if it is known without reading their keys; otherwise null. */
function singlePartition(topic: Topic, { partition }: PublishCommand): number | null {
  const count = topic.partitions.length;
  if (partition !== null) {
    if (partition < count) return partition;
    throw partitionOutOfRange({ topic: topic.row.name, partitions: count, partition });
  }
  return count === 1 ? 0 : null;
}

/**
 * Chooses partitions by key, or by idempotency key if there is no key. Records with neither all go
 * to one partition, and such requests take the partitions in turn. The request then needs one lock.
 */
function choose(topic: Topic, { records, idempotencyKeys }: PublishCommand, partitions: Int32Array): void {
  const { bounds, buffer, count } = records;
  const partitionCount = topic.partitions.length;
  let keyless = -1;
  for (let record = 0; record < count; record++) {
    const start = bounds[record * boundsPerRecord]!;
    const end = bounds[record * boundsPerRecord + 1]!;
    const idempotencyKey = idempotencyKeys?.[record] ?? null;
    if (end > start) {
      partitions[record] = partitionOf(buffer, start, end, partitionCount);
    } else if (idempotencyKey !== null) {
      partitions[record] = partitionOfText(idempotencyKey, partitionCount);
    } else {
      if (keyless < 0) keyless = topic.turn++ % partitionCount;
      partitions[record] = keyless;
    }
  }
}

function sharesOf(topic: Topic, records: RecordSet, partitions: Int32Array): Share[] {
  const counts = new Int32Array(topic.partitions.length);
  for (const partition of partitions) counts[partition]!++;
  const shares: (Omit<Share, 'bytes'> & { bytes: number; filled: number })[] = [];
  const shareOf: (typeof shares)[number][] = [];
  for (let partition = 0; partition < counts.length; partition++) {
    if (counts[partition] === 0) continue;
    const share = {
      partition: present(topic.partitions[partition], 'the chosen partition is one of the topic'),
      indexes: new Int32Array(counts[partition]!),
      bytes: 0,
      filled: 0,
    };
    shares.push(share);
    shareOf[partition] = share;
  }
  for (let record = 0; record < partitions.length; record++) {
    const share = present(shareOf[partitions[record]!], 'each chosen partition has a share');
    share.indexes[share.filled++] = record;
    share.bytes += sliceBytes(records, record);
  }
  return shares;
}

function bytesOf(records: RecordSet): number {
  let bytes = 0;
  for (let record = 0; record < records.count; record++) bytes += sliceBytes(records, record);
  return bytes;
}
