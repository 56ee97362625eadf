import type { Account } from '../../account/account.ts';
import { CacheRoom } from '../../log/cache-room.ts';

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
  readonly #room: CacheRoom;
  /** In the order of their last use. */
  readonly #kept = new Map<Keeper, number>();

  constructor(account: Account) {
    this.#room = new CacheRoom(account, 'feeds', () => this.#evictOldest());
  }

  get bytes(): number {
    return this.#room.bytes;
  }

  /** Counts the batch that the feed keeps now, instead of the one that it kept before. */
  keep(feed: Keeper, bytes: number): void {
    this.drop(feed);
    this.#kept.set(feed, bytes);
    this.#room.add(1, bytes);
    this.#room.trim();
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
    const bytes = this.#kept.get(feed);
    if (bytes === undefined) return;
    this.#kept.delete(feed);
    this.#room.add(-1, -bytes);
  }

  #evictOldest(): boolean {
    const [oldest] = this.#kept.keys();
    if (oldest === undefined || this.#kept.size === 1) return false;
    this.drop(oldest);
    oldest.evict();
    return true;
  }
}
