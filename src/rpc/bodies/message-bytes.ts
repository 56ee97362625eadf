import type { OwnedKind } from '../../account/owner.ts';
import { malformedRequest, requestTooLarge } from '../../errors/rejections/requests.ts';
import { limits } from '../../limits/limits.ts';

/**
 * Joins the pieces of one message. A list of pieces of one byte costs 114 bytes for each, so the
 * pieces are copied into one buffer that grows with what has come. The client pays in number too: a
 * message has at most `messagePiecesMax` pieces, and one more for each KiB.
 */
export class MessageBytes {
  readonly #bytesMax: number;
  readonly #bodies: OwnedKind | null;
  #buffer: Buffer = Buffer.alloc(0);
  #length = 0;
  #pieces = 0;
  #counted = 0;
  /** The one piece that has come, which may be the whole message. */
  #only: Buffer | null = null;

  /** `bodies`: what the connection holds of them; a small first piece needs no room. */
  constructor(bytesMax: number, bodies: OwnedKind | null = null) {
    this.#bytesMax = bytesMax;
    this.#bodies = bodies;
  }

  get length(): number {
    return this.#length;
  }

  /** @throws Rejection REQUEST_TOO_LARGE, MALFORMED_REQUEST, CONNECTION_BUSY, BROKER_BUSY */
  add(piece: Buffer): void {
    this.#pieces += 1;
    this.#check(this.#length + piece.length);
    if (this.#pieces === 1) this.#keepOnly(piece);
    else {
      if (this.#only !== null) this.#copy(this.#only, 0);
      this.#only = null;
      this.#copy(piece, this.#length);
    }
    this.#length += piece.length;
  }

  /** The message. A message of one piece is that piece itself. */
  bytes(): Buffer {
    return this.#only ?? this.#buffer.subarray(0, this.#length);
  }

  /** Its bytes are not needed any more. Idempotent. */
  release(): void {
    this.#bodies?.give(this.#counted);
    this.#counted = 0;
  }

  #keepOnly(piece: Buffer): void {
    if (piece.length > limits.uncountedRequestBytesMax) this.#count(piece.length);
    this.#only = piece;
  }

  #check(length: number): void {
    if (length > this.#bytesMax) throw requestTooLarge({ bytes: null, bytesMax: this.#bytesMax });
    const piecesMax = limits.messagePiecesMax + length / 1_024;
    if (this.#pieces > piecesMax) throw malformedRequest(`the request comes in more than ${piecesMax | 0} pieces`);
  }

  #count(more: number): void {
    if (this.#bodies === null) return;
    if (!this.#bodies.take(more)) throw this.#bodies.refusal(more);
    this.#counted += more;
  }

  #copy(piece: Buffer, at: number): void {
    const needed = at + piece.length;
    if (needed > this.#buffer.length) {
      const capacity = Math.min(Math.max(2 * needed, 1_024), Math.max(this.#bytesMax, needed));
      this.#count(capacity - this.#counted);
      const grown = Buffer.allocUnsafeSlow(capacity);
      this.#buffer.copy(grown, 0, 0, at);
      this.#buffer = grown;
    }
    piece.copy(this.#buffer, at);
  }
}
