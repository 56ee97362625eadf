import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Fault } from '../../src/errors/fault.ts';
import { property } from '../coordinator/property.ts';
import { newStream, readAll, records, Scene } from '../log/scene.ts';

test('requests of a stream are appended in order, even to different partitions over several connections', async () => {
  const scene = await Scene.open({ partitions: 3, appendSlots: 3 });
  const stream = newStream();
  const order: string[] = [];
  for (let i = 0; i < 9; i += 1) {
    const publish = scene.publish(records(`${i}`), { stream, partition: i % 3 });
    void publish.done.then(() => order.push(`${i}`));
    if (i % 4 === 0) await scene.clock.settle();
  }
  await scene.clock.settle();
  expect(order).toEqual(['0', '1', '2', '3', '4', '5', '6', '7', '8']);
  for (const [partition, expected] of [
    [0, ['0=0', '1=3', '2=6']],
    [1, ['0=1', '1=4', '2=7']],
    [2, ['0=2', '1=5', '2=8']],
  ] as const) {
    expect(await readAll(scene.partition(partition))).toEqual(expected);
  }
});

test('a request of a stream that is rejected at once rejects all later ones, and no earlier one', async () => {
  const scene = await Scene.open();
  const stream = newStream();
  const gate = scene.hold('append');
  const publishes = [scene.publish(records('a'), { stream })];
  await scene.clock.settle();
  publishes.push(
    scene.publish(records('b'), { stream }),
    scene.publish(records('c'), { stream, topic: 'nowhere' }),
    scene.publish(records('d'), { stream }),
    scene.publish(records('e'), { stream, committed: false }),
    scene.publish(records('f'), { stream: newStream() }),
  );
  await scene.clock.settle();
  expect(publishes.map(({ ended }) => ended).slice(2, 5)).toEqual(Array(3).fill('TOPIC_NOT_FOUND'));
  expect(stream.refused).toMatchObject({ reason: 'TOPIC_NOT_FOUND' });
  gate.open();
  await scene.clock.settle();
  expect(await readAll(scene.partition())).toEqual(['0=a', '1=b', '2=f']);
});

test('after a full queue has rejected a request of a stream, it rejects smaller later ones too', async () => {
  const scene = await Scene.open({ queueBytesMax: 100 });
  const stream = newStream();
  const publishes = [200, 1].map((bytes) => scene.publish(records('x'.repeat(bytes)), { stream }));
  await scene.clock.settle();
  expect(publishes.map(({ ended }) => ended)).toEqual(['PUBLISH_QUEUE_FULL', 'PUBLISH_QUEUE_FULL']);
});

test('a request that fails in its append fails all later ones of its stream, queued or in its transaction', async () => {
  const scene = await Scene.open({ partitions: 2, appendSlots: 2 });
  const stream = newStream();
  const gate = scene.hold('append');
  const blocker = scene.publish(records('z'), { partition: 1 });
  await scene.clock.settle();
  const publishes = [
    scene.publish(records('a'), { stream }),
    scene.publish(records('b'), { stream, expectedOffset: 5 }),
    scene.publish(records('c'), { stream }),
    scene.publish(records('d'), { stream, partition: 1 }),
  ];
  const other = scene.publish(records('e'));
  await scene.clock.settle();
  gate.open();
  await scene.clock.settle();
  const mismatch = 'EXPECTED_OFFSET_MISMATCH';
  expect(publishes.map(({ ended }) => ended)).toEqual(['0/0', mismatch, mismatch, mismatch]);
  expect([blocker.ended, other.ended]).toEqual(['1/0', '0/1']);
});

test('no record of a stream with ack mode NONE is appended behind one that was lost', async () => {
  const scene = await Scene.open();
  const stream = newStream();
  scene.store.before = (call) => {
    if (call !== 'append') return;
    scene.store.before = () => undefined;
    throw new Fault('DATABASE_UNAVAILABLE', 'gone');
  };
  const first = scene.publish(records('a'), { stream, committed: false });
  await scene.clock.settle();
  const second = scene.publish(records('b'), { stream, committed: false });
  await scene.clock.settle();
  // The second fails at once. Otherwise the client would go on sending records that are dropped.
  expect([first.ended, second.ended]).toEqual(['queued', 'DATABASE_UNAVAILABLE']);
  expect(stream.failure).toMatchObject({ kind: 'DATABASE_UNAVAILABLE' });
  expect(await readAll(scene.partition())).toEqual([]);
});

const request = fc.record({
  stream: fc.nat(1),
  partition: fc.option(fc.nat(1)),
  texts: fc.array(fc.stringMatching(/^([a-f]:)?x{0,3}$/), { minLength: 1, maxLength: 3 }),
  keyed: fc.boolean(),
  fate: fc.constantFrom('well', 'well', 'well', 'well', 'mismatch', 'nowhere', 'refused data', 'fault', 'lost answer'),
  settle: fc.boolean(),
});

test('whatever fails, a prefix of each stream is stored, and every confirmed record is stored', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(request, { maxLength: 15 }), fc.integer({ min: 1, max: 3 }), async (list, slots) => {
      const scene = await Scene.open({ partitions: 2, appendSlots: slots });
      const streams = [newStream(), newStream()];
      const fates = new Map<object, string>();
      const fail = (kinds: readonly string[], sets: readonly object[]): void => {
        const fate = sets.map((set) => fates.get(set)!).find((one) => kinds.includes(one));
        if (fate === 'refused data') throw new Fault('DATA_REFUSED', 'bad data');
        if (fate === 'fault') throw new Fault('DATABASE_UNAVAILABLE', 'gone');
        if (fate === 'lost answer') throw new Fault('OUTCOME_UNKNOWN', 'cut');
      };
      let written: readonly object[] = [];
      scene.store.before = (call, transaction) => {
        if (call !== 'append') return;
        written = transaction!.batches.flatMap((batch) => batch.records.map(({ set }) => set));
        fail(['refused data', 'fault'], written);
      };
      scene.store.after = (call) => {
        if (call === 'append') fail(['lost answer'], written);
      };
      const sent = list.map(() => ({ set: records(), publish: null as ReturnType<Scene['publish']> | null }));
      for (const [i, one] of list.entries()) {
        const set = records(...one.texts);
        fates.set(set, one.fate);
        const publish = scene.publish(set, {
          stream: streams[one.stream]!,
          partition: one.fate === 'mismatch' ? 0 : one.partition,
          topic: one.fate === 'nowhere' ? 'nowhere' : 'orders',
          expectedOffset: one.fate === 'mismatch' ? 1_000 : null,
          idempotencyKeys: one.keyed ? one.texts.map((_, record) => `${i}.${record}`) : null,
        });
        sent[i] = { set, publish };
        if (one.settle) await scene.clock.settle();
      }
      await scene.clock.settle();
      for (const stream of [0, 1]) {
        const mine = sent.filter((_, i) => list[i]!.stream === stream);
        const stored = mine.map(({ set }) => storedCount(scene, set));
        mine.forEach(({ set, publish }, i) => {
          expect(publish!.ended).not.toBe('pending');
          expect([0, set.count]).toContain(stored[i]);
          if (/\//.test(publish!.ended)) expect(stored[i]).toBe(set.count);
          else if (publish!.ended !== 'OUTCOME_UNKNOWN') expect(stored[i]).toBe(0);
        });
        const firstMissing = stored.indexOf(0);
        if (firstMissing >= 0) expect(stored.slice(firstMissing).every((count) => count === 0)).toBe(true);
        const firstFailed = mine.findIndex(({ publish }) => !/\//.test(publish!.ended));
        if (firstFailed >= 0) {
          expect(mine.slice(firstFailed).every(({ publish }) => !/\//.test(publish!.ended))).toBe(true);
        }
      }
    }),
    property(300),
  );
});

/** The number of records of the set in the logs. */
function storedCount(scene: Scene, set: object): number {
  let count = 0;
  for (const { batches } of scene.store.appended) {
    for (const batch of batches) {
      for (const selection of batch.records) if (selection.set === set) count += selection.indexes.length;
    }
  }
  return count;
}
