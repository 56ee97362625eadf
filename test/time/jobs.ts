import { Topics } from '../../src/broker/topics.ts';
import { AckRing } from '../../src/commit/ack-ring.ts';
import { Publisher } from '../../src/commit/publisher.ts';
import { NackLog } from '../../src/delivery/calls/nack-log.ts';
import type { Feed } from '../../src/delivery/dispatch/feed.ts';
import { SlowReaders } from '../../src/delivery/dispatch/slow-readers.ts';
import type { GroupContext } from '../../src/delivery/groups/context.ts';
import type { Groups } from '../../src/delivery/groups/groups.ts';
import { OffsetRetention } from '../../src/delivery/groups/offset-retention.ts';
import type { GroupStore } from '../../src/delivery/ports/store.ts';
import { AckRounds } from '../../src/delivery/rounds/ack-rounds.ts';
import { Folds } from '../../src/delivery/rounds/folds.ts';
import { Fault } from '../../src/errors/fault.ts';
import { WriteTrouble } from '../../src/errors/write-trouble.ts';
import { Attendance } from '../../src/lifecycle/attendance.ts';
import { Cleaner } from '../../src/lifecycle/cleaner.ts';
import { Drops } from '../../src/lifecycle/drops.ts';
import { FreeSpace } from '../../src/lifecycle/free-space.ts';
import type { PlannedDrop, RetentionStore, StoredFacts } from '../../src/lifecycle/store.ts';
import { Retention } from '../../src/lifecycle/retention.ts';
import { Watermarks } from '../../src/lifecycle/watermarks.ts';
import { limits } from '../../src/limits/limits.ts';
import { EndsLoader } from '../../src/log/ends-loader.ts';
import { Log } from '../../src/log/log.ts';
import { SegmentKeeper } from '../../src/log/segment-keeper.ts';
import type { LogStore, TopicStore } from '../../src/log/store.ts';
import type { Topic } from '../../src/log/topic.ts';
import { HeapWatch } from '../../src/server/heap-watch.ts';
import { AwakeClock } from '../../src/time/awake-clock.ts';
import type { BackgroundJob } from '../../src/time/background-job.ts';
import { Every } from '../../src/time/every.ts';
import { createBatchCodec } from '../../src/wire/batch-codec.ts';
import { roomyAccount } from '../account/accounts.ts';
import type { FakeClock } from '../support/fake-clock.ts';
import { MemoryLogStore, type LogCall } from '../support/memory-log-store.ts';

export type MakeJob = (clock: FakeClock, run: () => Promise<void>) => BackgroundJob;

const nothing = (): void => undefined;
const silent = { info: nothing, warn: nothing };
const random = { uuid: () => '', fraction: () => 0 };
const codec = createBatchCodec();

/** Every class of src that works in the background, on stores whose work is `run`. */
export const jobs: Readonly<Record<string, MakeJob>> = {
  Every: (clock, run) => new Every({ clock, delayMs: 1_000, run, onError: nothing }),
  AckRounds: (clock, run) => {
    const rounds = new AckRounds({
      store: { fold: () => Promise.resolve('EMPTIED') } as unknown as GroupStore,
      commits: { appendAcks: run },
      ring: new AckRing(),
      clock,
      onFenced: nothing,
      onFoldFailed: nothing,
    });
    const cursor = {
      takeDelta: () => ({ acked: [], attempts: [], metadata: null }),
      written: nothing,
      snapshot: () => ({}),
    };
    const feed = {
      key: { subscriptionId: 1 },
      cursor,
      recount: nothing,
      roundBegins: () => Infinity,
    } as unknown as Feed;
    const start = (): void => {
      rounds.start();
      rounds.mark(feed);
    };
    return { start, stop: () => rounds.stop() };
  },
  Folds: (clock, run) => {
    const fold = async (): Promise<'EMPTIED'> => {
      await run();
      return 'EMPTIED';
    };
    const store = { fold } as unknown as GroupStore;
    const folds = new Folds({ store, ring: new AckRing(), clock, onFailed: nothing });
    const start = (): void => {
      folds.start({ cursors: 1, rounds: 1 });
    };
    return { start, stop: () => folds.stop(Infinity) };
  },
  OffsetRetention: (clock, run) => {
    const group = { name: 'billing', id: 1, generation: 1, members: { size: 0 } };
    const groups = { inMemory: { all: () => [group] } } as unknown as Groups;
    const context = { clock, log: silent, writer: { settle: run } } as unknown as GroupContext;
    const retention = new OffsetRetention({ groups, context, retentionMs: 0 });
    const start = (): void => {
      retention.touch(group as never);
      retention.start();
    };
    return { start, stop: () => retention.stop() };
  },
  NackLog: (clock) => {
    const nacks = new NackLog({ clock, log: silent });
    const line = { group: 'billing', topic: 'orders', partition: 0, lane: 0, offsets: '0', member: 'm', attempt: 1 };
    const start = (): void => {
      nacks.start();
      nacks.write({ ...line, error: 'no' });
    };
    return { start, stop: () => nacks.stop() };
  },
  SegmentKeeper: (clock, run) => {
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
  EndsLoader: (clock, run) => {
    let isWaiting = false;
    const opened = (): void => {
      isWaiting = false;
    };
    const endsOf = async () => {
      await run();
      return new Map();
    };
    const trouble = { failed: nothing, worked: nothing, drop: nothing };
    const loader = new EndsLoader({ store: { endsOf }, clock, trouble });
    const start = (): void => {
      if (!isWaiting) loader.add({ row: { id: 1 }, opened });
      isWaiting = true;
      loader.start();
    };
    return { start, stop: () => loader.stop() };
  },
  Log: (clock, run) => {
    const { store, log } = logOn(clock, 'segmentSize', run);
    log.open([store.shared.addTopic('orders', 1)]);
    const start = (): void => {
      log.start();
      const topic = log.topicAtWork('orders');
      if (topic !== undefined) log.appended(topic, 1);
    };
    return { start, stop: () => log.stop() };
  },
  Publisher: (clock, run) => {
    const { store, log } = logOn(clock, 'turnIdempotencyRing', run);
    const ring = new AckRing();
    return new Publisher({
      store,
      log,
      ring,
      clock,
      random,
      account: roomyAccount(),
      onFenced: nothing,
      warn: nothing,
    });
  },
  Attendance: (clock, run) => new Attendance({ clock, log: silent, look: run }),
  Cleaner: (clock, run) => {
    const facts = async (): Promise<null> => {
      await run();
      throw new Fault('DATABASE_UNAVAILABLE', 'so that it is looked at again');
    };
    const cleaner = new Cleaner({
      ...cleaning(clock),
      store: { facts } as unknown as RetentionStore,
      isDiskFull: () => false,
      onDropped: nothing,
    });
    cleaner.added({ row: { id: 1, name: 'orders' }, segmentCount: 2 } as unknown as Topic);
    return cleaner;
  },
  Retention: (clock, run) => {
    const facts = async (): Promise<null> => {
      await run();
      throw new Fault('DATABASE_UNAVAILABLE', 'so that it is looked at again');
    };
    const store = {
      facts,
      pendingDrops: () => Promise.resolve([]),
      makeBallast: () => Promise.resolve(),
      tidy: () => Promise.resolve(),
      stop: nothing,
    } as unknown as RetentionStore;
    const retention = new Retention({ ...cleaning(clock), store, writes: new WriteTrouble(() => clock.wallMs()) });
    retention.cleaner.added({ row: { id: 1, name: 'orders' }, segmentCount: 2 } as unknown as Topic);
    return retention;
  },
  Watermarks: (clock, run) => {
    const saveWatermarks = async (): Promise<number[]> => {
      await run();
      return [];
    };
    const partition = { watermark: 0, endOffset: 1, raiseWatermark: nothing };
    const watermarks = new Watermarks({
      store: { saveWatermarks } as unknown as RetentionStore,
      topic: () => ({ partitions: [partition] }) as unknown as Topic,
      clock,
      onRefused: nothing,
      onFailed: nothing,
    });
    const start = (): void => {
      watermarks.found({ topicId: 1, watermarks: [{ partition: 0, lane: 0, folded: 1 }] } as unknown as StoredFacts);
      watermarks.start();
    };
    return { start, stop: () => watermarks.stop() };
  },
  Drops: (clock, run) => {
    const pendingDrops = async (): Promise<PlannedDrop[]> => {
      await run();
      return [{ topicId: 1, topicName: 'orders', segment: 1 }];
    };
    const table = (): Promise<never> => Promise.reject(new Fault('DATABASE_UNAVAILABLE', 'down'));
    const store = { pendingDrops, table, stop: nothing } as unknown as RetentionStore;
    return new Drops({ store, clock, log: silent, wantsSegment: () => false });
  },
  FreeSpace: (clock, run) => {
    const hasSpace = async (): Promise<boolean> => {
      await run();
      return false;
    };
    const done = (): Promise<void> => Promise.resolve();
    const writes = new WriteTrouble(() => clock.wallMs());
    writes.noticed(new Fault('DISK_FULL', 'full'));
    const store = { hasSpace, freeBallast: done, makeBallast: done };
    return new FreeSpace({ store, writes, clock, log: silent, onFull: nothing });
  },
  Topics: (clock) => {
    const topics = new Topics({
      store: { loadTopics: () => Promise.resolve([]) } as unknown as TopicStore,
      log: { open: () => Promise.resolve() } as unknown as Log,
      clock,
      random,
      reserveCursors: () => ({ release: nothing }),
      onGrown: () => Promise.resolve(),
      whileDeleted: (_, work) => work(),
      onDeleted: nothing,
      account: roomyAccount().kind('topics'),
    });
    return { start: () => topics.open(), stop: () => topics.stop() };
  },
  SlowReaders: (clock) => new SlowReaders({ clock, account: roomyAccount(), limits, log: silent }),
  AwakeClock: (clock) => new AwakeClock(clock),
  HeapWatch: () => new HeapWatch(silent),
};

/** Jobs that call no store. */
export const jobsWithoutRuns: readonly string[] = ['NackLog', 'Topics', 'SlowReaders', 'AwakeClock', 'HeapWatch'];

/**
 * Classes with a start whose stop is final, so that no loop of starts and stops fits them. Each has
 * tests of its stop in the folder named.
 */
export const endedForGood: Readonly<Record<string, string>> = {
  Server: 'test/broker/process',
  GrpcServer: 'test/rpc',
  HttpServer: 'test/rpc',
  Supervisor: 'test/embedded',
  Ownership: 'test/ownership',
  Delivery: 'test/delivery',
  Groups: 'test/delivery',
  GroupLoader: 'test/delivery/takeovers',
};

function cleaning(clock: FakeClock) {
  return {
    logs: {
      topicOf: () => undefined,
      topicsAtWork: () => [],
      known: () => Promise.resolve(),
      trim: () => Promise.resolve(),
    },
    groups: {
      whileTrimmed: <T>(_: number, __: unknown, ___: unknown, work: () => Promise<T>) => work(),
      foldNow: () => Promise.resolve(),
    },
    clock,
    random,
    log: silent,
  };
}

/** A log whose calls of one kind do `run`. */
function logOn(clock: FakeClock, call: LogCall, run: () => Promise<void>): { store: MemoryLogStore; log: Log } {
  const store = new MemoryLogStore(clock);
  store.before = (made) => (made === call ? run() : undefined);
  const account = roomyAccount();
  return { store, log: new Log({ store, clock, codec, account, owner: account.owner(), log: silent }) };
}
