import type { Kind } from '../account/kind.ts';
import { textBytes, weights } from '../account/weights.ts';

/** The place of the record that was appended with an idempotency key. */
export interface IdempotencyHit {
  readonly partition: number;
  readonly offset: number;
}

interface Known extends IdempotencyHit {
  readonly atMs: number;
}

/** An eviction frees this share of the limit at once, because it compares all topics. */
const evictedShare = 1 / 16;

/**
 * The idempotency keys that all topics have in memory, within the account. The topic with the most
 * bytes loses its oldest keys first, so a topic with many keys does not drive out those of others.
 */
export class KeyMemory {
  readonly #kind: Kind;
  readonly #topics = new Set<KnownKeys>();

  constructor(kind: Kind) {
    this.#kind = kind;
    kind.onShort((bytes) => {
      this.#evict(Math.max(bytes, evictedShare * kind.bytesMax));
    });
  }

  /** `completeSinceMs` is -Infinity for a new topic, because the database has no key of it. */
  ofTopic(completeSinceMs: number): KnownKeys {
    const keys = new KnownKeys(this.#kind, completeSinceMs, () => this.#topics.delete(keys));
    this.#topics.add(keys);
    return keys;
  }

  #evict(bytes: number): void {
    for (let left = bytes; left > 0;) {
      let largest: KnownKeys | null = null;
      for (const keys of this.#topics) if (keys.bytes > (largest?.bytes ?? 0)) largest = keys;
      if (largest === null) return;
      left -= largest.dropOldest(left);
    }
  }
}

/**
 * Caches idempotency keys of one topic. A key that is not in the cache must be looked up in the
 * database, unless the cache is complete: it then has every key within the window.
 */
export class KnownKeys {
  readonly #kind: Kind;
  readonly #onClose: () => void;
  /** Oldest first. */
  readonly #keys = new Map<string, Known>();
  #bytes = 0;
  /** The cache has every key that was stored since this time. */
  #completeSinceMs: number;
  #closed = false;

  constructor(kind: Kind, completeSinceMs: number, onClose: () => void) {
    this.#kind = kind;
    this.#completeSinceMs = completeSinceMs;
    this.#onClose = onClose;
  }

  get size(): number {
    return this.#keys.size;
  }

  get bytes(): number {
    return this.#bytes;
  }

  find(key: string, windowMs: number, nowMs: number): IdempotencyHit | null {
    const known = this.#keys.get(key);
    return known !== undefined && nowMs - known.atMs < windowMs ? known : null;
  }

  /** Whether a key that is not in the cache is not in the database either. */
  isComplete(windowMs: number, nowMs: number): boolean {
    return nowMs - this.#completeSinceMs >= windowMs;
  }

  /** Without room, all keys of the topic are looked up until the window of this one is over. */
  add(key: string, hit: IdempotencyHit, nowMs: number): void {
    if (this.#closed) return;
    this.#drop(key);
    const bytes = bytesOf(key);
    if (this.#kind.take(bytes)) {
      this.#bytes += bytes;
      this.#keys.set(key, { partition: hit.partition, offset: hit.offset, atMs: nowMs });
    } else {
      this.#missesKeyOf(nowMs);
    }
  }

  /** Drops the oldest keys until so many bytes are free, or none is left. @returns how many are. */
  dropOldest(bytes: number): number {
    let freed = 0;
    for (const [key, { atMs }] of this.#keys) {
      if (freed >= bytes) break;
      freed += this.#drop(key);
      this.#missesKeyOf(atMs);
    }
    return freed;
  }

  /** Clears the cache after an append with an unknown outcome, which may have stored keys. */
  forget(nowMs: number): void {
    this.#clear();
    this.#completeSinceMs = nowMs;
  }

  /** The topic is gone. */
  close(): void {
    this.#closed = true;
    this.#clear();
    this.#onClose();
  }

  #missesKeyOf(atMs: number): void {
    this.#completeSinceMs = Math.max(this.#completeSinceMs, atMs);
  }

  #drop(key: string): number {
    if (!this.#keys.delete(key)) return 0;
    const bytes = bytesOf(key);
    this.#bytes -= bytes;
    this.#kind.give(bytes);
    return bytes;
  }

  #clear(): void {
    this.#keys.clear();
    this.#kind.give(this.#bytes);
    this.#bytes = 0;
  }
}

function bytesOf(key: string): number {
  return weights.key + textBytes(key);
}
