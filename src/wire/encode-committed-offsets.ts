import { OffsetStatus } from '../../gen/millrace/v1/offset_pb.js';
import { varintBytes, writeVarint } from './varint.ts';

const resultsTag = 0x0a;
const topicTag = 0x0a;
const partitionTag = 0x10;
const laneTag = 0x18;
const statusTag = 0x20;
const committedOffsetTag = 0x28;

/** A tag with a number of one byte. */
const smallFieldBytes = 2;

interface CommittedOffset {
  readonly topic: string;
  readonly partition: number;
  readonly lane: number;
  readonly status: Exclude<keyof typeof OffsetStatus, 'UNSPECIFIED'>;
  readonly committedOffset: number | null;
}

/**
 * The bytes of a CommitOffsetsResponse. Results of one topic should be neighbours, because the
 * topic is then encoded once for all of them.
 */
export function encodeCommittedOffsets(results: readonly CommittedOffset[]): Buffer {
  const sizes = new Uint32Array(results.length);
  let total = 0;
  let topic: string | null = null;
  let topicBytes = 0;
  for (let at = 0; at < results.length; at++) {
    const result = results[at]!;
    if (result.topic !== topic) topicBytes = textFieldBytes((topic = result.topic));
    const size = topicBytes + numbersBytes(result);
    sizes[at] = size;
    total += 1 + varintBytes(size) + size;
  }
  const target = Buffer.allocUnsafe(total);
  let at = 0;
  // The position of the last topic field: the next one is mostly the same.
  let fieldStart = 0;
  let fieldEnd = 0;
  topic = null;
  for (let index = 0; index < results.length; index++) {
    const result = results[index]!;
    target[at++] = resultsTag;
    at = writeVarint(target, at, sizes[index]!);
    const start = at;
    if (result.topic === topic) at += target.copy(target, at, fieldStart, fieldEnd);
    else at = writeText(target, at, (topic = result.topic));
    fieldStart = start;
    fieldEnd = at;
    at = writeNumbers(target, at, result);
  }
  return target;
}

function textFieldBytes(text: string): number {
  const bytes = Buffer.byteLength(text);
  // proto3 leaves out what is empty.
  return bytes === 0 ? 0 : 1 + varintBytes(bytes) + bytes;
}

function writeText(target: Buffer, at: number, text: string): number {
  const bytes = Buffer.byteLength(text);
  if (bytes === 0) return at;
  target[at] = topicTag;
  at = writeVarint(target, at + 1, bytes);
  return at + target.write(text, at);
}

function numbersBytes({ partition, lane, committedOffset }: CommittedOffset): number {
  const offsetBytes = committedOffset === null ? 0 : 1 + varintBytes(committedOffset);
  return 1 + varintBytes(partition) + 1 + varintBytes(lane) + smallFieldBytes + offsetBytes;
}

function writeNumbers(target: Buffer, at: number, result: CommittedOffset): number {
  target[at++] = partitionTag;
  at = writeVarint(target, at, result.partition);
  target[at++] = laneTag;
  at = writeVarint(target, at, result.lane);
  target[at++] = statusTag;
  target[at++] = OffsetStatus[result.status];
  if (result.committedOffset === null) return at;
  target[at++] = committedOffsetTag;
  return writeVarint(target, at, result.committedOffset);
}
