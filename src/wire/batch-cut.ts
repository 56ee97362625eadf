import assert from 'node:assert/strict';
import type { EncodedBatch } from '../log/batch.ts';
import { varintBytes, writeVarint } from './varint.ts';

const batchTag = 0x22;
const recordsTag = 0x22;

/**
 * Cuts some records of an encoded batch into a batch of their own, each with its attempt. Records
 * of attempt 1 are copied unchanged, neighbours at once. In others the attempt and the length are
 * replaced.
 */
export function cutBatch(batch: EncodedBatch, offsets: readonly number[], attempts: readonly number[]): Buffer {
  const { bytes, baseOffset, recordsStart } = batch;
  const prefixStart = 1 + lengthBytes(bytes, 1);
  let messageBytes = recordsStart - prefixStart;
  for (let i = 0; i < offsets.length; i += 1) {
    messageBytes += cutRecordBytes(batch, offsets[i]! - baseOffset, attempts[i]!);
  }
  const cut = Buffer.allocUnsafe(1 + varintBytes(messageBytes) + messageBytes);
  cut[0] = batchTag;
  let at = writeVarint(cut, 1, messageBytes);
  at += bytes.copy(cut, at, prefixStart, recordsStart);
  for (let i = 0; i < offsets.length;) {
    const run = firstAttemptRun(offsets, attempts, i);
    const index = offsets[i]! - baseOffset;
    if (run === 0) {
      at = writeAttempt(cut, at, batch, index, attempts[i]!);
      i += 1;
    } else {
      at += bytes.copy(cut, at, recordStart(batch, index), batch.recordEnds[index + run - 1]);
      i += run;
    }
  }
  return cut;
}

/** How many records from `start` on are neighbours in the batch and at attempt 1. */
function firstAttemptRun(offsets: readonly number[], attempts: readonly number[], start: number): number {
  const first = offsets[start]!;
  let run = 0;
  while (attempts[start + run] === 1 && offsets[start + run] === first + run) run += 1;
  return run;
}

function recordStart({ recordsStart, recordEnds }: EncodedBatch, index: number): number {
  return index === 0 ? recordsStart : recordEnds[index - 1]!;
}

/** Bytes of a record with tag and length at another attempt than 1, which takes one byte. */
function cutRecordBytes(batch: EncodedBatch, index: number, attempt: number): number {
  assert(index >= 0 && index < batch.count, 'a record to cut lies within its batch');
  const start = recordStart(batch, index);
  const contentBytes = batch.recordEnds[index]! - start - 1 - lengthBytes(batch.bytes, start + 1);
  const cutBytes = contentBytes - 1 + varintBytes(attempt);
  return 1 + varintBytes(cutBytes) + cutBytes;
}

function writeAttempt(cut: Buffer, to: number, batch: EncodedBatch, index: number, attempt: number): number {
  const { bytes, recordEnds } = batch;
  const start = recordStart(batch, index);
  const end = recordEnds[index]!;
  const contentStart = start + 1 + lengthBytes(bytes, start + 1);
  // The content begins with the offset, then comes the tag of the attempt, then the attempt.
  const attemptAt = contentStart + 1 + lengthBytes(bytes, contentStart + 1) + 1;
  cut[to] = recordsTag;
  let at = writeVarint(cut, to + 1, end - contentStart - 1 + varintBytes(attempt));
  at += bytes.copy(cut, at, contentStart, attemptAt);
  at = writeVarint(cut, at, attempt);
  return at + bytes.copy(cut, at, attemptAt + 1, end);
}

/** Bytes of the varint that begins at `start`. */
function lengthBytes(bytes: Buffer, start: number): number {
  let end = start;
  while (bytes[end]! > 0x7f) end += 1;
  return end + 1 - start;
}
