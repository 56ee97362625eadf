/**
 * Varints of non-negative integers up to 2^53 - 1, as plain numbers: a BigInt costs an allocation
 * for each, and no offset or time in microseconds comes near the end of that range.
 */

/** Bytes that `value` takes. */
export function varintBytes(value: number): number {
  if (value < 0x80) return 1;
  if (value < 0x4000) return 2;
  if (value < 0x20_0000) return 3;
  if (value < 0x1000_0000) return 4;
  if (value < 0x8_0000_0000) return 5;
  if (value < 0x400_0000_0000) return 6;
  if (value < 0x2_0000_0000_0000) return 7;
  return 8;
}

/** @returns the position behind what was written. */
export function writeVarint(target: Uint8Array, at: number, value: number): number {
  let rest = value;
  // Bit operators see only 32 bits, so a division takes the upper part.
  while (rest > 0x7fff_ffff) {
    target[at++] = (rest & 0x7f) | 0x80;
    rest = Math.floor(rest / 128);
  }
  while (rest > 0x7f) {
    target[at++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  target[at++] = rest;
  return at;
}
