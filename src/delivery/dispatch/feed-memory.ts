import type { Kind } from '../../account/kind.ts';

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
  readonly #kind: Kind;
  /** In the order of their last use. */
  readonly #kept = new Map<Keeper, number>();

  constructor(kind: Kind) {
    this.#kind = kind;
    kind.onShort((bytes) => {
      this.#evict(bytes);
    });
  }

  get bytes(): number {
    return this.#kind.bytes;
  }

  /** Counts the batch that the feed keeps now, instead of the one that it kept before. */
  keep(feed: Keeper, bytes: number): void {
    this.drop(feed);
    this.#kept.set(feed, bytes);
    this.#kind.force(bytes);
    this.#evict(this.#kind.excess);
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
    this.#kind.give(this.#kept.get(feed) ?? 0);
    this.#kept.delete(feed);
  }

  #evict(bytes: number): void {
    const until = this.bytes - bytes;
    for (const [oldest] of this.#kept) {
      if (this.bytes <= until || this.#kept.size === 1) return;
      this.drop(oldest);
      oldest.evict();
    }
  }
}
