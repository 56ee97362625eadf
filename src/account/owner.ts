import assert from 'node:assert/strict';
import { connectionBusy } from '../errors/rejections/broker.ts';
import type { Rejection } from '../errors/rejections/rejection.ts';
import { Hold, type Counted } from './hold.ts';
import type { Kind } from './kind.ts';
import { kinds, type KindName, type KindRow } from './kinds.ts';

/** What a connection or an open broker holds of each kind. */
export class Owner {
  readonly #kindOf: (name: KindName) => Kind;
  readonly #kinds = new Map<KindName, OwnedKind>();
  #closed = false;

  constructor(kindOf: (name: KindName) => Kind) {
    this.#kindOf = kindOf;
  }

  kind(name: KindName): OwnedKind {
    let kind = this.#kinds.get(name);
    if (kind === undefined) {
      kind = new OwnedKind(this.#kindOf(name), () => this.#closed);
      this.#kinds.set(name, kind);
    }
    return kind;
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  /** Gives everything back. Idempotent. */
  close(): void {
    if (this.#closed) return;
    for (const kind of this.#kinds.values()) kind.giveAll();
    this.#closed = true;
  }
}

/** The part of a kind that one owner holds. */
export class OwnedKind implements Counted {
  readonly #kind: Kind;
  readonly #isClosed: () => boolean;
  readonly #bytesMax: number;
  readonly #mayHaveOne: boolean;
  #bytes = 0;

  constructor(kind: Kind, isClosed: () => boolean) {
    const { ownerBytesMax = Infinity, ownerMayHaveOne }: KindRow = kinds[kind.name];
    this.#kind = kind;
    this.#isClosed = isClosed;
    this.#bytesMax = ownerBytesMax;
    this.#mayHaveOne = ownerMayHaveOne === true;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get room(): number {
    if (this.#isClosed()) return 0;
    if (this.#mayHaveOne && this.#bytes === 0) return this.#kind.room;
    return Math.max(0, Math.min(this.#kind.room, this.#bytesMax - this.#bytes));
  }

  take(bytes: number): boolean {
    if (this.isShortOf(bytes)) return false;
    if (!this.#kind.take(bytes)) return false;
    this.#bytes += bytes;
    return true;
  }

  force(bytes: number): void {
    if (this.#isClosed()) return;
    this.#kind.force(bytes);
    this.#bytes += bytes;
  }

  give(bytes: number): void {
    if (this.#isClosed()) return;
    const isTaken = bytes <= this.#bytes;
    if (!isTaken) assert.fail(`${bytes} bytes of ${this.#kind.name} come back, of ${this.#bytes} of this owner`);
    this.#kind.give(bytes);
    this.#bytes -= bytes;
  }

  /** So many of its bytes stay counted in the kind, also when the owner closes or has closed. */
  leave(bytes: number): Hold {
    if (this.#isClosed()) this.#kind.force(bytes);
    else this.#bytes -= bytes;
    return new Hold(this.#kind, bytes);
  }

  hold(bytes: number): Hold {
    if (!this.take(bytes)) throw this.refusal(bytes);
    return new Hold(this, bytes);
  }

  /** Whether the owner may not have so many bytes more, or has closed. */
  isShortOf(bytes: number): boolean {
    if (this.#isClosed()) return true;
    return this.#bytes + bytes > this.#bytesMax && !(this.#mayHaveOne && this.#bytes === 0);
  }

  /** Whether all owners together have as much as they may. */
  get isFull(): boolean {
    return this.#kind.bytes >= this.#kind.bytesMax;
  }

  /** Why `take` of so many bytes has failed. */
  refusal(bytes: number): Rejection {
    if (!this.isShortOf(bytes)) return this.#kind.refusal();
    return connectionBusy({ kind: this.#kind.name, bytesMax: this.#bytesMax });
  }

  giveAll(): void {
    this.give(this.#bytes);
  }
}
