import { expect, test } from 'vitest';
import { Fault } from '../../src/errors/fault.ts';
import { limits } from '../../src/limits/limits.ts';
import { SegmentKeeper } from '../../src/log/segment-keeper.ts';
import type { Topic } from '../../src/log/topic.ts';
import type { RetentionSettings } from '../../src/retention/settings.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { MemoryLogStore } from '../support/memory-log-store.ts';
import { Gate, records, Scene, topicAtWork } from './scene.ts';

const lookIntervalMs = 10_000;

function scene() {
  const clock = new FakeClock();
  const store = new MemoryLogStore(clock);
  const topic = topicAtWork(clock, 'orders', [1], store);
  const said: string[] = [];
  const say = (_fields: object, message: string): void => void said.push(message);
  const keeper = new SegmentKeeper({
    store,
    clock,
    log: { info: say, warn: say },
    topics: () => [topic],
    whileQuiet: (_topic, work) => work(),
  });
  keeper.start();
  /** Counts an append, and grows the segment on disk by `onDisk`. */
  const append = async (bytes: number, onDisk = bytes): Promise<void> => {
    store.shared.topic(1).segmentBytes += onDisk;
    keeper.appended(topic, bytes);
    await clock.settle();
  };
  return { clock, store, topic, said, keeper, append };
}

test('the next segment begins as soon as the current one is full, not at the next interval', async () => {
  const { store, topic, append, said } = scene();
  await append(limits.segmentBytesMax / 2 - 1);
  expect([topic.segment, store.count('segmentSize')]).toEqual([1, 0]);
  await append(limits.segmentBytesMax / 2);
  expect([topic.segment, store.count('segmentSize')]).toEqual([1, 1]);
  await append(1);
  expect(topic.segment).toBe(2);
  expect(said).toEqual(['a new segment begins']);
  await append(limits.segmentBytesMax / 2 - 1);
  expect([topic.segment, store.count('segmentSize')]).toEqual([2, 2]);
});

test('the next segment is made once, when the current one is half full or half its age', async () => {
  for (const half of ['size', 'age']) {
    const { clock, store, topic, append } = scene();
    await append(limits.segmentBytesMax / 2 - 1);
    await clock.advance(lookIntervalMs);
    expect(store.count('makeSegment')).toBe(0);
    if (half === 'age') store.shared.topic(1).segments.current.sinceMs = clock.wallMs() - limits.segmentAgeMsMax / 2;
    await append(half === 'age' ? 0.5 : 1);
    await clock.advance(lookIntervalMs);
    expect([store.count('makeSegment'), store.count('rollSegment')]).toEqual([1, 0]);
    for (let i = 0; i < 5; i++) {
      await append(1);
      await clock.advance(lookIntervalMs);
    }
    expect([topic.segment, store.count('makeSegment')]).toEqual([1, 1]);
  }
});

test('an idle topic gets no new table, however old its segment is', async () => {
  const { clock, store } = scene();
  store.shared.topic(1).segments.current.sinceMs = clock.wallMs() - 10 * limits.segmentAgeMsMax;
  await clock.advance(100 * lookIntervalMs);
  expect(store.calls).toEqual([]);
});

const day = 86_400_000;
const kept: RetentionSettings = {
  afterCompletionMs: 8 * 3_600_000,
  excusedKeepMs: 7 * day,
  maxAgeMs: null,
  maxBytes: null,
  keepUnsubscribedMs: day,
};

/** Topics with a record each, whose last append was at the start. */
function idleScene(count: number, retention: RetentionSettings = kept) {
  const clock = new FakeClock();
  const store = new MemoryLogStore(clock);
  const topics = Array.from({ length: count }, (_, index) => {
    const topic = topicAtWork(clock, `topic-${index}`, [index + 1], store);
    topic.row = { ...topic.row, retention };
    topic.hasData = true;
    topic.live = 1;
    const stored = store.shared.topic(topic.row.id);
    stored.segmentBytes = 1;
    stored.segments.current.sinceMs = clock.wallMs();
    return topic;
  });
  const rolled: number[] = [];
  const keeper = new SegmentKeeper({
    store,
    clock,
    log: { info: () => undefined, warn: () => undefined },
    topics: () => topics,
    whileQuiet: (_topic, work) => work(),
    onRolled: (topicId) => rolled.push(topicId),
  });
  keeper.start();
  return { clock, store, topics, keeper, rolled };
}

test('the last records of an idle topic come into a sealed segment, by one more table and no further one', async () => {
  const { clock, store, topics, keeper, rolled } = idleScene(1);
  await clock.advance(3_600_000 / 2 - lookIntervalMs);
  expect(store.calls).toEqual([]);
  await clock.advance(2 * lookIntervalMs);
  expect([store.count('makeSegment'), store.count('rollSegment')]).toEqual([1, 0]);
  await clock.advance(3_600_000 / 2);
  expect([store.count('makeSegment'), store.count('rollSegment'), topics[0]!.segment]).toEqual([1, 1, 2]);
  expect(rolled).toEqual([1]);
  const { length } = store.calls;
  await clock.advance(10 * day);
  expect(store.calls).toHaveLength(length);
  await keeper.stop();
});

test('an idle topic that keeps everything gets no table, since none of it could go', async () => {
  const { clock, store, keeper } = idleScene(1, { ...kept, afterCompletionMs: null });
  await clock.advance(10 * day);
  expect(store.calls).toEqual([]);
  await keeper.stop();
});

test('many idle topics at once do not keep a busy one from its next segment', async () => {
  const { clock, store, topics, keeper } = idleScene(120);
  let making = 0;
  let most = 0;
  store.before = async (call) => {
    if (call !== 'makeSegment') return;
    most = Math.max(most, ++making);
    await new Promise<void>((resolve) => clock.after(100, resolve));
    making -= 1;
  };
  await clock.advance(3_600_000);
  const made = store.count('makeSegment');
  expect([made, most]).toEqual([120, 1]);
  const busy = topics[119]!;
  store.shared.topic(busy.row.id).segmentBytes = limits.segmentBytesMax;
  keeper.appended(busy, limits.segmentBytesMax);
  await clock.advance(1_000);
  expect(busy.segment).toBe(2);
  await keeper.stop();
});

test('in ten seconds at most fifty idle topics are looked at', async () => {
  const { clock, store, keeper } = idleScene(120);
  await clock.advance(3_600_000 / 2 - lookIntervalMs);
  expect(store.count('segmentSize')).toBe(0);
  for (const looks of [50, 100, 120]) {
    await clock.advance(lookIntervalMs);
    expect(store.count('segmentSize')).toBe(looks);
  }
  await keeper.stop();
});

test('a segment ends after an eighth of the shortest time that its topic keeps records', async () => {
  const { clock, store, topic, append } = scene();
  topic.row = { ...topic.row, retention: { ...kept, maxAgeMs: 8 * 60_000 } };
  store.shared.topic(1).segments.current.sinceMs = clock.wallMs();
  await append(1);
  await clock.advance(50_000);
  expect(topic.segment).toBe(1);
  await append(1);
  await clock.advance(20_000);
  expect(topic.segment).toBe(2);
});

test('the bytes of the current segment are stored now and then, so that no start has to measure all', async () => {
  const { clock, store, append } = scene();
  const step = limits.segmentBytesMax / 16;
  await append(step - 1);
  await clock.advance(lookIntervalMs);
  expect(store.count('saveSegmentBytes')).toBe(0);
  await append(1);
  await clock.advance(lookIntervalMs);
  expect([store.count('saveSegmentBytes'), store.shared.topic(1).segments.current.bytes]).toEqual([1, step]);
  await append(1);
  await clock.advance(lookIntervalMs);
  expect(store.count('saveSegmentBytes')).toBe(1);
});

test('a roll stores the bytes of the segment that ends, and counts them', async () => {
  const { store, topic, append } = scene();
  await append(limits.segmentBytesMax / 2);
  await append(limits.segmentBytesMax / 2);
  expect(store.shared.topic(1).segments.sealed[0]?.bytes).toBe(limits.segmentBytesMax);
  expect(topic).toMatchObject({ segment: 2, segmentCount: 2, sealedBytes: limits.segmentBytesMax, hasData: false });
});

test('appends go on in a full segment while the next one cannot be made, and do not each retry it', async () => {
  const { clock, store, topic, append, said } = scene();
  store.before = (call) => {
    if (call === 'makeSegment') throw new Fault('DATABASE_UNAVAILABLE', 'canceling statement due to lock timeout');
  };
  await append(limits.segmentBytesMax);
  for (let i = 0; i < 5; i++) await append(limits.segmentBytesMax);
  expect([topic.segment, store.count('makeSegment'), store.count('rollSegment')]).toEqual([1, 1, 0]);
  expect(said).toEqual(['the next segment of a topic could not be made or begun; it will be retried']);
  await clock.advance(lookIntervalMs);
  expect(store.count('makeSegment')).toBe(2);
  store.before = () => undefined;
  await clock.advance(lookIntervalMs);
  expect([topic.segment, store.count('makeSegment')]).toEqual([2, 3]);
});

test('no append waits while the next segment is being made', async () => {
  const scene = await Scene.open();
  const { store, clock } = scene;
  scene.start();
  const gate = new Gate();
  store.before = (call) => (call === 'makeSegment' ? gate.pass() : undefined);
  store.shared.topic(1).segmentBytes = limits.segmentBytesMax;
  scene.publish(records('x'));
  await clock.advance(lookIntervalMs);
  expect(gate.waiting).toBe(1);
  const meanwhile = scene.publish(records('y'));
  await clock.settle();
  expect(meanwhile.ended).toBe('0/1');
  gate.open();
  await clock.settle();
  const after = scene.publish(records('z'));
  await clock.settle();
  expect(after.ended).toBe('0/2');
  expect(store.appended.map(({ batches }) => batches[0]!.segment)).toEqual([1, 1, 2]);
  scene.stop();
});

test('a segment of compressible data is filled on disk before the next one begins', async () => {
  const { topic, append } = scene();
  const tenth = limits.segmentBytesMax / 10;
  for (let bytes = 0; bytes < limits.segmentBytesMax; bytes += tenth / 2) {
    expect(topic.segment).toBe(1);
    await append(tenth, tenth / 2);
  }
  expect(topic.segment).toBe(2);
});

test('an old segment ends at its next append, and the size of an idle one is not measured again', async () => {
  const { clock, store, topic, append } = scene();
  await append(1);
  await clock.advance(lookIntervalMs);
  expect(store.count('segmentSize')).toBe(1);
  // Nothing more was appended, so the size is not measured every ten seconds.
  await clock.advance(20 * lookIntervalMs);
  expect(store.count('segmentSize')).toBe(1);
  store.shared.topic(1).segments.current.sinceMs = clock.wallMs() - limits.segmentAgeMsMax;
  await append(1);
  await clock.advance(lookIntervalMs);
  expect(topic.segment).toBe(2);
});

test('appends during a measurement start no second one, and count for the new segment', async () => {
  const { store, topic, append } = scene();
  const gate = new Gate();
  store.before = (call) => (call === 'segmentSize' ? gate.pass() : undefined);
  await append(limits.segmentBytesMax);
  for (let i = 0; i < 5; i += 1) await append(100, 0);
  expect(gate.waiting).toBe(1);
  gate.open();
  await append(1, 0);
  expect(topic).toMatchObject({ segment: 2, appendedBytes: 501 });
});

test('a failed measurement of a segment is logged and retried', async () => {
  const { clock, store, topic, append, said } = scene();
  store.before = (call) => {
    if (call === 'segmentSize') throw new Fault('DATABASE_UNAVAILABLE', 'gone');
  };
  await append(limits.segmentBytesMax);
  expect(said).toEqual(['the next segment of a topic could not be made or begun; it will be retried']);
  store.before = () => undefined;
  await clock.advance(lookIntervalMs);
  expect(topic.segment).toBe(2);
});

test('a check that ends after its topic was deleted or its keeper stopped logs nothing and rolls nothing', async () => {
  for (const end of [
    (topic: Topic) => (topic.removed = true),
    (_topic: Topic, keeper: SegmentKeeper) => {
      void keeper.stop();
    },
  ]) {
    const { clock, store, topic, append, said, keeper } = scene();
    const gate = new Gate();
    store.before = (call) =>
      call === 'segmentSize' ? gate.pass().then(() => Promise.reject(new Error('it is gone'))) : undefined;
    await append(limits.segmentBytesMax);
    end(topic, keeper);
    gate.open();
    await append(limits.segmentBytesMax);
    expect([said, topic.segment, store.count('segmentSize')]).toEqual([[], 1, 1]);
    void keeper.stop();
    expect(clock.pending).toBe(0);
  }
});

test('appends after a roll go to the new segment at their first attempt', async () => {
  const log = await Scene.open();
  log.start();
  log.store.shared.topic(1).segmentBytes = limits.segmentBytesMax;
  log.publish(records('x'));
  await log.clock.advance(lookIntervalMs);
  const next = log.publish(records('y'));
  await log.clock.settle();
  expect(next.ended).toBe('0/1');
  expect(log.store.appended.map(({ batches }) => batches[0]!.segment)).toEqual([1, 2]);
  expect(log.store.count('append')).toBe(2);
  log.stop();
});

test('a roll waits for the appends in flight, so that no append fails because its segment moved', async () => {
  for (const roll of ['done', 'failed'] as const) {
    const scene = await Scene.open({ appendSlots: 2, partitions: 2 });
    const { store, clock } = scene;
    scene.start();
    const gate = new Gate();
    let gated = true;
    store.before = (call) => {
      if (call === 'append' && gated) return gate.pass();
      if (call === 'rollSegment' && roll === 'failed') throw new Fault('DATABASE_UNAVAILABLE', 'gone');
    };
    store.shared.topic(1).segmentBytes = limits.segmentBytesMax;
    scene.publish(records('x'), { partition: 0 });
    await clock.settle();
    gated = false;
    scene.publish(records('y'), { partition: 1 });
    await clock.settle();
    await clock.advance(lookIntervalMs);
    const behind = scene.publish(records('z'), { partition: 1 });
    await clock.settle();
    expect([gate.waiting, store.count('rollSegment'), behind.ended]).toEqual([1, 0, 'pending']);
    gate.open();
    await clock.settle();
    expect(behind.ended).toBe('1/1');
    expect(store.appended.map(({ batches }) => batches[0]!.segment)).toEqual([1, 1, roll === 'done' ? 2 : 1]);
    expect(store.count('append')).toBe(3);
    scene.stop();
  }
});
