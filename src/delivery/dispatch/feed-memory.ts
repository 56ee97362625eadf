import type { Kind } from '../../account/kind.ts';

/** What keeps a batch for its next delivery, and can do without it. */
interface Keeper {
  evict(): void;
}

/**
 * What all feeds keep together: batches that were read from the database and have not gone out. A feed keeps one at most, but there
 * may be 1,000,000 feeds. Beyond the limit those go that were not used for longest, and are read again when they are needed.
 * The last one stays, however large, or nothing could ever be delivered.
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

  /** The feed keeps a batch of so many bytes, and none of before. */
  keep(feed: Keeper, bytes: number): void {
    this.drop(feed);
    this.#kept.set(feed, bytes);
    this.#kind.force(bytes);
    this.#evict(this.#kind.excess);
  }

  /** The batch of the feed is of use now: others go first. */
  used(feed: Keeper): void {
    const bytes = this.#kept.get(feed);
    if (bytes === undefined) return;
    this.#kept.delete(feed);
    this.#kept.set(feed, bytes);
  }

  /** The feed keeps nothing any more. */
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
