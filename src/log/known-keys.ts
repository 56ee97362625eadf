/** Where the record with an idempotency key is. */
export interface IdempotencyHit {
  readonly partition: number;
  readonly offset: number;
}

interface Known extends IdempotencyHit {
  readonly atMs: number;
}

/**
 * Idempotency keys of one topic in memory: a cache of what the database knows. What is not here must be asked for there, unless the
 * cache is known to hold everything that is within the window.
 */
export class KnownKeys {
  /** In the order of their age. */
  readonly #keys = new Map<string, Known>();
  readonly #keysMax: number;
  /** Every key that was stored since this time is here. */
  #completeSinceMs: number;

  /** `completeSinceMs`: from when on it has seen every key; -Infinity for a topic that is new. */
  constructor(keysMax: number, completeSinceMs: number) {
    this.#keysMax = keysMax;
    this.#completeSinceMs = completeSinceMs;
  }

  get size(): number {
    return this.#keys.size;
  }

  find(key: string, windowMs: number, nowMs: number): IdempotencyHit | null {
    const known = this.#keys.get(key);
    return known !== undefined && nowMs - known.atMs < windowMs ? known : null;
  }

  /** Whether a key that is not here is not in the database either. */
  isComplete(windowMs: number, nowMs: number): boolean {
    return nowMs - this.#completeSinceMs >= windowMs;
  }

  add(key: string, hit: IdempotencyHit, nowMs: number): void {
    this.#keys.delete(key);
    this.#keys.set(key, { partition: hit.partition, offset: hit.offset, atMs: nowMs });
    if (this.#keys.size <= this.#keysMax) return;
    const [oldest] = this.#keys;
    if (oldest === undefined) return;
    this.#keys.delete(oldest[0]);
    this.#completeSinceMs = Math.max(this.#completeSinceMs, oldest[1].atMs);
  }

  /** Keys may have been stored that nobody told us of. */
  forget(nowMs: number): void {
    this.#keys.clear();
    this.#completeSinceMs = nowMs;
  }
}
