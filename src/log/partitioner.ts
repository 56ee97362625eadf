/**
 * The partition of a key is its MurmurHash3 (x86, 32 bits, seed 0, unsigned) modulo the number of
 * partitions. The function is part of the contract, because clients may compute it too.
 * docs/partitioner.md has test vectors.
 */

/** The partition of the key in `buffer` from `start` to `end`. */
export function partitionOf(buffer: Uint8Array, start: number, end: number, partitions: number): number {
  return murmurHash3(buffer, start, end) % partitions;
}

/** `partitionOf` for a key as text, such as the idempotency key of a record without a key. */
export function partitionOfText(key: string, partitions: number): number {
  const bytes = Buffer.from(key);
  return partitionOf(bytes, 0, bytes.length, partitions);
}

/** @returns the hash, from 0 to 2^32 - 1. */
function murmurHash3(buffer: Uint8Array, start: number, end: number): number {
  const tailStart = end - ((end - start) & 3);
  let hash = 0;
  for (let at = start; at < tailStart; at += 4) {
    const block = buffer[at]! | (buffer[at + 1]! << 8) | (buffer[at + 2]! << 16) | (buffer[at + 3]! << 24);
    hash ^= scramble(block);
    hash = (hash << 13) | (hash >>> 19);
    hash = (Math.imul(hash, 5) + 0xe654_6b64) | 0;
  }
  let tail = 0;
  for (let at = end - 1; at >= tailStart; at -= 1) tail = (tail << 8) | buffer[at]!;
  if (tailStart < end) hash ^= scramble(tail);
  return finish(hash ^ (end - start));
}

function scramble(block: number): number {
  const mixed = Math.imul(block, 0xcc9e_2d51);
  return Math.imul((mixed << 15) | (mixed >>> 17), 0x1b87_3593);
}

/** Makes every bit of the hash depend on every bit of the key. */
function finish(hash: number): number {
  let mixed = Math.imul(hash ^ (hash >>> 16), 0x85eb_ca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2_ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}
