import { describe, expect, test } from 'vitest';
import { Fault } from '../../src/errors/fault.ts';
import { readAll, records, Scene } from './scene.ts';

const unavailable = (): never => {
  throw new Fault('DATABASE_UNAVAILABLE', 'gone');
};

describe('opening the log', () => {
  test('the ends of many topics are read twenty together, and not all at once', async () => {
    const scene = new Scene();
    const rows = Array.from({ length: 90 }, (_, i) => scene.store.shared.addTopic(`t${i}`, 2));
    const gate = scene.hold('endsOf');
    scene.log.open(rows);
    scene.log.start();
    await scene.clock.settle();
    const opened = (): number => [...scene.log.topicsAtWork()].filter(({ isOpen }) => isOpen).length;
    expect([gate.waiting, opened()]).toEqual([2, 0]);
    gate.open();
    await scene.clock.settle();
    expect([scene.store.count('endsOf'), opened()]).toEqual([5, 90]);
    expect([...scene.log.topics()].map(({ name }) => name).toSorted()).toEqual(rows.map(({ name }) => name).toSorted());
  });

  test('a log whose end cannot be read does not open as if it were empty', async () => {
    const scene = new Scene();
    const row = scene.store.shared.addTopic('orders', 1);
    scene.store.before = unavailable;
    scene.log.open([row]);
    const early = [scene.publish(records('a')), scene.log.untilOpen(row.id)] as const;
    await expect(early[1]).rejects.toMatchObject({ kind: 'DATABASE_UNAVAILABLE' });
    await scene.clock.advance(500);
    expect([early[0].ended, [...scene.log.numbers()]]).toEqual(['DATABASE_UNAVAILABLE', []]);
    scene.store.before = () => undefined;
    await scene.clock.advance(250);
    await scene.log.untilOpen(row.id);
    expect(scene.partition()).toMatchObject({ isKnown: true, endOffset: 0 });
  });

  test('a new broker appends behind the last record of the old one', async () => {
    const before = await Scene.open();
    before.publish(records('a', 'b'));
    await before.clock.settle();
    const after = new Scene({ shared: before.store.shared });
    after.log.open([before.store.shared.topic(1).row]);
    await after.log.untilOpen(1);
    expect(after.partition()).toMatchObject({ startOffset: 0, endOffset: 2 });
    const next = after.publish(records('c'), { expectedOffset: 2 });
    await after.clock.settle();
    expect(next.ended).toBe('0/2');
    expect(await readAll(after.partition())).toEqual(['0=a', '1=b', '2=c']);
  });
});

describe('a topic', () => {
  test('a topic that two calls create at once is added once, and keeps its readers and its keys', async () => {
    const scene = new Scene();
    const row = scene.store.shared.addTopic('orders', 1);
    const gate = scene.hold('ends');
    const both = [scene.log.addTopic(row), scene.log.addTopic(row)];
    await scene.clock.settle();
    gate.open();
    await Promise.all(both);
    const log = scene.partition();
    await scene.log.addTopic(row);
    expect(scene.partition()).toBe(log);
    expect(scene.store.count('ends')).toBe(1);
  });

  test('a changed idempotency window applies from the next publish on', async () => {
    const scene = await Scene.open({ topic: { idempotencyWindowMs: 60_000 } });
    const publish = () => scene.publish(records('x'), { idempotencyKeys: ['k'] });
    publish();
    await scene.clock.advance(5_000);
    scene.log.changeTopic({ ...scene.log.topic('orders')!, idempotencyWindowMs: 5_000 });
    const again = publish();
    await scene.clock.settle();
    expect(again.ended).toBe('0/1');
  });

  test('a deleted topic frees its memory, and a new topic of the same name begins at offset 0', async () => {
    const scene = await Scene.open();
    const old = scene.partition();
    old.addListener({ appended: () => undefined, trimmed: () => undefined });
    scene.publish(records('x'));
    await scene.clock.settle();
    await old.fetch(0);
    scene.log.removeTopic(1);
    scene.log.removeTopic(1);
    expect([scene.log.topic('orders'), scene.log.partitionLogs(1)]).toEqual([undefined, []]);
    expect(scene.stats()).toMatchObject({ topics: 0, tailCacheBytes: 0, readCacheBytes: 0 });
    const row = scene.store.shared.addTopic('orders', 1);
    await scene.log.addTopic(row);
    const publish = scene.publish(records('y'));
    await scene.clock.settle();
    expect(publish.ended).toBe('0/0');
    expect(await readAll(scene.log.partitionLogs(row.id)[0]!)).toEqual(['0=y']);
  });

  test('an append in flight is answered with its outcome when its topic is deleted, and is not cached', async () => {
    const scene = await Scene.open();
    scene.partition().addListener({ appended: () => undefined, trimmed: () => undefined });
    const gate = scene.hold('append');
    const inFlight = scene.publish(records('x'));
    await scene.clock.settle();
    const waiting = scene.publish(records('y'));
    scene.log.removeTopic(1);
    await scene.clock.settle();
    expect([inFlight.ended, waiting.ended]).toEqual(['pending', 'TOPIC_NOT_FOUND']);
    gate.open();
    await scene.clock.settle();
    expect(inFlight.ended).toBe('0/0');
    expect(scene.stats().tailCacheBytes).toBe(0);
  });

  test('a deleted topic stops the retries that read its end', async () => {
    const scene = await Scene.open();
    scene.store.after = (call) => {
      if (call === 'append') throw new Fault('OUTCOME_UNKNOWN', 'cut');
    };
    scene.store.before = (call) => (call === 'ends' ? unavailable() : undefined);
    scene.publish(records('x'));
    await scene.clock.advance(1_000);
    scene.log.removeTopic(1);
    await scene.clock.advance(1_000);
    expect(scene.clock.pending).toBe(0);
  });
});

describe('the ring of idempotency keys', () => {
  test('old idempotency keys are dropped every five seconds, and a failure does not end that', async () => {
    const scene = await Scene.open();
    scene.start();
    await scene.clock.advance(5_000);
    expect(scene.store.count('turnIdempotencyRing')).toBe(1);
    scene.store.before = unavailable;
    await scene.clock.advance(5_000);
    expect(scene.said).toEqual(['old idempotency keys could not be dropped; it will be retried']);
    scene.store.before = () => undefined;
    await scene.clock.advance(5_000);
    expect(scene.store.count('turnIdempotencyRing')).toBe(3);
    scene.stop();
  });

  test('the drop of old idempotency keys is not repeated after the broker has stopped', async () => {
    const scene = await Scene.open();
    scene.start();
    const gate = scene.hold('turnIdempotencyRing');
    await scene.clock.advance(5_000);
    scene.stop();
    gate.open();
    await scene.clock.advance(60_000);
    expect([scene.store.count('turnIdempotencyRing'), scene.clock.pending]).toEqual([1, 0]);
  });
});
