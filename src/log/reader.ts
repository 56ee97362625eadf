import {
  endOffset,
  sliceBytes,
  type BatchCodec,
  type EncodedBatch,
  type LogAddress,
  type StoredBatch,
} from './batch.ts';
import { Once } from '../time/once.ts';
import type { LogStore } from './store.ts';

export interface ReaderOptions {
  readonly store: LogStore;
  readonly codec: BatchCodec;
  /** One fetch. */
  readonly fetchBytesMax: number;
  /** One encoded batch, if it is made of several stored ones. */
  readonly chunkBytes: number;
  /** What was fetched is kept for the next ones who read it, up to this size. */
  readonly cacheBytesMax: number;
}

const keyOf = ({ topicId, partition, lane }: LogAddress): string => `${topicId}/${partition}/${lane}`;

/**
 * Reads older batches from the database. Groups that catch up side by side read the same: who asks for the same offset
 * shares a fetch, and what came with it stays here for a while.
 */
export class Reader {
  readonly #o: ReaderOptions;
  readonly #fetching = new Once<string, EncodedBatch | null>();
  /** What was fetched last of each log, in the order of their last use. */
  readonly #fetched = new Map<string, { readonly batches: readonly EncodedBatch[]; readonly bytes: number }[]>();
  #bytes = 0;

  constructor(options: ReaderOptions) {
    this.#o = options;
  }

  get bytes(): number {
    return this.#bytes;
  }

  cached(address: LogAddress, offset: number): EncodedBatch | null {
    const fetched = this.#fetched.get(keyOf(address));
    if (fetched === undefined) return null;
    for (const { batches } of fetched) {
      const first = batches[0]!;
      if (offset < first.baseOffset || offset >= endOffset(batches.at(-1)!)) continue;
      return batches.find((batch) => offset < endOffset(batch)) ?? null;
    }
    return null;
  }

  /** @throws Fault */
  fetch(address: LogAddress, offset: number): Promise<EncodedBatch | null> {
    return this.#fetching.run(`${keyOf(address)}@${offset}`, () => this.#fetch(address, offset));
  }

  /** The topic is gone. */
  forget(address: LogAddress): void {
    for (const { bytes } of this.#fetched.get(keyOf(address)) ?? []) this.#bytes -= bytes;
    this.#fetched.delete(keyOf(address));
  }

  async #fetch(address: LogAddress, offset: number): Promise<EncodedBatch | null> {
    const known = this.cached(address, offset);
    if (known !== null) return known;
    const { topicId, partition, lane } = address;
    const stored = await this.#o.store.read({ topicId, partition, lane, offset, bytesMax: this.#o.fetchBytesMax });
    if (stored.length === 0) return null;
    const batches = this.#encode(address, stored);
    this.#keep(keyOf(address), batches);
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
      chunks.at(-1)!.push(batch);
      size += bytes;
    }
    return chunks.map((chunk) => this.#o.codec.encode(address, chunk));
  }

  #keep(key: string, batches: readonly EncodedBatch[]): void {
    const bytes = batches.reduce((sum, batch) => sum + batch.bytes.length, 0);
    const fetched = this.#fetched.get(key) ?? [];
    fetched.push({ batches, bytes });
    this.#fetched.delete(key);
    this.#fetched.set(key, fetched);
    this.#bytes += bytes;
    while (this.#bytes > this.#o.cacheBytesMax) this.#dropOldest();
  }

  #dropOldest(): void {
    for (const [key, fetched] of this.#fetched) {
      this.#bytes -= fetched.shift()?.bytes ?? 0;
      if (fetched.length === 0) this.#fetched.delete(key);
      return;
    }
  }
}

function bytesOf({ records }: StoredBatch): number {
  let bytes = 0;
  for (const { set, indexes } of records) for (const index of indexes) bytes += sliceBytes(set, index);
  return bytes;
}
