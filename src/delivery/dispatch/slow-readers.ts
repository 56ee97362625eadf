import type { Account } from '../../account/account.ts';
import { limits, type TunableLimits } from '../../limits/limits.ts';
import type { BackgroundJob } from '../../time/background-job.ts';
import type { Clock } from '../../time/clock.ts';
import { Every } from '../../time/every.ts';
import type { Logger } from '../../time/logger.ts';
import { UnsentMemory } from './unsent-memory.ts';

/** The interval of the looks, with a shorter limit a part of that. */
const lookMsMax = 2_000;

/** A stream whose transport is open. */
interface WatchedStream {
  /** Whether the client has taken something since the last look, or has nothing to take. */
  hasProgress(): boolean;
  readonly hasEnded: boolean;
  /** The client has taken nothing for too long: ends the stream, or cuts off an ended one. */
  stuck(): void;
}

export interface SlowReadersDeps {
  readonly clock: Clock;
  readonly account: Account;
  readonly limits: Pick<TunableLimits, 'slowReaderMs' | 'streamUnsentBytesMax'>;
  readonly log: Logger;
}

interface Seen {
  hasEnded: boolean;
  sinceMs: number;
}

/**
 * Ends streams whose clients take nothing while bytes wait, after `slowReaderMs`. The status of an
 * ended stream waits behind those bytes, so a stream that stays stuck is cut off.
 */
export class SlowReaders implements BackgroundJob {
  readonly slowReaderMs: number;
  /** Bytes that may wait for the client of one stream. */
  readonly unsentBytesMax: number;
  readonly unsent: UnsentMemory;
  readonly #clock: Clock;
  readonly #streams = new Map<WatchedStream, Seen>();
  readonly #loop: Every;

  constructor({ clock, account, limits: { slowReaderMs, streamUnsentBytesMax }, log }: SlowReadersDeps) {
    this.unsentBytesMax = streamUnsentBytesMax;
    this.#clock = clock;
    this.slowReaderMs = slowReaderMs;
    this.unsent = new UnsentMemory(account.kind('unsent'), clock);
    this.#loop = new Every({
      clock,
      delayMs: Math.min(lookMsMax, slowReaderMs / 4),
      run: () => {
        this.#look();
      },
      onError: (error) => {
        log.warn({ err: error }, 'the look for slow readers failed; the broker will look again');
      },
    });
  }

  start(): void {
    this.#loop.start();
  }

  stop(): Promise<void> {
    this.unsent.stop();
    return this.#loop.stop();
  }

  opened(stream: WatchedStream): void {
    this.#streams.set(stream, { hasEnded: false, sinceMs: this.#clock.nowMs() });
  }

  closed(stream: WatchedStream): void {
    this.#streams.delete(stream);
  }

  #look(): void {
    const nowMs = this.#clock.nowMs();
    for (const [stream, seen] of this.#streams) {
      const { hasEnded } = stream;
      if (stream.hasProgress() || hasEnded !== seen.hasEnded) {
        seen.hasEnded = hasEnded;
        seen.sinceMs = nowMs;
      } else if (nowMs - seen.sinceMs >= (hasEnded ? limits.endedStreamMs : this.slowReaderMs)) {
        stream.stuck();
      }
    }
  }
}
