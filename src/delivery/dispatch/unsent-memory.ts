import type { Kind } from '../../account/kind.ts';
import { Hold } from '../../account/hold.ts';
import type { Clock } from '../../time/clock.ts';
import { RetryLine, type WaitingReader } from './retry-line.ts';

/** What streams may fill that have something unread already. The rest is for those that read. */
const shareOfUnread = 3 / 4;

/**
 * What was written to all streams and their clients have not taken, counted in the account. A batch
 * that several streams share counts for each of them: the caches may drop it, and then each of the
 * streams could be the last one that keeps it.
 */
export class UnsentMemory {
  readonly #kind: Kind;
  readonly #line: RetryLine;

  constructor(kind: Kind, clock: Clock) {
    this.#kind = kind;
    this.#line = new RetryLine(clock);
  }

  /** The part of one stream. The stream counts what it has sent, however much that is. */
  part(): Hold {
    return new Hold(this.#kind, 0);
  }

  /** Whether a stream with so many unread bytes may send. If not, the stream is woken later. */
  hasRoom(unreadBytes: number, stream: WaitingReader): boolean {
    const bytesMax = unreadBytes === 0 ? this.#kind.bytesMax : shareOfUnread * this.#kind.bytesMax;
    if (this.#kind.bytes < bytesMax && this.#kind.take(1)) {
      this.#kind.give(1);
      return true;
    }
    this.#line.wait(stream);
    return false;
  }

  /** Wakes no stream any more. */
  stop(): void {
    this.#line.stop();
  }
}
