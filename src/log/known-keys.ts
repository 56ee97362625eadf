/** The place of the record that was appended with an idempotency key. */
export interface IdempotencyHit {
  readonly partition: number;
  readonly offset: number;
}

interface Known extends IdempotencyHit {
  readonly atMs: number;
}

/**
 * Caches idempotency keys of one topic. A key that is not in the cache must be looked up in the
 * database, unless the cache is complete: it then has every key within the window.
 */
export class KnownKeys {
  /** Oldest first. */
  readonly #keys = new Map<string, Known>();
  readonly #keysMax: number;
  /** The cache has every key that was stored since this time. */
  #completeSinceMs: number;

  /** `completeSinceMs` is -Infinity for a new topic, because the database has no key of it. */
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

  /** Whether a key that is not in the cache is not in the database either. */
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

  /** Clears the cache after an append with an unknown outcome, which may have stored keys. */
  forget(nowMs: number): void {
    this.#keys.clear();
    this.#completeSinceMs = nowMs;
  }
}
