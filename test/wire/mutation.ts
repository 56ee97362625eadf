import fc from 'fast-check';

/** Damage to a message: positions are fractions, so that one applies to a message of any length. */
export type Mutation =
  | { readonly type: 'flip'; readonly at: number; readonly bit: number }
  | { readonly type: 'set'; readonly at: number; readonly byte: number }
  | { readonly type: 'truncate'; readonly at: number }
  | { readonly type: 'insert'; readonly at: number; readonly bytes: Uint8Array }
  | { readonly type: 'remove'; readonly at: number; readonly count: number }
  | { readonly type: 'splice'; readonly at: number; readonly from: number; readonly count: number };

const fraction = fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true });
/**
 * Bytes that mean something in this format: tags of all wire types, borders of varints, parts of
 * UTF-8.
 */
const tellingByte = fc.constantFrom(
  0x00,
  0x0a,
  0x0b,
  0x0c,
  0x0d,
  0x08,
  0x09,
  0x12,
  0x13,
  0x18,
  0x1a,
  0x20,
  0x22,
  0x28,
  0x7f,
  0x80,
  0xc0,
  0xed,
  0xf5,
  0xff,
);

export const mutations: fc.Arbitrary<Mutation> = fc.oneof(
  fc.record({ type: fc.constant('flip' as const), at: fraction, bit: fc.nat(7) }),
  fc.record({ type: fc.constant('set' as const), at: fraction, byte: tellingByte }),
  fc.record({ type: fc.constant('truncate' as const), at: fraction }),
  fc.record({ type: fc.constant('insert' as const), at: fraction, bytes: fc.uint8Array({ maxLength: 4 }) }),
  fc.record({ type: fc.constant('remove' as const), at: fraction, count: fc.nat(8) }),
  fc.record({ type: fc.constant('splice' as const), at: fraction, from: fraction, count: fc.nat(40) }),
);

export function mutated(original: Buffer, mutation: Mutation): Buffer {
  const at = Math.floor(mutation.at * original.length);
  const before = original.subarray(0, at);
  switch (mutation.type) {
    case 'flip':
      return replaced(original, at, (original[at] ?? 0) ^ (1 << mutation.bit));
    case 'set':
      return replaced(original, at, mutation.byte);
    case 'truncate':
      return before;
    case 'insert':
      return Buffer.concat([before, mutation.bytes, original.subarray(at)]);
    case 'remove':
      return Buffer.concat([before, original.subarray(at + mutation.count)]);
    case 'splice': {
      const from = Math.floor(mutation.from * original.length);
      return Buffer.concat([before, original.subarray(from, from + mutation.count), original.subarray(at)]);
    }
  }
}

function replaced(original: Buffer, at: number, byte: number): Buffer {
  const copy = Buffer.from(original);
  if (at < copy.length) copy[at] = byte;
  return copy;
}
