import assert from 'node:assert/strict';
import type { MovingRecords } from '../../commit/settlements.ts';
import { countOf, type OffsetRuns } from '../../consumption/offsets/runs.ts';
import type { Freed } from '../../consumption/partitioned/cursor.ts';
import type { Feed } from '../dispatch/feed.ts';
import { notOwner } from '../dispatch/not-owner.ts';
import type { AckRounds } from './ack-rounds.ts';

/**
 * The records that settlements complete. They are MOVING from before the commit is queued until its
 * outcome is known (src/commit/SPEC.md). A call that ends or resets a cursor waits for them, and
 * meanwhile no other record of that cursor begins to move.
 */
export class Moves {
  readonly #rounds: AckRounds;
  /** The number of moves under way of each log. */
  readonly #moving = new Map<Feed, number>();
  /** The logs whose records may not begin to move, with the number of callers that need it. */
  readonly #still = new Map<Feed, number>();
  #waiting: (() => void)[] = [];
  #stopped = false;

  constructor(rounds: AckRounds) {
    this.#rounds = rounds;
  }

  mayBegin(log: Feed): boolean {
    return !this.#stopped && !this.#still.has(log);
  }

  /**
   * Makes the runs MOVING, all of which the holder of the log has in flight. Their credit returns
   * to that member when the outcome is known. `freed` is called after that.
   */
  begin(log: Feed, runs: OffsetRuns, freed: () => void): MovingRecords {
    const { cursor, key, seat } = log;
    assert(seat !== null && this.mayBegin(log), 'records of this log may not move');
    const moving = cursor.move(runs);
    log.recount();
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
        const of = cursor.stays(moving);
        log.recount();
        end(of);
      },
    };
  }

  /**
   * Runs `work` when no record of the logs is MOVING. None begins to move until `work` has ended.
   * @throws Fault
   */
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

  /** Ends all waits. The next owner reads the outcomes that are not known yet. */
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
