import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SegmentMoved } from '../../../src/commit/store.ts';
import type { RecordPlace, TopicRow } from '../../../src/log/store.ts';
import { property } from '../../coordinator/property.ts';
import { batch, found, readAll, roll, shown, transaction, values, type Parts } from '../../log/records.ts';
import { newTopic, type Stores, type StoreSite } from '../site.ts';

const hourMs = 3_600_000;

/** The log and its appends, as every LogStore and CommitStore keeps them. */
export function describeLog(open: () => Promise<StoreSite> | StoreSite): void {
  let site: StoreSite;
  let stores: Stores;

  beforeAll(async () => {
    site = await open();
    stores = await site.own();
  });

  afterAll(() => site.close());

  const append = (topic: TopicRow, segment: number, partition: number, ...texts: string[]) =>
    stores.commits.append(0, transaction([batch({ ...topic, segment }, partition, values(...texts))]));
  const ends = async (topic: TopicRow) => (await stores.log.ends(topic.id)).map(({ endOffset }) => endOffset);
  const textsOf = async (topic: TopicRow, partition: number, from = 0) =>
    (await readAll(stores, topic, partition, from)).map(({ offset, parts }) => `${offset}:${parts[2]}`);

  describe('an appended record', () => {
    const bytes = fc.uint8Array({ maxLength: 40 }).map((array) => Buffer.from(array));
    const record: fc.Arbitrary<Parts> = fc.record({ key: bytes, headers: bytes, value: bytes, rest: bytes });

    test('a record of any bytes is read back byte for byte, even in small reads', async () => {
      const topic = await newTopic(stores, 3);
      const appended: Parts[][] = [[], [], []];
      const batches = fc.array(fc.tuple(fc.nat(2), fc.array(record, { minLength: 1, maxLength: 5 })), { minLength: 1 });
      const slots = fc.nat(stores.commits.appendSlots - 1);
      await fc.assert(
        fc.asyncProperty(batches, slots, fc.integer({ min: 1, max: 300 }), async (some, slot, max) => {
          const before = appended.map((records) => records.length);
          await stores.commits.append(
            slot,
            transaction(some.map(([partition, records]) => batch(topic, partition, records))),
          );
          for (const [partition, records] of some) appended[partition]!.push(...records);
          for (const [partition, records] of appended.entries()) {
            const from = before[partition]!;
            const back = await readAll(stores, topic, partition, from, max);
            const isAfter = back.filter(({ offset }) => offset >= from);
            expect(isAfter.map(({ parts }) => parts)).toEqual(shown(records.slice(from)));
            expect(isAfter.map(({ offset }) => offset)).toEqual(Array.from(isAfter, (_, index) => from + index));
          }
        }),
        property(60),
      );
      for (const [partition, records] of appended.entries()) {
        expect((await readAll(stores, topic, partition)).map(({ parts }) => parts)).toEqual(shown(records));
      }
    });

    test('a record keeps the parts that no other record of its batch has', async () => {
      const topic = await newTopic(stores, 1);
      const one = (name: 'key' | 'headers' | 'rest') => [
        ...values('before'),
        { value: Buffer.alloc(0), [name]: Buffer.from([0, 0xff, 0x5c, 0x7b, 0x22]) },
        ...values(''),
      ];
      const batches = [one('key'), one('headers'), one('rest'), values('')];
      await stores.commits.append(0, transaction(batches.map((records) => batch(topic, 0, records))));
      expect((await readAll(stores, topic, 0)).map(({ parts }) => parts)).toEqual(shown(batches.flat()));
    });

    test('a read may begin inside a batch, returns at least one batch, and stops at the end', async () => {
      const topic = await newTopic(stores, 1);
      const large = Buffer.alloc(1_000_000, 'large');
      for (const text of ['a', 'b', 'c']) {
        const records = [{ value: Buffer.from(text) }, { value: large }];
        await stores.commits.append(0, transaction([batch(topic, 0, records)]));
      }
      const at = (offset: number, bytesMax: number) =>
        stores.log.read({ topicId: topic.id, partition: 0, lane: 0, offset, bytesMax });
      expect((await at(3, 1)).map(({ baseOffset }) => baseOffset)).toEqual([2]);
      expect((await at(1, 1_500_000)).map(({ baseOffset }) => baseOffset)).toEqual([0, 2]);
      expect(found(await at(3, 1))[1]!.parts[2]).toBe(large.toString('latin1'));
      expect(await at(6, 1_000)).toEqual([]);
      expect(await at(1_000_000, 1_000)).toEqual([]);
    });
  });

  test('concurrent appends on every slot leave no gap and no overlap, and times never fall', async () => {
    const topic = await newTopic(stores, 5);
    const rounds = 25;
    const answered = topic.partitions.map((): { base: number; texts: string[] }[] => []);
    const run = async (slot: number): Promise<void> => {
      for (let round = 0; round < rounds; round++) {
        // All slots write to every partition, and to some twice in a transaction.
        const partitions = [0, 1, 2, 3, 4, round % 5].filter((partition) => (round + slot + partition) % 3 !== 0);
        const batches = partitions.sort().map((partition, index) => {
          const texts = Array.from({ length: 1 + ((round + index) % 3) }, (_, n) => `${slot}/${round}/${index}/${n}`);
          return { partition, texts };
        });
        const appended = await stores.commits.append(
          slot,
          transaction(batches.map(({ partition, texts }) => batch(topic, partition, values(...texts)))),
        );
        for (const [index, { baseOffset }] of appended.entries()) {
          const { partition, texts } = batches[index]!;
          answered[partition]!.push({ base: baseOffset, texts });
        }
      }
    };
    await Promise.all(Array.from({ length: stores.commits.appendSlots }, (_, slot) => run(slot)));
    for (const [partition, batches] of answered.entries()) {
      const inOrder = batches.sort((a, b) => a.base - b.base);
      const stored = await readAll(stores, topic, partition);
      expect(stored.map(({ parts }) => parts[2])).toEqual(inOrder.flatMap(({ texts }) => texts));
      expect(stored.map(({ offset }) => offset)).toEqual(Array.from(stored, (_, index) => index));
      expect(inOrder.map(({ base }) => base)).toEqual([...new Set(inOrder.map(({ base }) => base))]);
      const times = stored.map(({ appendTimeUs }) => appendTimeUs);
      expect(times).toEqual([...times].sort((a, b) => a - b));
    }
    expect(await ends(topic)).toEqual(answered.map((batches) => batches.flatMap(({ texts }) => texts).length));
  });

  describe('a log that goes on in a new segment', () => {
    test('a log has no gap and no overlap across segments, even if a partition or a segment is empty', async () => {
      const topic = await newTopic(stores, 3);
      await append(topic, 1, 0, 'a', 'b');
      expect(await roll(stores, topic.id, 1)).toBe(2);
      expect(await roll(stores, topic.id, 2)).toBe(3);
      expect((await append(topic, 3, 0, 'c'))[0]!.baseOffset).toBe(2);
      expect((await append(topic, 3, 1, 'A'))[0]!.baseOffset).toBe(0);
      expect(await roll(stores, topic.id, 3)).toBe(4);
      expect((await append(topic, 4, 0, 'd'))[0]!.baseOffset).toBe(3);
      expect(await textsOf(topic, 0)).toEqual(['0:a', '1:b', '2:c', '3:d']);
      expect(await textsOf(topic, 0, 1)).toEqual(['0:a', '1:b', '2:c', '3:d']);
      expect(await textsOf(topic, 0, 2)).toEqual(['2:c', '3:d']);
      expect(await textsOf(topic, 1)).toEqual(['0:A']);
      expect(await textsOf(topic, 2)).toEqual([]);
      expect(await ends(topic)).toEqual([4, 1, 0]);
      // The next owner has no segments in memory.
      stores = await site.own();
      expect(await textsOf(topic, 0)).toEqual(['0:a', '1:b', '2:c', '3:d']);
    });

    test('a log rolls once for many calls, and never to a segment that does not exist', async () => {
      const topic = await newTopic(stores, 1);
      expect(await stores.log.rollSegment(topic.id, 1)).toBe(1);
      await stores.log.makeSegment(topic.id, 0);
      expect(await stores.log.rollSegment(topic.id, 1)).toBe(1);
      for (const _ of ['once', 'again']) await stores.log.makeSegment(topic.id, 1);
      expect((await stores.log.segmentSize(topic.id, 1)).nextIsMade).toBe(true);
      const rolled = await Promise.all([1, 1, 1].map((current) => stores.log.rollSegment(topic.id, current)));
      expect(rolled).toEqual([2, 2, 2]);
      expect(await stores.log.rollSegment(topic.id, 0)).toBe(2);
      expect((await stores.log.segmentSize(topic.id, 2)).nextIsMade).toBe(false);
    });

    test('an append to a sealed segment fails, and nothing of its transaction is written', async () => {
      const [topic, other] = [await newTopic(stores, 1), await newTopic(stores, 1)];
      await append(topic, 1, 0, 'x');
      await roll(stores, topic.id, 1);
      await expect(append(topic, 1, 0, 'late')).rejects.toBeInstanceOf(SegmentMoved);
      const both = transaction([batch(other, 0, values('y')), batch(topic, 0, values('late'))]);
      await expect(stores.commits.append(0, both)).rejects.toBeInstanceOf(SegmentMoved);
      await append(topic, 2, 0, 'z');
      expect([await textsOf(topic, 0), await textsOf(other, 0)]).toEqual([['0:x', '1:z'], []]);
    });

    test('a segment has its age from the roll, and its bytes grow with its records', async () => {
      const topic = await newTopic(stores, 1);
      site.pass(hourMs);
      const first = await stores.log.segmentSize(topic.id, 1);
      expect(first.ageMs).toBeGreaterThanOrEqual(hourMs);
      await append(topic, 1, 0, 'x'.repeat(200_000));
      expect((await stores.log.segmentSize(topic.id, 1)).bytes).toBeGreaterThan(first.bytes);
      await stores.log.makeSegment(topic.id, 1);
      site.pass(hourMs);
      await stores.log.rollSegment(topic.id, 1);
      expect((await stores.log.segmentSize(topic.id, 2)).ageMs).toBeLessThan(10_000);
    });

    test('append times never fall, even if the clock of the database does', async () => {
      const topic = await newTopic(stores, 1);
      site.pass(hourMs);
      const [early] = await append(topic, 1, 0, 'early');
      site.pass(-hourMs);
      const [within] = await append(topic, 1, 0, 'same segment');
      await roll(stores, topic.id, 1);
      await roll(stores, topic.id, 2);
      const [after] = await append(topic, 3, 0, 'two segments later');
      expect([within!.appendTimeUs, after!.appendTimeUs]).toEqual([early!.appendTimeUs, early!.appendTimeUs]);
      const times = (await readAll(stores, topic, 0)).map(({ appendTimeUs }) => appendTimeUs);
      expect(new Set(times)).toEqual(new Set([early!.appendTimeUs]));
      site.pass(hourMs);
    });
  });

  test('the first offset of a time is the one that a scan of all records finds', async () => {
    const gap = fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 3 }));
    const step = fc.record({ records: fc.integer({ min: 1, max: 4 }), gapUs: gap, rolls: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
        const topic = await newTopic(stores, 1);
        let segment = 1;
        for (const { records, gapUs, rolls } of steps) {
          site.pass(gapUs / 1_000);
          await append(topic, segment, 0, ...Array<string>(records).fill('x'));
          if (rolls) segment = await roll(stores, topic.id, segment);
        }
        const all = await readAll(stores, topic, 0);
        const times = new Set(all.flatMap(({ appendTimeUs }) => [appendTimeUs - 1, appendTimeUs, appendTimeUs + 1]));
        for (const time of [0, ...times]) {
          const scanned = all.find(({ appendTimeUs }) => appendTimeUs >= time)?.offset ?? null;
          expect(await stores.log.offsetAtTime(topic.id, 0, 0, time)).toBe(scanned);
        }
      }),
      property(12),
    );
  });

  describe('the age of a record', () => {
    const at = (partition: number, offset: number): RecordPlace => ({ partition, lane: 0, offset });

    test('the age of a record is that of its batch, in the order of the request, even in a sealed segment', async () => {
      const topic = await newTopic(stores, 2);
      await append(topic, 1, 0, 'a', 'b', 'c');
      site.pass(2 * hourMs);
      await append(topic, 1, 0, 'd', 'e');
      await roll(stores, topic.id, 1);
      site.pass(2 * hourMs);
      await append(topic, 2, 1, 'f');
      site.pass(hourMs);
      const ages = await stores.log.appendAges(topic.id, [at(1, 0), at(0, 2), at(0, 3), at(0, 0)]);
      expect(ages.map((ms) => Math.round(ms! / hourMs))).toEqual([1, 5, 3, 5]);
      for (const ms of ages) expect(ms! % hourMs).toBeLessThan(60_000);
    });

    test('the age of a missing record is null, and not that of the record before', async () => {
      const topic = await newTopic(stores, 2);
      await append(topic, 1, 0, 'a', 'b');
      const wanted = [at(0, 2), at(0, 1), at(1, 0), at(7, 0)];
      expect(await stores.log.appendAges(topic.id, wanted)).toEqual([null, expect.any(Number), null, null]);
      expect(await stores.log.appendAges(topic.id, [])).toEqual([]);
    });

    test('ages keep their order for more records than one statement takes', async () => {
      const topic = await newTopic(stores, 1);
      await append(topic, 1, 0, 'a', 'b', 'c');
      const places = Array.from({ length: 2_500 }, (_, n) => at(0, n % 4));
      const ages = await stores.log.appendAges(topic.id, places);
      expect(ages.map((ms) => ms !== null)).toEqual(places.map(({ offset }) => offset < 3));
    });
  });

  test('a fenced broker writes nothing to the log', async () => {
    const topic = await newTopic(stores, 1);
    await append(topic, 1, 0, 'x');
    const old = stores;
    stores = await site.own();
    for (const write of [
      () => old.commits.append(0, transaction([batch(topic, 0, values('y'))])),
      () => old.log.ends(topic.id),
      () => old.log.makeSegment(topic.id, 1),
      () => old.log.rollSegment(topic.id, 1),
    ]) {
      await expect(write()).rejects.toMatchObject({ kind: 'FENCED' });
    }
    expect(await ends(topic)).toEqual([1]);
    await append(topic, 1, 0, 'z');
    expect(await textsOf(topic, 0)).toEqual(['0:x', '1:z']);
  });
}
