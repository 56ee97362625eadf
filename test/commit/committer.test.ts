import { describe, expect, test } from 'vitest';
import { Fault } from '../../src/errors/fault.ts';
import { Gate, newStream, readAll, records, Scene } from '../log/scene.ts';

describe('group commit', () => {
  test('publishes of one turn of the event loop share a transaction, without a timer', async () => {
    const scene = await Scene.open();
    const publishes = ['a', 'b', 'c'].map((value) => scene.publish(records(value)));
    await scene.clock.settle();
    expect(publishes.map(({ ended }) => ended)).toEqual(['0/0', '0/1', '0/2']);
    expect(scene.transactions).toEqual([3]);
    expect(scene.clock.pending).toBe(0);
  });

  test('all publishes that arrive while a transaction is in flight share the next one', async () => {
    const scene = await Scene.open();
    const gate = scene.hold('append');
    scene.publish(records('first'));
    await scene.clock.settle();
    const rest: string[] = [];
    for (let i = 0; i < 50; i += 1) {
      void scene.publish(records(`r${i}`)).done.then((ended) => rest.push(ended));
      await scene.clock.settle();
    }
    expect(rest).toEqual([]);
    gate.open();
    await scene.clock.settle();
    expect(scene.transactions).toEqual([1, 50]);
    expect(rest).toEqual(Array.from({ length: 50 }, (_, i) => `0/${i + 1}`));
  });

  test('different partitions are appended to concurrently, one transaction on each connection', async () => {
    const scene = await Scene.open({ partitions: 3, appendSlots: 2 });
    const gate = scene.hold('append');
    for (const partition of [0, 1, 2]) {
      scene.publish(records('x'), { partition });
      await scene.clock.settle();
    }
    // The third waits for a connection, because the store rejects two appends on one.
    expect(gate.waiting).toBe(2);
    gate.open();
    await scene.clock.settle();
    expect(scene.transactions).toEqual([1, 1, 1]);
  });

  test('a transaction is limited in bytes, so that no publish waits long for its answer', async () => {
    const scene = await Scene.open({ queueBytesMax: 20_000_000 });
    const megabyte = 'x'.repeat(1_048_000);
    const publishes = Array.from({ length: 6 }, () => scene.publish(records(megabyte)));
    await scene.clock.settle();
    expect(publishes.map(({ ended }) => ended)).toEqual(['0/0', '0/1', '0/2', '0/3', '0/4', '0/5']);
    expect(scene.transactions).toEqual([4, 2]);
  });
});

describe('a fault of the database', () => {
  const failOnce = (scene: Scene, fault: Fault): void => {
    scene.store.before = (call) => {
      if (call !== 'append') return;
      scene.store.before = () => undefined;
      throw fault;
    };
  };

  test('a fault of the database fails every publish of its transaction, and no later one', async () => {
    const scene = await Scene.open({ partitions: 2 });
    failOnce(scene, new Fault('DATABASE_UNAVAILABLE', 'gone'));
    const failed = [0, 1].map((partition) => scene.publish(records('x'), { partition }));
    await scene.clock.settle();
    const next = scene.publish(records('y'));
    await scene.clock.settle();
    expect(failed.map(({ ended }) => ended)).toEqual(['DATABASE_UNAVAILABLE', 'DATABASE_UNAVAILABLE']);
    expect(next.ended).toBe('0/0');
    expect(scene.fenced).toBe(0);
  });

  test('an append with an unknown outcome is never retried, because it may be committed', async () => {
    const scene = await Scene.open();
    scene.store.after = (call) => {
      if (call === 'append') throw new Fault('OUTCOME_UNKNOWN', 'cut after COMMIT');
    };
    const publish = scene.publish(records('x'));
    await scene.clock.advance(60_000);
    expect(publish.ended).toBe('OUTCOME_UNKNOWN');
    expect(scene.store.count('append')).toBe(1);
  });

  test('a request whose data the database refuses does not fail the others of its transaction', async () => {
    const scene = await Scene.open();
    const poison = records('poison');
    scene.store.before = (_call, transaction) => {
      const sets = transaction?.batches.flatMap((batch) => batch.records.map(({ set }) => set)) ?? [];
      if (sets.includes(poison)) throw new Fault('DATA_REFUSED', 'bad data');
    };
    const publishes = [records('a'), poison, records('b')].map((set) => scene.publish(set));
    await scene.clock.settle();
    expect(publishes.map(({ ended }) => ended)).toEqual(['0/0', 'DATA_REFUSED', '0/1']);
  });

  test('a request whose data the database refuses fails the later requests of its stream', async () => {
    const scene = await Scene.open();
    const poison = records('poison');
    const stream = newStream();
    scene.store.before = (_call, transaction) => {
      const sets = transaction?.batches.flatMap((batch) => batch.records.map(({ set }) => set)) ?? [];
      if (sets.includes(poison)) throw new Fault('DATA_REFUSED', 'bad data');
    };
    const publishes = [records('a'), poison, records('b')].map((set) => scene.publish(set, { stream }));
    const other = scene.publish(records('c'));
    await scene.clock.settle();
    expect(publishes.map(({ ended }) => ended)).toEqual(['0/0', 'DATA_REFUSED', 'DATA_REFUSED']);
    expect(other.ended).toBe('0/1');
    expect(await readAll(scene.partition())).toEqual(['0=a', '1=c']);
  });

  test('a fenced append reports that another broker has taken over, and writes nothing', async () => {
    const scene = await Scene.open();
    scene.store.shared.epoch++;
    const publish = scene.publish(records('x'));
    await scene.clock.settle();
    expect(publish.ended).toBe('FENCED');
    expect(scene.fenced).toBe(1);
    expect(scene.transactions).toEqual([]);
  });
});

describe('a segment that moved', () => {
  test('an append follows a moved segment, and its publishers do not notice', async () => {
    const scene = await Scene.open({ partitions: 2 });
    scene.store.moveSegment(1);
    scene.store.moveSegment(1);
    const publishes = [0, 1].map((partition) => scene.publish(records('x'), { partition }));
    await scene.clock.settle();
    expect(publishes.map(({ ended }) => ended)).toEqual(['0/0', '1/0']);
    expect(scene.store.appended[0]!.batches.map(({ segment }) => segment)).toEqual([3, 3]);
    expect(scene.store.shared.topic(1).segments.current.segment).toBe(3);
  });

  test('a publish is rejected once, although its transaction is retried on a moved segment', async () => {
    const scene = await Scene.open();
    scene.store.moveSegment(1);
    const stream = newStream();
    const publishes = [
      scene.publish(records('a')),
      scene.publish(records('b'), { expectedOffset: 7, stream }),
      scene.publish(records('c'), { stream }),
    ];
    await scene.clock.settle();
    const mismatch = 'EXPECTED_OFFSET_MISMATCH';
    expect(publishes.map(({ ended }) => ended)).toEqual(['0/0', mismatch, mismatch]);
    expect(scene.transactions).toEqual([1]);
  });

  test('an append to a segment that moves at each try ends in an error, not in an endless loop', async () => {
    const scene = await Scene.open();
    scene.store.before = (call) => {
      if (call === 'append') scene.store.moveSegment(1);
    };
    const publish = scene.publish(records('x'));
    await scene.clock.settle();
    expect(publish.ended).toBe('DATABASE_UNAVAILABLE');
    expect(scene.store.count('append')).toBe(6);
  });
});

test('a publish is rejected if its topic is deleted while it waits or its keys are looked up', async () => {
  const scene = await Scene.open({ partitions: 2 });
  const gate = new Gate();
  scene.store.before = (call) => (call === 'findKeys' ? gate.pass() : undefined);
  const taken = scene.publish(records('x'), { idempotencyKeys: ['k'] });
  await scene.clock.settle();
  const waiting = scene.publish(records('y'));
  scene.log.removeTopic(1);
  gate.open();
  await scene.clock.settle();
  expect([taken.ended, waiting.ended]).toEqual(['TOPIC_NOT_FOUND', 'TOPIC_NOT_FOUND']);
  expect(scene.transactions).toEqual([]);
});
