import type { Counted } from '../../account/hold.ts';
import type { Owner } from '../../account/owner.ts';
import { weights } from '../../account/weights.ts';
import type { Cursor } from '../../consumption/partitioned/cursor.ts';
import { limits } from '../../limits/limits.ts';
import type { Clock } from '../../time/clock.ts';
import type { Logger } from '../../time/logger.ts';

/** Lines about uncounted attempts are at least so far apart. */
const lineIntervalMs = 60_000;
const runsMaxBytes = limits.cursorAttemptRunsMax * weights.attemptRun;

interface LostAttemptsDeps {
  readonly owner: Owner;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * Attempts that end without a call: a connection was lost, a lease expired, or a member stalled.
 * Nobody can be rejected then. Without room for their count the records come again as the same
 * attempt.
 */
export class LostAttempts {
  readonly #d: LostAttemptsDeps;
  readonly #account: Counted;
  #uncounted = 0;
  #lastLineMs = -Infinity;

  constructor(deps: LostAttemptsDeps) {
    this.#d = deps;
    this.#account = deps.owner.kind('attempts');
  }

  /** How often the attempts of a cursor stayed uncounted. */
  get uncounted(): number {
    return this.#uncounted;
  }

  /** Whether there is room to count attempts of all records of the cursor that are in flight. */
  mayCount(cursor: Cursor): boolean {
    const { room } = this.#account;
    // A broker that was replaced counts nothing, and its cursors are of no use any more.
    if (runsMaxBytes <= room || this.#d.owner.isClosed) return true;
    if (cursor.attemptGrowth({ upTo: Infinity }) * weights.attemptRun <= room) return true;
    this.#tell();
    return false;
  }

  #tell(): void {
    this.#uncounted++;
    const nowMs = this.#d.clock.nowMs();
    if (nowMs - this.#lastLineMs >= lineIntervalMs) {
      this.#lastLineMs = nowMs;
      this.#d.log.warn({ uncounted: this.#uncounted }, 'no memory to count the attempts of lost deliveries');
    }
  }
}
