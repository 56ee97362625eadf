import type { PublishedRecords } from '../commit/publish.ts';
import { varintBytes, writeVarint } from './varint.ts';

const resultsTag = 0x0a;
const ackModeTag = 0x10;
const partitionTag = 0x08;
const offsetTag = 0x10;
const duplicateTag = 0x18;
const laneTag = 0x20;

/**
 * The log has one lane. The response names it, so that a client that passes lanes back works
 * unchanged when there are more.
 */
const lane = 0;
const laneFieldBytes = 2;

const ackModeCommitted = 1;
const ackModeNone = 2;
const ackModeFieldBytes = 2;

/** The bytes of a PublishResponse (or PublishStreamResponse) for what `Broker.publish` returned. */
export function encodePublishResponse(records: PublishedRecords | null): Buffer {
  if (records === null) return Buffer.from([ackModeTag, ackModeNone]);
  const count = records.offsets.length;
  let bytes = ackModeFieldBytes;
  for (let i = 0; i < count; i += 1) bytes += 2 + resultBytes(records, i);
  const response = Buffer.allocUnsafe(bytes);
  let at = 0;
  for (let i = 0; i < count; i += 1) at = writeResult(response, at, records, i);
  response[at++] = ackModeTag;
  response[at] = ackModeCommitted;
  return response;
}

/** At most 19, so that one byte holds the length of a result. */
function resultBytes({ partitions, offsets, duplicates }: PublishedRecords, i: number): number {
  const duplicateBytes = duplicates !== null && duplicates[i] === 1 ? 2 : 0;
  return 2 + varintBytes(partitions[i]!) + varintBytes(offsets[i]!) + duplicateBytes + laneFieldBytes;
}

function writeResult(target: Buffer, start: number, records: PublishedRecords, i: number): number {
  let at = start;
  target[at++] = resultsTag;
  target[at++] = resultBytes(records, i);
  target[at++] = partitionTag;
  at = writeVarint(target, at, records.partitions[i]!);
  target[at++] = offsetTag;
  at = writeVarint(target, at, records.offsets[i]!);
  if (records.duplicates !== null && records.duplicates[i] === 1) {
    target[at++] = duplicateTag;
    target[at++] = 1;
  }
  target[at++] = laneTag;
  target[at++] = lane;
  return at;
}
