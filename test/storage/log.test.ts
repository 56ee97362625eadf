import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SegmentMoved } from '../../src/commit/store.ts';
import type { TopicRow } from '../../src/log/store.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { property } from '../coordinator/property.ts';
import {
  appendSlots,
  batch,
  found,
  LogSite,
  readAll,
  roll,
  shown,
  transaction,
  values,
  type Parts,
} from './log-site.ts';

let site: LogSite;
let storage: Storage;

beforeAll(async () => {
  site = await LogSite.open();
  storage = await site.own('one', 1);
});

afterAll(() => site.close());

const ends = async (topic: TopicRow) => (await storage.log.ends(topic.id)).map(({ endOffset }) => endOffset);

describe('what was appended', () => {
  const bytes = fc.uint8Array({ maxLength: 40 }).map((array) => Buffer.from(array));
  const record: fc.Arbitrary<Parts> = fc.record({ key: bytes, headers: bytes, value: bytes, rest: bytes });

  test('comes back byte for byte, whatever the bytes and in however small reads', async () => {
    const topic = await site.topic(storage, 3);
    const appended: Parts[][] = [[], [], []];
    const batches = fc.array(fc.tuple(fc.nat(2), fc.array(record, { minLength: 1, maxLength: 5 })), { minLength: 1 });
    await fc.assert(
      fc.asyncProperty(batches, fc.nat(appendSlots - 1), fc.integer({ min: 1, max: 300 }), async (some, slot, max) => {
        const before = appended.map((records) => records.length);
        await storage.commits.append(
          slot,
          transaction(some.map(([partition, records]) => batch(topic, partition, records))),
        );
        for (const [partition, records] of some) appended[partition]!.push(...records);
        for (const [partition, records] of appended.entries()) {
          const from = before[partition]!;
          const back = await readAll(storage, topic, partition, from, max);
          expect(back.map(({ parts }) => parts)).toEqual(shown(records.slice(from)));
          expect(back.map(({ offset }) => offset)).toEqual(Array.from(back, (_, index) => from + index));
        }
      }),
      property(60),
    );
    for (const [partition, records] of appended.entries()) {
      expect((await readAll(storage, topic, partition)).map(({ parts }) => parts)).toEqual(shown(records));
    }
  });

  test('comes back with parts that no other record of its batch has', async () => {
    const topic = await site.topic(storage, 1);
    const one = (name: 'key' | 'headers' | 'rest') => [
      ...values('before'),
      { value: Buffer.alloc(0), [name]: Buffer.from([0, 0xff, 0x5c, 0x7b, 0x22]) },
      ...values(''),
    ];
    const batches = [one('key'), one('headers'), one('rest'), values('')];
    await storage.commits.append(0, transaction(batches.map((records) => batch(topic, 0, records))));
    expect((await readAll(storage, topic, 0)).map(({ parts }) => parts)).toEqual(shown(batches.flat()));
  });

  test('is read from the middle of a batch, in pieces of at least one batch, and not beyond the end', async () => {
    const topic = await site.topic(storage, 1);
    const large = Buffer.alloc(1_000_000, 'large');
    for (const text of ['a', 'b', 'c']) {
      const records = [{ value: Buffer.from(text) }, { value: large }];
      await storage.commits.append(0, transaction([batch(topic, 0, records)]));
    }
    const at = (offset: number, bytesMax: number) =>
      storage.log.read({ topicId: topic.id, partition: 0, lane: 0, offset, bytesMax });
    expect((await at(3, 1)).map(({ baseOffset }) => baseOffset)).toEqual([2]);
    expect((await at(1, 1_500_000)).map(({ baseOffset }) => baseOffset)).toEqual([0, 2]);
    expect(found(await at(3, 1))[1]!.parts[2]).toBe(large.toString('latin1'));
    expect(await at(6, 1_000)).toEqual([]);
    expect(await at(1_000_000, 1_000)).toEqual([]);
  });
});

test('four connections that append at once leave no gap, no overlap, and times that never fall', async () => {
  const topic = await site.topic(storage, 5);
  const rounds = 100;
  const answered = topic.partitions.map((): { base: number; texts: string[] }[] => []);
  const run = async (slot: number): Promise<void> => {
    for (let round = 0; round < rounds; round++) {
      // Every partition is written by all four, some of them twice in a transaction.
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

describe('an append that may not be', () => {
  test('is not written by a broker that was taken over from, nor under a name that never owned', async () => {
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

  test('writes nothing at all if the database refuses one of its batches, and the next one is written', async () => {
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

  test('is not written to a segment that is sealed, nor to a topic that is gone', async () => {
    const topic = await site.topic(storage, 1);
    const append = (to: TopicRow) => storage.commits.append(0, transaction([batch(to, 0, values('x'))]));
    await append(topic);
    expect(await roll(storage, topic.id, 1)).toBe(2);
    await expect(append(topic)).rejects.toBeInstanceOf(SegmentMoved);
    await append({ ...topic, segment: 2 });
    expect(await ends(topic)).toEqual([2]);
    await storage.topics.deleteTopic(topic.id);
    await expect(append({ ...topic, segment: 2 })).rejects.toBeInstanceOf(SegmentMoved);
    await expect(roll(storage, topic.id, 2)).rejects.toMatchObject({ reason: 'TOPIC_NOT_FOUND' });
    expect(await storage.log.ends(topic.id)).toEqual([]);
  });
});
