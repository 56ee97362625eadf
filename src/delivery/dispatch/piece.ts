import {
  BatchSizes,
  endOffset,
  fieldOf,
  lastThatFits,
  recordBytes,
  type BatchCodec,
  type EncodedBatch,
} from '../../log/batch.ts';
import type { Credit } from '../../credit/credit.ts';
import type { Seat } from './feed.ts';
import type { BlockedOn } from '../ports/session.ts';

/** Records of a log that go out as one message, to a stream or a pull. */
export interface Piece {
  readonly seat: Seat;
  readonly batch: EncodedBatch;
  readonly first: number;
  readonly last: number;
  readonly records: number;
  readonly bytes: number;
}

type Look = Piece | { readonly blockedOn: BlockedOn; readonly untilMs: number | null };

/** A batch that does not fit waits this long for more acks before it is split. */
const creditWaitMs = 20;

/**
 * The next piece of a log that fits `credit`, or why there is none. Delivers nothing yet.
 * @param autoAcked how many pieces before this one will be acked with it; null without auto-ack.
 */
export function nextPiece(
  seat: Seat,
  credit: Credit,
  nowMs: number,
  maySplit: boolean,
  autoAcked: number | null = null,
): Look {
  if (seat.revoking) return { blockedOn: 'REVOKING', untilMs: null };
  const { feed } = seat;
  if (feed.isPaused) return { blockedOn: 'PAUSED', untilMs: null };
  if (feed.isBelowStart) return { blockedOn: 'READING', untilMs: null };
  const next = feed.cursor.next(feed.log.endOffset, nowMs);
  if (next.type === 'blocked') {
    const blockedOn = next.on === 'MOVING' ? 'DEAD_LETTER' : next.on;
    return { blockedOn, untilMs: next.untilMs ?? null };
  }
  // Nobody can be rejected when a piece is acked as it goes out, so its hole needs room before.
  const leavesHole = autoAcked !== null && next.first > feed.cursor.committedOffset;
  if (leavesHole && !feed.hasRoomForHoles(autoAcked + 1)) return { blockedOn: 'WINDOW', untilMs: null };
  // Without credit for one record, a batch read now would only wait, in the place of a useful one.
  if (!credit.fits(1, 1)) {
    seat.creditWaitSince(nowMs);
    return { blockedOn: 'CREDIT', untilMs: null };
  }
  const batch = feed.batchAt(next.first);
  if (batch === null) return { blockedOn: 'READING', untilMs: null };
  const last = Math.min(next.last, endOffset(batch) - 1);
  const whole = pieceOf(seat, batch, next.first, last);
  if (credit.fits(whole.records, whole.bytes)) {
    seat.creditFound();
    return whole;
  }
  return split(whole, credit, nowMs, maySplit);
}

/**
 * Cuts a batch that can never fit into pieces of half the credit, so that the client acks one while
 * it gets the next. A batch that can fit waits a little first, because cutting it at once would
 * turn all batches into small pieces under steady load.
 */
function split(whole: Piece, credit: Credit, nowMs: number, maySplit: boolean): Look {
  const { seat } = whole;
  const never = whole.records > credit.recordsMax || whole.bytes > credit.bytesMax;
  const records = never ? Math.ceil(credit.recordsMax / 2) : whole.records;
  const bytes = never ? credit.bytesMax / 2 : whole.bytes;
  const piece = prefix(whole, (n, size) => n <= records && (size <= bytes || n === 1) && credit.fits(n, size));
  const full = piece !== null && never && (piece.records === records || piece.bytes >= bytes / 2);
  const sinceMs = seat.creditWaitSince(nowMs);
  const waited = nowMs - sinceMs >= creditWaitMs;
  if (piece !== null && (full || waited || maySplit || credit.records === 0)) {
    seat.creditFound();
    return piece;
  }
  return { blockedOn: 'CREDIT', untilMs: piece === null || waited ? null : sinceMs + creditWaitMs };
}

/** The longest prefix of a piece that `fits`; null if not even one record does. */
function prefix(whole: Piece, fits: (records: number, bytes: number) => boolean): Piece | null {
  const { seat, batch, first } = whole;
  const last = lastThatFits(batch, first, whole.last, fits);
  return last < first ? null : pieceOf(seat, batch, first, last);
}

function pieceOf(seat: Seat, batch: EncodedBatch, first: number, last: number): Piece {
  return { seat, batch, first, last, records: last - first + 1, bytes: recordBytes(batch, first, last) };
}

export interface HandOut {
  readonly codec: BatchCodec;
  /** The number of records and bytes delivered so far. */
  readonly delivered: { records: number; bytes: number };
}

/** Puts the piece in flight. @returns its encoding: the shared one if possible, else its own. */
export function handOut(piece: Piece, credit: Credit, to: HandOut, leaseUntilMs: number | null): Buffer {
  const { batch, first, last, records, bytes } = piece;
  const { feed } = piece.seat;
  const { cursor } = feed;
  const attemptOf = cursor.hasAttempts ? (offset: number): number => cursor.attemptOf(offset) : null;
  const field = fieldOf(to.codec, batch, first, last, attemptOf);
  cursor.deliver(first, last, new BatchSizes(batch), leaseUntilMs);
  feed.delivered(batch, first, last);
  credit.take(records, bytes);
  to.delivered.records += records;
  to.delivered.bytes += bytes;
  return field;
}
