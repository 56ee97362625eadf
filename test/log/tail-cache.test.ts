import { beforeEach, describe, expect, test, vi } from 'vitest';
import { endOffset, type BatchCodec, type StoredBatch } from '../../src/log/batch.ts';
import { TailCache, type Tail } from '../../src/log/tail-cache.ts';
import { codec, records, texts } from './scene.ts';
import { smallAccount } from '../account/accounts.ts';

const encode = vi.fn<BatchCodec['encode']>((address, batches) => codec.encode(address, batches));
const join = vi.fn<BatchCodec['join']>((batches) => codec.join(batches));
const counting: BatchCodec = { ...codec, encode, join };

beforeEach(() => {
  encode.mockClear();
  join.mockClear();
});

const cacheOf = (bytesMax = 100_000, joinBytesMax = 1_000): TailCache =>
  new TailCache({ codec: counting, account: smallAccount({ tail: bytesMax }), joinBytesMax });
const tailOf = (cache: TailCache, partition = 0): Tail =>
  cache.tailOf({ topicId: 1, topicName: 'orders', partition, lane: 0 });

function stored(baseOffset: number, values: readonly string[]): { batch: StoredBatch; bytes: number } {
  const set = records(...values);
  const indexes = Int32Array.from(values, (_, i) => i);
  return { batch: { baseOffset, appendTimeUs: 1, records: [{ set, indexes }] }, bytes: set.buffer.length - 1 };
}

function add(cache: TailCache, tail: Tail, baseOffset: number, ...values: readonly string[]): void {
  const { batch, bytes } = stored(baseOffset, values);
  cache.add(tail, batch, values.length, bytes);
}

describe('one encoding for all groups', () => {
  test('readers of one offset share one buffer, not equal copies', () => {
    const cache = cacheOf();
    const tail = tailOf(cache);
    add(cache, tail, 0, 'a', 'b');
    const first = tail.find(0)!;
    expect(tail.find(0)!.bytes).toBe(first.bytes);
    expect(tail.find(1)!.bytes).toBe(first.bytes);
    cache.encodeAll();
    expect(tail.find(0)!.bytes).toBe(first.bytes);
    expect(encode).toHaveBeenCalledTimes(1);
  });

  test('the small batches ahead of a late reader are joined once, for all later readers too', () => {
    const cache = cacheOf();
    const tail = tailOf(cache);
    for (let offset = 0; offset < 10; offset += 1) add(cache, tail, offset, `v${offset}`);
    const joined = tail.find(0)!;
    expect(texts(joined)).toEqual(Array.from({ length: 10 }, (_, i) => `${i}=v${i}`));
    expect(tail.find(0)!.bytes).toBe(joined.bytes);
    expect(tail.find(7)!.bytes).toBe(joined.bytes);
    expect(encode).toHaveBeenCalledTimes(1);
  });

  test('a join of encoded and raw batches does not encode the encoded ones again', () => {
    const cache = cacheOf();
    const tail = tailOf(cache);
    for (const [offset, value] of ['a', 'b', 'c'].entries()) add(cache, tail, offset, value);
    // A reader that keeps up has read the last batch alone.
    expect(texts(tail.find(2)!)).toEqual(['2=c']);
    const joined = tail.find(0)!;
    expect(texts(joined)).toEqual(['0=a', '1=b', '2=c']);
    expect(join).toHaveBeenCalledTimes(1);
    expect(encode).toHaveBeenCalledTimes(3);
    add(cache, tail, 3, 'd');
    expect(texts(tail.find(3)!)).toEqual(['3=d']);
  });

  test('a join ends at its maximum size, and a large batch is not copied into one', () => {
    const cache = cacheOf(100_000, 1_000);
    const tail = tailOf(cache);
    for (let offset = 0; offset < 9; offset += 1) add(cache, tail, offset, 'x'.repeat(offset === 4 ? 900 : 300));
    expect(endOffset(tail.find(0)!)).toBe(3);
    expect(endOffset(tail.find(3)!)).toBe(4);
    expect(tail.find(4)!).toMatchObject({ baseOffset: 4, count: 1 });
    expect(endOffset(tail.find(5)!)).toBe(8);
  });
});

describe('memory', () => {
  test('one limit bounds the tails of all logs, and the oldest batch of all is evicted first', () => {
    const cache = cacheOf(1_000);
    const tails = [tailOf(cache, 0), tailOf(cache, 1)];
    const value = 'x'.repeat(200);
    add(cache, tails[0]!, 0, value);
    for (let offset = 0; offset < 4; offset += 1) add(cache, tails[1]!, offset, value);
    expect(tails[0]!.find(0)).not.toBeNull();
    add(cache, tails[0]!, 1, value);
    cache.encodeAll();
    expect(cache.bytes).toBeLessThanOrEqual(1_000);
    expect([tails[0]!.find(0), tails[1]!.find(0)]).toEqual([null, null]);
    expect([tails[0]!.find(1), tails[1]!.find(3)].map((batch) => batch?.baseOffset)).toEqual([1, 3]);
  });

  test('a batch that is larger than the whole cache is not kept', () => {
    const cache = cacheOf(100);
    const tail = tailOf(cache);
    add(cache, tail, 0, 'x'.repeat(200));
    expect(cache.bytes).toBe(0);
    expect(tail.find(0)).toBeNull();
  });

  test('the cache stays within its limit when batches grow by their encoding', () => {
    const cache = cacheOf(1_000);
    const tail = tailOf(cache);
    for (let offset = 0; offset < 900; offset += 1) add(cache, tail, offset, 'x');
    cache.encodeAll();
    expect(cache.bytes).toBeLessThanOrEqual(1_000);
    expect(tail.find(899)).not.toBeNull();
  });

  test('the byte count of the cache is exact, and returns to zero when all batches are dropped', () => {
    const cache = cacheOf();
    const tail = tailOf(cache);
    for (let offset = 0; offset < 300; offset += 1) {
      add(cache, tail, offset, 'x'.repeat(offset % 50));
      if (offset % 3 === 0) tail.find(Math.floor(offset / 2));
      if (offset % 7 === 0) cache.encodeAll();
      if (offset % 11 === 0) tail.dropBelow(Math.floor(offset / 3));
    }
    tail.clear();
    expect(cache.bytes).toBe(0);
  });

  test('the buffer of a request is freed soon even if its batch has no reader', async () => {
    // The counting codec is left out, because its mock keeps its arguments in memory.
    const cache = new TailCache({ codec, account: smallAccount({ tail: 1_000 }), joinBytesMax: 100 });
    const tail = tailOf(cache);
    const addAndWatch = (): WeakRef<object> => {
      const { batch, bytes } = stored(0, ['x', 'y']);
      cache.add(tail, batch, 2, bytes);
      return new WeakRef(batch.records[0]!.set);
    };
    const request = addAndWatch();
    cache.encodeAll();
    // A WeakRef keeps its object alive until the current turn of the event loop ends.
    await new Promise((resume) => setImmediate(resume));
    globalThis.gc!();
    expect(request.deref()).toBeUndefined();
    expect(texts(tail.find(0)!)).toEqual(['0=x', '1=y']);
  });

  test.each([
    ['older ones were joined', (tail: Tail) => void tail.find(0)],
    ['older ones were dropped', (tail: Tail) => void tail.dropBelow(250)],
  ])('a new batch is encoded soon, and frees its request, after %s', (_, change) => {
    const cache = cacheOf(1_000_000, 10_000);
    const tail = tailOf(cache);
    for (let offset = 0; offset < 300; offset += 1) add(cache, tail, offset, 'x');
    cache.encodeAll();
    change(tail);
    encode.mockClear();
    add(cache, tail, 300, 'x');
    cache.encodeAll();
    expect(encode).toHaveBeenCalledTimes(1);
  });

  test('an evicted batch is freed at once, not only subtracted from the count', async () => {
    const cache = new TailCache({ codec, account: smallAccount({ tail: 1_000 }), joinBytesMax: 100 });
    const tail = tailOf(cache);
    const addAndWatch = (): WeakRef<object> => {
      add(cache, tail, 0, 'x'.repeat(500));
      return new WeakRef(tail.find(0)!);
    };
    const dropped = addAndWatch();
    add(cache, tail, 1, 'x'.repeat(600));
    expect(tail.find(0)).toBeNull();
    await new Promise((resume) => setImmediate(resume));
    globalThis.gc!();
    expect(dropped.deref()).toBeUndefined();
  });

  test('the heap does not grow with readers that come and go', () => {
    const cache = new TailCache({ codec, account: smallAccount({ tail: 100_000 }), joinBytesMax: 1_000 });
    const tail = tailOf(cache);
    const { batch } = stored(0, ['x']);
    const churn = (from: number): void => {
      // Every other record is missing, as if it came without a listener, so each batch clears the
      // tail.
      for (let i = 0; i < 200_000; i += 1) cache.add(tail, { ...batch, baseOffset: from + 2 * i }, 1, 1);
      cache.encodeAll();
      globalThis.gc!();
    };
    churn(0);
    const before = process.memoryUsage().heapUsed;
    churn(1_000_000);
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(2_000_000);
    expect(tail.find(1_399_998)).not.toBeNull();
  });
});

test('a batch behind a gap is not served as if it followed the last one', () => {
  const cache = cacheOf();
  const tail = tailOf(cache);
  add(cache, tail, 0, 'a', 'b');
  add(cache, tail, 5, 'f');
  expect([0, 1, 2, 4, 6].map((offset) => tail.find(offset))).toEqual([null, null, null, null, null]);
  expect(texts(tail.find(5)!)).toEqual(['5=f']);
});

test('an offset inside the oldest remaining batch is found', () => {
  const cache = cacheOf();
  const tail = tailOf(cache);
  for (let offset = 0; offset < 500; offset += 2) add(cache, tail, offset, 'x', 'y');
  tail.dropBelow(401);
  expect(tail.find(399)).toBeNull();
  // The batch with offset 400 ends behind 401, so it stays whole.
  expect(tail.find(401)?.baseOffset).toBe(400);
  expect(tail.find(499)?.baseOffset).toBe(498);
});
