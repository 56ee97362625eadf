import type { Account } from '../account/account.ts';
import type { Kind } from '../account/kind.ts';
import { weights } from '../account/weights.ts';

/**
 * What a cache of batches takes in memory: their bytes, outside of the heap, and their objects on
 * it, which weigh more than the bytes where batches are small. Beyond the limit of either the
 * oldest batches go.
 */
export class CacheRoom {
  readonly #bytes: Kind;
  readonly #objects: Kind;
  readonly #evictOldest: () => boolean;

  /** `evictOldest` returns false if it has evicted nothing. */
  constructor(account: Account, name: 'tail' | 'reads' | 'feeds', evictOldest: () => boolean) {
    this.#bytes = account.kind(name);
    this.#objects = account.kind('batches');
    this.#evictOldest = evictOldest;
    for (const kind of [this.#bytes, this.#objects]) {
      kind.onShort((bytes) => {
        this.#free(kind, bytes);
      }, name);
    }
  }

  /** The bytes of the batches of this cache. */
  get bytes(): number {
    return this.#bytes.bytes;
  }

  /** Counts so many more batches and bytes; negative: fewer. Evicts nothing. */
  add(batches: number, bytes: number): void {
    change(this.#objects, batches * weights.batch);
    change(this.#bytes, bytes);
  }

  /** Evicts what is beyond the limits. */
  trim(): void {
    while (this.#bytes.excess > 0 || this.#objects.excess > 0) if (!this.#evictOldest()) return;
  }

  #free(kind: Kind, bytes: number): void {
    const until = kind.bytes - bytes;
    while (kind.bytes > until) if (!this.#evictOldest()) return;
  }
}

function change(kind: Kind, by: number): void {
  if (by >= 0) kind.force(by);
  else kind.give(-by);
}
