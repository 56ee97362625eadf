import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { partitionOf, partitionOfText } from '../../src/log/partitioner.ts';

/**
 * Published vectors of MurmurHash3_x86_32 with seed 0: the input as hex, and the hash. They cover
 * every tail length.
 */
const publicVectors: readonly (readonly [string, number])[] = [
  ['', 0x00000000],
  ['00', 0x514e28b7],
  ['0000', 0x30f4c306],
  ['000000', 0x85f0b427],
  ['00000000', 0x2362f9de],
  ['ffffffff', 0x76293b50],
  ['21', 0x72661cf4],
  ['2143', 0xa0f7b07a],
  ['214365', 0x7e4a8634],
  ['21436587', 0xf55b516b],
  [Buffer.from('The quick brown fox jumps over the lazy dog').toString('hex'), 0x2e4ff723],
];

/** So many partitions that the partition of a key is its hash. */
const partitionsOfAllHashes = 2 ** 32;

const documented = readFileSync(new URL('../../docs/partitioner.md', import.meta.url), 'utf8')
  .split('\n')
  .map((line) => /^\| `(.+)` \| (\d+) \| ([0-9a-f]{8}) \| (\d) \|$/.exec(line))
  .filter((row) => row !== null)
  .map(([, key, hash, hex, partition]) => ({ key: key!, hash: Number(hash), hex: hex!, partition: Number(partition) }));

describe('another implementation would send a key to another partition, and the key would lose its order', () => {
  test.each(publicVectors)('the hash of the bytes %s is the published one', (hex, hash) => {
    const bytes = Buffer.from(hex, 'hex');
    expect(partitionOf(bytes, 0, bytes.length, partitionsOfAllHashes)).toBe(hash);
  });

  test('docs/partitioner.md has test vectors', () => {
    expect(documented.length).toBeGreaterThanOrEqual(13);
  });

  test.each(documented)(
    'the documented hash and partition of the key $key are right',
    ({ key, hash, hex, partition }) => {
      const bytes = Buffer.from(key);
      expect(partitionOf(bytes, 0, bytes.length, partitionsOfAllHashes)).toBe(hash);
      expect(hash.toString(16).padStart(8, '0')).toBe(hex);
      expect(partitionOf(bytes, 0, bytes.length, 6)).toBe(partition);
      expect(partitionOfText(key, 6)).toBe(partition);
    },
  );

  test('the bytes around a key in its buffer do not change its hash', () => {
    for (const { key, hash } of documented) {
      const padded = Buffer.from(`\u00ff${key}zzz`);
      expect(partitionOf(padded, 2, padded.length - 3, partitionsOfAllHashes)).toBe(hash);
    }
  });
});

test('sequential keys spread evenly over all partitions', () => {
  const counts = new Array<number>(6).fill(0);
  for (let i = 0; i < 6_000; i += 1) counts[partitionOfText(`order-${i}`, 6)]! += 1;
  for (const count of counts) expect(count).toBeGreaterThan(850);
});
