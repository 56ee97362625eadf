import type { OwnedKind } from '../../account/owner.ts';
import type { Rejection } from '../../errors/rejections/rejection.ts';
import { compressionRefused, malformedRequest, requestTooLarge } from '../../errors/rejections/requests.ts';

/** Flags, and the length of the message. */
const prefixBytes = 5;
const firstCapacity = 4_096;
/**
 * The buffer of a message has room for so many times what has arrived, so that a message of many
 * frames is copied once, and a prefix alone reserves little.
 */
const growth = 16;
const piecesMin = 1_024;
/** A message in smaller pieces than these costs more than it brings. */
const pieceBytesMin = 1_024;
const nothing = Buffer.alloc(0);
/** So many messages are taken out of a chunk at once; the remainder waits in the transport. */
const messagesAtOnce = 64;

interface FramedMessagesOptions {
  readonly bytesMax: number;
  /** The call takes one message; a second one is refused. */
  readonly single: boolean;
  /** The incomplete messages of the connection, in bytes. */
  readonly room: OwnedKind;
  /** Called with the bytes of each piece, before anything else. */
  received(bytes: number): void;
  /** Called once; nothing is taken after it. */
  refused(why: Rejection): void;
  /** Takes bytes back that come again later. */
  putBack(rest: Buffer): void;
}

/**
 * The messages of one call out of the pieces in which they arrive. An incomplete message is one
 * buffer that grows with what has arrived, and not with what its prefix promises. It counts in the
 * room of its connection; the message of a call that takes only one counts until its request ends.
 */
export class FramedMessages {
  readonly #o: FramedMessagesOptions;
  #buffer = nothing;
  #length = 0;
  /** With the prefix; 0 until the prefix is complete. */
  #messageBytes = 0;
  #pieces = 0;
  #messages = 0;
  #readBytes = 0;
  #counted = 0;
  #closed = false;

  constructor(options: FramedMessagesOptions) {
    this.#o = options;
  }

  get isPartial(): boolean {
    return this.#length > 0;
  }

  /** The bytes of all messages, without what was put back. */
  get readBytes(): number {
    return this.#readBytes;
  }

  /** The messages that are complete by this chunk, each with its prefix. */
  write(chunk: Buffer): Buffer[] {
    const messages: Buffer[] = [];
    this.#o.received(chunk.length);
    for (let at = 0; at < chunk.length && !this.#closed;) {
      if (messages.length === messagesAtOnce) {
        this.#o.putBack(chunk.subarray(at));
        break;
      }
      const refusal = this.#refusalOfMore() ?? this.#reserve(chunk.length - at, chunk, at);
      if (refusal !== null) {
        this.#refuse(refusal);
        return [];
      }
      const copied = this.#copy(chunk, at);
      at += copied;
      this.#readBytes += copied;
      if (this.#messageBytes === 0 || this.#length < this.#messageBytes) continue;
      messages.push(this.#buffer);
      this.#messages += 1;
      this.#begin();
    }
    return messages;
  }

  /** The request has ended, or its call. Idempotent. */
  close(): void {
    this.#closed = true;
    this.#buffer = nothing;
    this.#release();
  }

  #refuse(refusal: Rejection): void {
    this.close();
    this.#o.refused(refusal);
  }

  #refusalOfMore(): Rejection | null {
    if (this.#o.single && this.#messages > 0) return malformedRequest('the request has more than one message');
    this.#pieces += 1;
    if (this.#pieces <= piecesMin + this.#messageBytes / pieceBytesMin) return null;
    return malformedRequest('the request comes in too many pieces');
  }

  /** Makes the buffer large enough for the next bytes of the message. */
  #reserve(coming: number, chunk: Buffer, at: number): Rejection | null {
    if (this.#messageBytes === 0 && this.#length + coming >= prefixBytes) {
      const refusal = this.#readPrefix(chunk, at);
      if (refusal !== null) return refusal;
    }
    const messageBytes = this.#messageBytes === 0 ? prefixBytes : this.#messageBytes;
    const needed = Math.min(messageBytes, this.#length + coming);
    const capacity = this.#buffer.length;
    if (needed <= capacity) return null;
    const larger = needed === messageBytes ? needed : Math.min(messageBytes, Math.max(firstCapacity, growth * needed));
    const isWhole = needed === messageBytes && this.#buffer.length === 0;
    return this.#grow(larger, isWhole && (!this.#o.single || larger <= firstCapacity));
  }

  /** A message that is complete at once goes on at once, or is small: it needs no room. */
  #grow(capacity: number, isFree: boolean): Rejection | null {
    if (!isFree) {
      const more = capacity - this.#buffer.length;
      const { room } = this.#o;
      if (!room.take(more)) return room.refusal(more);
      this.#counted += more;
    }
    const larger = Buffer.allocUnsafe(capacity);
    if (this.#length > 0) this.#buffer.copy(larger, 0, 0, this.#length);
    this.#buffer = larger;
    return null;
  }

  #readPrefix(chunk: Buffer, at: number): Rejection | null {
    if (this.#length > 0) {
      const begun = this.#buffer.subarray(0, this.#length);
      return this.#readWholePrefix(Buffer.concat([begun, chunk.subarray(at, at + prefixBytes - this.#length)]), 0);
    }
    return this.#readWholePrefix(chunk, at);
  }

  #readWholePrefix(chunk: Buffer, at: number): Rejection | null {
    if (chunk[at] !== 0) return compressionRefused();
    const { bytesMax } = this.#o;
    const bytes = chunk.readUInt32BE(at + 1);
    if (bytes > bytesMax) return requestTooLarge({ bytes: null, bytesMax });
    this.#messageBytes = prefixBytes + bytes;
    return null;
  }

  #copy(chunk: Buffer, at: number): number {
    const end = this.#messageBytes === 0 ? prefixBytes : this.#messageBytes;
    const copied = chunk.copy(this.#buffer, this.#length, at, at + end - this.#length);
    this.#length += copied;
    return copied;
  }

  #begin(): void {
    this.#buffer = nothing;
    this.#length = 0;
    this.#messageBytes = 0;
    this.#pieces = 0;
    if (!this.#o.single) this.#release();
  }

  #release(): void {
    this.#o.room.give(this.#counted);
    this.#counted = 0;
  }
}
