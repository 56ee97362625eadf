import type { Kind } from '../../account/kind.ts';
import { Hold } from '../../account/hold.ts';
import type { Clock } from '../../time/clock.ts';

/** Streams that wait for memory look again after this time. */
const retryMs = 50;
/** What streams may fill that have something unread already. The rest is for those that read. */
const shareOfUnread = 3 / 4;

/** A stream that has something to send. */
interface Waiting {
  wake(): void;
}

/** What was written to all streams and their clients have not taken, counted in the account. */
export class UnsentMemory {
  readonly #kind: Kind;
  readonly #clock: Clock;
  readonly #waiting = new Set<Waiting>();
  #cancelRetry: () => void = () => undefined;

  constructor(kind: Kind, clock: Clock) {
    this.#kind = kind;
    this.#clock = clock;
  }

  /** The part of one stream. The stream counts what it has sent, however much that is. */
  part(): Hold {
    return new Hold(this.#kind, 0);
  }

  /** Whether a stream with so many unread bytes may send. If not, the stream is woken later. */
  hasRoom(unreadBytes: number, stream: Waiting): boolean {
    const bytesMax = unreadBytes === 0 ? this.#kind.bytesMax : shareOfUnread * this.#kind.bytesMax;
    if (this.#kind.bytes < bytesMax && this.#kind.take(1)) {
      this.#kind.give(1);
      return true;
    }
    if (this.#waiting.size === 0) this.#cancelRetry = this.#clock.after(retryMs, this.#wakeAll);
    this.#waiting.add(stream);
    return false;
  }

  /** Wakes no stream any more. */
  stop(): void {
    this.#cancelRetry();
  }

  readonly #wakeAll = (): void => {
    const woken = [...this.#waiting];
    this.#waiting.clear();
    for (const stream of woken) stream.wake();
  };
}
