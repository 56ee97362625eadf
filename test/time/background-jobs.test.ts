import { expect, test } from 'vitest';
import { Topics } from '../../src/broker/topics.ts';
import { AckRing } from '../../src/commit/ack-ring.ts';
import type { GroupContext } from '../../src/delivery/groups/context.ts';
import type { Groups } from '../../src/delivery/groups/groups.ts';
import { OffsetRetention } from '../../src/delivery/groups/offset-retention.ts';
import { Folds } from '../../src/delivery/rounds/folds.ts';
import type { GroupStore } from '../../src/delivery/ports/store.ts';
import type { Log } from '../../src/log/log.ts';
import { SegmentKeeper } from '../../src/log/segment-keeper.ts';
import type { LogStore, TopicStore } from '../../src/log/store.ts';
import type { Topic } from '../../src/log/topic.ts';
import { HeapWatch } from '../../src/server/heap-watch.ts';
import { AwakeClock } from '../../src/time/awake-clock.ts';
import type { BackgroundJob } from '../../src/time/background-job.ts';
import { Every } from '../../src/time/every.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { seededRandom } from '../../bench/support/random.ts';

/** Longer than the interval of any job. */
const longestIntervalMs = 60_000;

/** Counts the runs of one job, each of which takes a while, and notices those that should not be. */
class Runs {
  readonly faults: string[] = [];
  count = 0;
  underWay = 0;
  /** Every `stop` so far has resolved, and no `start` has come since. */
  atRest = true;
  readonly #clock: FakeClock;
  readonly #random: () => number;

  constructor(clock: FakeClock, random: () => number) {
    this.#clock = clock;
    this.#random = random;
  }

  async run(): Promise<void> {
    this.count++;
    if (this.atRest) this.faults.push('a run began after a stop');
    if (++this.underWay > 1) this.faults.push('two runs at once');
    await new Promise<void>((resolve) => this.#clock.after(this.#random() * longestIntervalMs, resolve));
    if (this.atRest) this.faults.push('a run went on after a stop');
    this.underWay--;
    if (this.#random() < 0.2) throw new Error('a run fails now and then');
  }
}

type MakeJob = (clock: FakeClock, run: () => Promise<void>) => BackgroundJob;

const silent = { info: () => undefined, warn: () => undefined };
const nothing = (): void => undefined;

/** Every class that works in the background, on stores whose work is `run`. */
const jobs: Readonly<Record<string, MakeJob>> = {
  'a plain loop': (clock, run) => new Every({ clock, delayMs: 1_000, run, onError: nothing }),
  'the folds of the ack log': (clock, run) => {
    const fold = async (): Promise<'EMPTIED'> => {
      await run();
      return 'EMPTIED';
    };
    const folds = new Folds({
      store: { fold } as unknown as GroupStore,
      ring: new AckRing(),
      clock,
      onFailed: nothing,
    });
    return {
      start: () => {
        folds.start({ cursors: 1, rounds: 1 });
      },
      stop: () => folds.stop(Infinity),
    };
  },
  'the retention of offsets': (clock, run) => {
    const group = { name: 'billing', id: 1, generation: 1, members: { size: 0 } };
    const groups = { all: () => [group], find: () => group } as unknown as Groups;
    const context = { clock, log: silent, writer: { settle: run } } as unknown as GroupContext;
    const retention = new OffsetRetention({ groups, context, retentionMs: 0 });
    return {
      start: () => {
        retention.touch(group as never);
        retention.start();
      },
      stop: () => retention.stop(),
    };
  },
  'the keeper of segments': (clock, run) => {
    const topic = { row: { id: 1, name: 'orders' }, segment: 1, appendedBytes: 1, removed: false };
    const segmentSize = async () => {
      await run();
      topic.appendedBytes = 2;
      return { bytes: 1, ageMs: 0, nextIsMade: false };
    };
    const store = { segmentSize } as unknown as LogStore;
    const topics = (): Topic[] => [topic as unknown as Topic];
    return new SegmentKeeper({ store, clock, log: silent, topics, whileQuiet: (_topic, work) => work() });
  },
  'the drops of deleted topics': (clock, run) => {
    const store = { loadTopics: async () => [], dropSegments: run } as unknown as TopicStore;
    const log = { open: async () => undefined } as unknown as Log;
    const topics = new Topics({
      store,
      log,
      clock,
      random: { uuid: () => '', fraction: () => 0 },
      onGrown: async () => undefined,
      whileDeleted: (_, work) => work(),
      mayGrow: () => true,
      warn: nothing,
    });
    return { start: () => topics.open(), stop: () => topics.stop() };
  },
  'the clock that notices pauses': (clock) => new AwakeClock(clock),
  'the watch over the heap': () => new HeapWatch(silent),
};

test.each(Object.keys(jobs))(
  '%s, started and stopped a thousand times in any order, never overlaps, and leaves no timer and no run after a stop',
  async (name) => {
    const clock = new FakeClock();
    const random = seededRandom(Object.keys(jobs).indexOf(name));
    const runs = new Runs(clock, random);
    const job = jobs[name]!(clock, () => runs.run());
    let calls = 0;
    const stops: Promise<void>[] = [];
    for (let i = 0; i < 1_000; i++) {
      calls++;
      if (random() < 0.5) {
        runs.atRest = false;
        const started = job.start();
        if (random() < 0.5) await started;
      } else {
        const call = calls;
        const stopped = job.stop().then(() => {
          if (call === calls) runs.atRest = true;
        });
        stops.push(stopped);
      }
      if (random() < 0.5) await clock.advance(random() * longestIntervalMs);
    }
    stops.push(job.stop());
    await clock.advance(2 * longestIntervalMs);
    await Promise.all(stops);
    runs.atRest = true;
    expect(clock.pending).toBe(0);
    const { count } = runs;
    await clock.advance(10 * longestIntervalMs);
    expect([runs.count, runs.underWay, runs.faults]).toEqual([count, 0, []]);
    if (!['the clock that notices pauses', 'the watch over the heap'].includes(name)) expect(count).toBeGreaterThan(20);
  },
  60_000,
);
