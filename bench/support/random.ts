/** mulberry32, uniform in [0, 1). The same seed gives the same load on every machine. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** `count` values of `bytes` random bytes each. Compression cannot make them smaller. */
export function randomValues(seed: number, count: number, bytes: number): Buffer[] {
  const random = seededRandom(seed);
  return Array.from({ length: count }, () => {
    const value = Buffer.allocUnsafe(bytes);
    for (let i = 0; i < bytes; i++) value[i] = random() * 256;
    return value;
  });
}
