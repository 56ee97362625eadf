import type { Account } from '../account/account.ts';
import {
  batchBytes,
  endOffset,
  sliceBytes,
  type BatchCodec,
  type EncodedBatch,
  type LogAddress,
  type StoredBatch,
} from './batch.ts';
import { CacheRoom } from './cache-room.ts';
import { Once } from '../time/once.ts';
import type { LogStore } from './store.ts';
import { present } from '../errors/present.ts';

interface ReaderOptions {
  readonly store: LogStore;
  readonly codec: BatchCodec;
  /** Bytes of one fetch. */
  readonly fetchBytesMax: number;
  /** Bytes of one encoded batch that joins several stored ones. */
  readonly chunkBytes: number;
  /** Counts fetched batches that stay in memory for the next readers, and has their limit. */
  readonly account: Account;
}

/** The batches of one fetch. */
interface Fetched {
  readonly batches: readonly EncodedBatch[];
  readonly bytes: number;
}

const keyOf = ({ topicId, partition, lane }: LogAddress): string => `${topicId}/${partition}/${lane}`;

/**
 * Reads older batches from the database. Concurrent readers of one offset share a fetch, and
 * fetched batches stay in memory for a while, because groups that catch up read the same batches.
 */
export class Reader {
  readonly #o: ReaderOptions;
  readonly #fetching = new Once<string, EncodedBatch | null>();
  /**
   * The fetches of each log, oldest first. The log that was fetched from least recently comes
   * first.
   */
  readonly #fetched = new Map<string, Fetched[]>();
  readonly #room: CacheRoom;
  /** How often logs were forgotten. */
  #forgets = 0;

  constructor(options: ReaderOptions) {
    this.#o = options;
    this.#room = new CacheRoom(options.account, 'reads', () => this.#evictOldest());
  }

  get bytes(): number {
    return this.#room.bytes;
  }

  cached(address: LogAddress, offset: number): EncodedBatch | null {
    const fetched = this.#fetched.get(keyOf(address));
    if (fetched === undefined) return null;
    for (const { batches } of fetched) {
      const first = present(batches[0], 'a fetch that is kept has batches');
      const last = present(batches.at(-1), 'a fetch that is kept has batches');
      if (offset < first.baseOffset || offset >= endOffset(last)) continue;
      return batches.find((batch) => offset < endOffset(batch)) ?? null;
    }
    return null;
  }

  /**
   * `isKept`: whether the batches stay for the next readers. Those of a topic that was removed
   * would stay for nobody. @throws Fault
   */
  fetch(address: LogAddress, offset: number, isKept: boolean): Promise<EncodedBatch | null> {
    return this.#fetching.run(`${keyOf(address)}@${offset}`, () => this.#fetch(address, offset, isKept));
  }

  /** Drops the batches of a log whose topic was deleted. */
  forget(address: LogAddress): void {
    this.#forgets += 1;
    for (const fetched of this.#fetched.get(keyOf(address)) ?? []) this.#count(fetched, -1);
    this.#fetched.delete(keyOf(address));
  }

  async #fetch(address: LogAddress, offset: number, isKept: boolean): Promise<EncodedBatch | null> {
    const known = this.cached(address, offset);
    if (known !== null) return known;
    const { topicId, partition, lane } = address;
    const forgets = this.#forgets;
    const stored = await this.#o.store.read({ topicId, partition, lane, offset, bytesMax: this.#o.fetchBytesMax });
    if (stored.length === 0) return null;
    const batches = this.#encode(address, stored);
    // The read may have outlived its topic, and nobody would drop its batches.
    if (isKept && forgets === this.#forgets) this.#keep(keyOf(address), batches);
    return batches.find((batch) => offset < endOffset(batch)) ?? null;
  }

  #encode(address: LogAddress, stored: readonly StoredBatch[]): EncodedBatch[] {
    const chunks: StoredBatch[][] = [];
    let size = Infinity;
    for (const batch of stored) {
      const bytes = bytesOf(batch);
      if (size + bytes > this.#o.chunkBytes) {
        chunks.push([]);
        size = 0;
      }
      present(chunks.at(-1), 'the first batch begins a chunk').push(batch);
      size += bytes;
    }
    return chunks.map((chunk) => this.#o.codec.encode(address, chunk));
  }

  #keep(key: string, batches: readonly EncodedBatch[]): void {
    const bytes = batches.reduce((sum, batch) => sum + batchBytes(batch), 0);
    const fetched = this.#fetched.get(key) ?? [];
    fetched.push({ batches, bytes });
    this.#fetched.delete(key);
    this.#fetched.set(key, fetched);
    this.#count({ batches, bytes }, 1);
    this.#room.trim();
  }

  /** The list of a fetch weighs as much as the objects of a batch. */
  #count({ batches, bytes }: Fetched, sign: 1 | -1): void {
    this.#room.add(sign * (batches.length + 1), sign * bytes);
  }

  #evictOldest(): boolean {
    for (const [key, fetched] of this.#fetched) {
      const oldest = fetched.shift();
      if (oldest !== undefined) this.#count(oldest, -1);
      if (fetched.length === 0) this.#fetched.delete(key);
      if (oldest !== undefined) return true;
    }
    return false;
  }
}

function bytesOf({ records }: StoredBatch): number {
  let bytes = 0;
  for (const { set, indexes } of records) for (const index of indexes) bytes += sliceBytes(set, index);
  return bytes;
}
