import { expect, test } from 'vitest';
import type { StoredBatch } from '../../src/log/batch.ts';
import { Reader } from '../../src/log/reader.ts';
import type { LogStore } from '../../src/log/store.ts';
import { roomyAccount } from '../account/accounts.ts';
import { codec, readAll, records, Scene } from './scene.ts';

test('the batches of a read that outlives its topic stay in memory, where nobody drops them', async () => {
  const scene = await Scene.open({ partitions: 1 });
  scene.publish(records('one', 'two'), { partition: 0 });
  await scene.clock.settle();
  const { address } = scene.partition(0);
  const account = roomyAccount();
  const held = Promise.withResolvers<StoredBatch[]>();
  const store = { read: () => held.promise } as unknown as LogStore;
  const reader = new Reader({ store, codec, fetchBytesMax: 10_000, chunkBytes: 5_000, account });
  const reading = reader.fetch(address, 0, true);
  reader.forget(address);
  held.resolve(await scene.store.read({ ...address, offset: 0, bytesMax: 10_000 }));
  expect(await reading).not.toBeNull();
  expect([account.kind('reads').bytes, account.kind('batches').bytes]).toEqual([0, 0]);
  expect(await readAll(scene.partition(0))).toEqual(['0=one', '1=two']);
});
