/** A feed that keeps a batch, and can read it again. */
interface Keeper {
  evict(): void;
}

/**
 * Limits the memory of the batches that feeds have read from the database and not delivered yet. A
 * feed keeps one batch at most, but there may be 1,000,000 feeds. Beyond the limit the least
 * recently used batches go, and their feeds read them again later. The newest batch stays, however
 * large, because otherwise it could never be delivered.
 */
export class FeedMemory {
  readonly #bytesMax: number;
  /** In the order of their last use. */
  readonly #kept = new Map<Keeper, number>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Counts the batch that the feed keeps now, instead of the one that it kept before. */
  keep(feed: Keeper, bytes: number): void {
    this.drop(feed);
    this.#kept.set(feed, bytes);
    this.#bytes += bytes;
    for (const [oldest] of this.#kept) {
      if (this.#bytes <= this.#bytesMax || oldest === feed) break;
      this.drop(oldest);
      oldest.evict();
    }
  }

  /** Marks the batch of the feed as used, so that others go first. */
  used(feed: Keeper): void {
    const bytes = this.#kept.get(feed);
    if (bytes === undefined) return;
    this.#kept.delete(feed);
    this.#kept.set(feed, bytes);
  }

  /** Forgets the batch of the feed. */
  drop(feed: Keeper): void {
    this.#bytes -= this.#kept.get(feed) ?? 0;
    this.#kept.delete(feed);
  }
}
