import { connectionBytes } from './kinds.ts';

/**
 * What one object of a kind weighs, in bytes, beside its texts. Each weight is above what Node 24
 * uses, by a tenth where clients can make many of the objects. test/account/weights.test.ts builds
 * the real objects, as they are after work, and compares.
 */
export const weights = {
  /** A topic without its texts and partitions. */
  topic: 1_408,
  /** A partition in a lane: its log and its tail. */
  partitionLog: 700,
  group: 5_760,
  /** A member without its metadata. */
  member: 2_560,
  /** One topic of a member. */
  memberTopic: 8,
  /** One assignor of a member, beside its name. */
  memberAssignor: 32,
  /** A subscription without its cursors. */
  subscription: 1_024,
  /** After deliveries and acks. A first hole or attempt takes some 100 bytes more than the next. */
  cursor: 1_200,
  /** What a member has for a cursor that it holds: seat, feed, share of the assignment. */
  heldCursor: 400,
  /** The gap of a cursor, with what a member notes of it. */
  gap: 240,
  /** The note of a committed offset beside its text. */
  note: 96,
  /** One run of acked offsets. */
  hole: 32,
  /** One run of delivery attempts. */
  attemptRun: 144,
  /** The objects of a batch in a cache, beside its bytes. */
  batch: 640,
  /** A run of records in flight that went out together. */
  deliveredRun: 216,
  /** The sizes of the records of a batch, beside four bytes for each. */
  batchSizes: 256,
  /** A run of refused records, for which delivery may pause too. */
  refusedRun: 32,
  /** An idempotency key beside its text. */
  key: 168,
  /** The objects of a publish until its commit. */
  queuedPublish: 2_432,
  /** What was scanned of a record of a publish, outside of the heap, beside the request. */
  queuedRecord: 64,
  /** The idempotency key of a waiting record, beside two bytes a character. */
  queuedKey: 32,
  /** A record without a key beside records with one. */
  queuedNoKey: 8,
  /** One partition in the first offsets of a subscription. */
  start: 8,
  /** A message of a request, as it is decoded. */
  decodedMessage: 192,
  /** A number or a text in a list of a request, as it is decoded. */
  decodedScalar: 40,
  /** A connection with its HTTP/2 session. */
  connection: connectionBytes,
} as const;

const wide = /[^\u0000-\u00ff]/;

/** One character above U+00FF makes the whole text two bytes wide. */
export function textBytes(text: string): number {
  return wide.test(text) ? 2 * text.length : text.length;
}
