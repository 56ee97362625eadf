import assert from 'node:assert/strict';
import type { MovingRecords } from '../../commit/settlements.ts';
import { countOf, type OffsetRuns } from '../../consumption/offsets/runs.ts';
import type { Freed } from '../../consumption/partitioned/cursor.ts';
import type { Feed } from '../dispatch/feed.ts';
import { notOwner } from '../dispatch/not-owner.ts';
import type { AckRounds } from './ack-rounds.ts';

/**
 * Records that settlements complete: MOVING from before the commit is queued until its outcome is known
 * (src/commit/SPEC.md). Whoever ends a cursor or begins it anew waits for them, and keeps others from moving.
 */
export class Moves {
  readonly #rounds: AckRounds;
  /** How many moves of each log are under way. */
  readonly #moving = new Map<Feed, number>();
  /** Logs of which nothing may begin to move, and for how many callers. */
  readonly #still = new Map<Feed, number>();
  #waiting: (() => void)[] = [];
  #stopped = false;

  constructor(rounds: AckRounds) {
    this.#rounds = rounds;
  }

  /** Whether records of the log may begin to move. */
  mayBegin(log: Feed): boolean {
    return !this.#stopped && !this.#still.has(log);
  }

  /**
   * The records of the runs, all of which the holder of the log has in flight, are MOVING. Their credit returns to the
   * holder of today; `freed` is called after that.
   */
  begin(log: Feed, runs: OffsetRuns, freed: () => void): MovingRecords {
    const { cursor, key, seat } = log;
    assert(seat !== null && this.mayBegin(log), 'records of this log may not move');
    const moving = cursor.move(runs);
    const giveBack = seat.member.moving(countOf(runs));
    count(this.#moving, log, 1);
    const end = (of: Freed): void => {
      count(this.#moving, log, -1);
      giveBack(of);
      freed();
      for (const resolve of this.#waiting.splice(0)) resolve();
    };
    return {
      key,
      delta: moving.delta,
      moved: () => {
        const of = cursor.moved(moving);
        this.#rounds.settled(log);
        end(of);
      },
      stays: () => {
        end(cursor.stays(moving));
      },
    };
  }

  /** Runs `work` once nothing of the logs is MOVING. Nothing of them begins to move until it has ended. @throws Fault */
  async whileStill<T>(logs: readonly Feed[], work: () => Promise<T>): Promise<T> {
    for (const log of logs) count(this.#still, log, 1);
    try {
      while (logs.some((log) => this.#moving.has(log))) {
        if (this.#stopped) throw notOwner();
        await new Promise<void>((resolve) => this.#waiting.push(resolve));
      }
      return await work();
    } finally {
      for (const log of logs) count(this.#still, log, -1);
    }
  }

  /** This broker ends: outcomes that are not known yet are for the next owner to read. */
  stop(): void {
    this.#stopped = true;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

function count(of: Map<Feed, number>, log: Feed, by: 1 | -1): void {
  const now = (of.get(log) ?? 0) + by;
  if (now > 0) of.set(log, now);
  else of.delete(log);
}
