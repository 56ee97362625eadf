import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { TopicRow } from '../../../src/log/store.ts';
import type { Storage } from '../../../src/storage/storage.ts';
import { appendSlots, LogSite } from './log-site.ts';
import { batch, readAll, transaction, values } from '../../log/records.ts';

let site: LogSite;
let storage: Storage;

beforeAll(async () => {
  site = await LogSite.open();
  storage = await site.own('one', 1);
});

afterAll(() => site.close());

const ends = async (topic: TopicRow) => (await storage.log.ends(topic.id)).map(({ endOffset }) => endOffset);

test('four connections that append at once leave no gap, no overlap, and times that never fall', async () => {
  const topic = await site.topic(storage, 5);
  const rounds = 100;
  const answered = topic.partitions.map((): { base: number; texts: string[] }[] => []);
  const run = async (slot: number): Promise<void> => {
    for (let round = 0; round < rounds; round++) {
      // All four write to every partition, and to some twice in a transaction.
      const partitions = [0, 1, 2, 3, 4, round % 5].filter((partition) => (round + slot + partition) % 3 !== 0);
      const batches = partitions.sort().map((partition, index) => {
        const texts = Array.from({ length: 1 + ((round + index) % 3) }, (_, n) => `${slot}/${round}/${index}/${n}`);
        return { partition, texts };
      });
      const appended = await storage.commits.append(
        slot,
        transaction(batches.map(({ partition, texts }) => batch(topic, partition, values(...texts)))),
      );
      for (const [index, { baseOffset }] of appended.entries()) {
        const { partition, texts } = batches[index]!;
        answered[partition]!.push({ base: baseOffset, texts });
      }
    }
  };
  await Promise.all(Array.from({ length: appendSlots }, (_, slot) => run(slot)));
  for (const [partition, batches] of answered.entries()) {
    const inOrder = batches.sort((a, b) => a.base - b.base);
    const stored = await readAll(storage, topic, partition);
    expect(stored.map(({ parts }) => parts[2])).toEqual(inOrder.flatMap(({ texts }) => texts));
    expect(stored.map(({ offset }) => offset)).toEqual(Array.from(stored, (_, index) => index));
    expect(inOrder.map(({ base }) => base)).toEqual([...new Set(inOrder.map(({ base }) => base))]);
    const times = stored.map(({ appendTimeUs }) => appendTimeUs);
    expect(times).toEqual([...times].sort((a, b) => a - b));
  }
  expect(await ends(topic)).toEqual(answered.map((batches) => batches.flatMap(({ texts }) => texts).length));
});

describe('an append that must fail', () => {
  test('an append of a fenced broker, or of a broker that never owned the database, writes nothing', async () => {
    const topic = await site.topic(storage, 1);
    const append = (by: Storage) => by.commits.append(0, transaction([batch(topic, 0, values('x'))]));
    await append(storage);
    for (const other of [site.storage('one', 0), site.storage('one', 2), site.storage('other', 1)]) {
      await expect(append(other)).rejects.toMatchObject({ kind: 'FENCED' });
      await expect(other.log.ends(topic.id)).rejects.toMatchObject({ kind: 'FENCED' });
      await expect(other.log.makeSegment(topic.id, 1)).rejects.toMatchObject({ kind: 'FENCED' });
      await expect(other.log.rollSegment(topic.id, 1)).rejects.toMatchObject({ kind: 'FENCED' });
    }
    expect(await ends(topic)).toEqual([1]);
    await append(storage);
    expect(await ends(topic)).toEqual([2]);
  });

  test('an append writes nothing if the database rejects one of its batches, and the next append succeeds', async () => {
    const topic = await site.topic(storage, 2);
    const table = `millrace.record_batches_${topic.id}_1`;
    await site.client.query(`ALTER TABLE ${table} ADD CHECK ("values"[1] <> 'refused')`);
    const refused = transaction(
      [batch(topic, 0, values('good')), batch(topic, 1, values('refused'))],
      [{ topicId: topic.id, key: 'k', batch: 0, index: 0 }],
    );
    const others = [1, 2, 3].map((slot) =>
      storage.commits.append(slot, transaction([batch(topic, 0, values('other'))])),
    );
    await expect(storage.commits.append(0, refused)).rejects.toMatchObject({ kind: 'DATA_REFUSED' });
    await Promise.all(others);
    expect(await storage.commits.findKeys(topic.id, 60_000, ['k'])).toEqual(new Map());
    expect(await ends(topic)).toEqual([3, 0]);
    await storage.commits.append(0, transaction([batch(topic, 1, values('after'))]));
    expect((await readAll(storage, topic, 1)).map(({ parts }) => parts[2])).toEqual(['after']);
  });
});
