import { beforeEach, describe, expect, test } from 'vitest';
import { readMessages } from '../../../src/broker/read-messages.ts';
import type { StartPosition } from '../../../src/delivery/ports/subscriptions.ts';
import { Scene, type FakeLog } from '../scene.ts';

/** Positions below the start of a log, of which retention has dropped the beginning. */

let scene: Scene;
let logs: FakeLog[];

beforeEach(async () => {
  scene = await Scene.open();
  logs = scene.addTopic('orders', 2);
  for (const log of logs) log.append(10);
  logs[0]!.trim(5);
  logs[1]!.trim(3);
});

const create = (start: StartPosition): Promise<unknown> =>
  scene.wait(scene.delivery.subscriptions.create({ group: 'billing', topic: 'orders', start }));
const committed = (): number[] =>
  scene.subscription('billing', 'orders').partitions.map(({ committedOffset }) => committedOffset);
const at = (offset: number | null, ...partitions: [partition: number, offset: number][]): StartPosition => ({
  type: 'offsets',
  offset,
  partitions: partitions.map(([partition, one]) => ({ partition, lane: null, offset: one })),
});

describe('a new subscription', () => {
  test('earliest is the first stored record of each partition', async () => {
    await create({ type: 'earliest' });
    expect(committed()).toEqual([5, 3]);
  });

  test.each<[string, StartPosition, number]>([
    ['of all partitions', at(3), 0],
    ['of one partition', at(null, [1, 2]), 1],
  ])(
    'an explicit start %s below the first stored record is rejected, and creates nothing',
    async (_, start, partition) => {
      await expect(create(start)).rejects.toMatchObject({
        reason: 'OFFSET_OUT_OF_RANGE',
        fields: { topic: 'orders', partition, logStartOffset: partition === 0 ? 5 : 3, highWatermark: 10 },
      });
      expect(scene.store.shared.subscriptions.all()).toEqual([]);
    },
  );

  test('an offset of one partition lets the others begin at their first stored record', async () => {
    await create(at(null, [0, 7]));
    expect(committed()).toEqual([7, 3]);
  });

  test('a drop between the choice of a start and its write moves the start behind what is gone', async () => {
    scene.store.before = (write) => {
      if (write !== 'createSubscriptions') return;
      logs[0]!.startOffset = 8;
      scene.store.shared.logStart = (_, partition) => logs[partition]!.startOffset;
    };
    await create({ type: 'earliest' });
    await scene.clock.settle();
    expect(committed()).toEqual([8, 3]);
  });
});

describe('a read of messages', () => {
  const codec = { encode: unused, join: unused, cut: () => Buffer.alloc(1) };
  const read = (from: Parameters<typeof readMessages>[0]['from'], log = logs[0]!) =>
    readMessages({ topic: 'orders', partition: 0, lane: null, from, maxRecords: 100, maxBytes: 10_000 }, log, codec);

  test('a read from below the first stored record is rejected, and one without a position begins there', async () => {
    await expect(read({ offset: 4 })).rejects.toMatchObject({ reason: 'OFFSET_OUT_OF_RANGE' });
    expect((await read(null)).nextOffset).toBe(10);
  });

  test('a read that a drop overtakes goes on at the first stored record', async () => {
    const [log] = scene.addTopic('bills', 1);
    for (let batch = 0; batch < 5; batch++) log!.append(2);
    log!.cachedFrom = 10;
    const gate = Promise.withResolvers<void>();
    log!.gate = gate.promise;
    const reading = read({ offset: 0 }, log);
    log!.trim(6);
    gate.resolve();
    expect(await reading).toMatchObject({ nextOffset: 10, logStartOffset: 6 });
  });
});

function unused(): never {
  throw new Error('unused');
}
