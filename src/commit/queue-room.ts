import type { Account } from '../account/account.ts';
import type { Kind } from '../account/kind.ts';
import { publishQueueFull } from '../errors/rejections/publishing.ts';
import type { Rejection } from '../errors/rejections/rejection.ts';

/** What a publish takes until its commit. */
export interface QueuedSize {
  /** The request and what was scanned of its records, which lie outside of the heap. */
  readonly bytes: number;
  /** Its objects and its idempotency keys, which lie on the heap. */
  readonly heapBytes: number;
}

export const nothingQueued: QueuedSize = { bytes: 0, heapBytes: 0 };

/** The room of the publishers' units in the account of memory: both kinds of it, or none. */
export class QueueRoom {
  readonly #bytes: Kind;
  readonly #heap: Kind;
  /** The kind that had no room at the last `take`. */
  #short: Kind;

  constructor(account: Account) {
    this.#bytes = account.kind('publishes');
    this.#heap = account.kind('queued');
    this.#short = this.#bytes;
  }

  take({ bytes, heapBytes }: QueuedSize): boolean {
    this.#short = this.#heap;
    if (!this.#heap.take(heapBytes)) return false;
    this.#short = this.#bytes;
    if (this.#bytes.take(bytes)) return true;
    this.#heap.give(heapBytes);
    return false;
  }

  give({ bytes, heapBytes }: QueuedSize): void {
    this.#bytes.give(bytes);
    this.#heap.give(heapBytes);
  }

  /** Why the last `take` has failed. */
  refusal(): Rejection {
    if (this.#short === this.#heap) return this.#heap.refusal();
    return publishQueueFull({ publishQueueBytesMax: this.#bytes.bytesMax });
  }
}
