import assert from 'node:assert/strict';
import { brokerBusy, brokerFull } from '../errors/rejections/broker.ts';
import type { Rejection } from '../errors/rejections/rejection.ts';
import { Hold, type Counted } from './hold.ts';
import { kinds, type KindName } from './kinds.ts';

/** A limit over several kinds. `mayTake`: whether something else forbids to take more. */
export class Pool {
  readonly bytesMax: number;
  readonly mayTake: () => boolean;
  readonly kinds: Kind[] = [];
  bytes = 0;

  constructor(bytesMax: number, mayTake: () => boolean = () => true) {
    this.bytesMax = bytesMax;
    this.mayTake = mayTake;
  }

  /**
   * Makes room by what its kinds can evict, in the order of the table. Evicts nothing if all of it
   * would not be enough.
   */
  makeRoom(bytes: number): boolean {
    const evictable = this.kinds.reduce((sum, kind) => sum + kind.evictableBytes, 0);
    if (this.bytes + bytes - evictable > this.bytesMax) return false;
    for (const kind of this.kinds) {
      const short = this.bytes + bytes - this.bytesMax;
      if (short <= 0) break;
      kind.evict(short);
    }
    return this.bytes + bytes <= this.bytesMax;
  }
}

/** One kind over all who hold it. */
export class Kind implements Counted {
  readonly name: KindName;
  readonly bytesMax: number;
  readonly #pool: Pool;
  readonly #evictors = new Map<string, (bytes: number) => void>();
  #bytes = 0;
  #refused = 0;

  constructor(name: KindName, pool: Pool, bytesMax: number) {
    this.name = name;
    this.#pool = pool;
    this.bytesMax = bytesMax;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** How often `take` found no room. */
  get refused(): number {
    return this.#refused;
  }

  /** How many bytes more are counted than the kind and its pool may have. */
  get excess(): number {
    return Math.max(0, this.#bytes - this.bytesMax, this.#pool.bytes - this.#pool.bytesMax);
  }

  get room(): number {
    const { mayTake, bytesMax, bytes } = this.#pool;
    return mayTake() ? Math.max(0, Math.min(this.bytesMax - this.#bytes, bytesMax - bytes)) : 0;
  }

  take(bytes: number): boolean {
    if (!this.#hasRoom(bytes)) {
      this.#refused++;
      return false;
    }
    this.force(bytes);
    return true;
  }

  force(bytes: number): void {
    this.#bytes += bytes;
    this.#pool.bytes += bytes;
  }

  give(bytes: number): void {
    const isTaken = bytes >= 0 && bytes <= this.#bytes;
    if (!isTaken) assert.fail(`${bytes} bytes of ${this.name} come back, of ${this.#bytes}`);
    this.#bytes -= bytes;
    this.#pool.bytes -= bytes;
  }

  hold(bytes: number): Hold {
    if (!this.take(bytes)) throw this.refusal();
    return new Hold(this, bytes);
  }

  get evictableBytes(): number {
    return this.#evictors.size === 0 ? 0 : this.#bytes;
  }

  /**
   * `evict` gives back so many bytes at once, or as many as it can. It runs within the `take` of
   * another kind. Of several holders, each is asked for what those before could not give. A later
   * holder of the same name takes the place of the first: a broker may open again.
   */
  onShort(evict: (bytes: number) => void, holder = ''): void {
    this.#evictors.set(holder, evict);
  }

  evict(bytes: number): void {
    const until = Math.max(0, this.#bytes - bytes);
    for (const evict of this.#evictors.values()) {
      if (this.#bytes <= until) return;
      evict(this.#bytes - until);
    }
  }

  refusal(): Rejection {
    const fields = { kind: this.name, bytesMax: this.bytesMax };
    return kinds[this.name].pool === 'kept' ? brokerFull(fields) : brokerBusy(fields);
  }

  #hasRoom(bytes: number): boolean {
    if (bytes > this.bytesMax || !this.#pool.mayTake()) return false;
    const short = this.#bytes + bytes - this.bytesMax;
    if (short > 0) this.evict(short);
    if (this.#bytes + bytes > this.bytesMax) return false;
    return this.#pool.bytes + bytes <= this.#pool.bytesMax || this.#pool.makeRoom(bytes);
  }
}
