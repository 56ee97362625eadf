/** Where a machine counts what it holds of one kind. */
export interface Counted {
  /** How many bytes more fit at least: those that could be evicted are left out. */
  readonly room: number;
  /** Counts the bytes if there is room. */
  take(bytes: number): boolean;
  /** Counts the bytes in any case. */
  force(bytes: number): void;
  give(bytes: number): void;
  /** @throws Rejection BROKER_FULL, BROKER_BUSY or CONNECTION_BUSY */
  hold(bytes: number): Hold;
}

/** Bytes with one lifetime, which may end on several paths. */
export class Hold {
  readonly #counted: Pick<Counted, 'take' | 'force' | 'give'>;
  #bytes: number;
  #released = false;

  constructor(counted: Pick<Counted, 'take' | 'force' | 'give'>, bytes: number) {
    this.#counted = counted;
    this.#bytes = bytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** False, and nothing changes, where there is no room for more. */
  resize(bytes: number): boolean {
    if (this.#released) return false;
    if (bytes > this.#bytes && !this.#counted.take(bytes - this.#bytes)) return false;
    if (bytes < this.#bytes) this.#counted.give(this.#bytes - bytes);
    this.#bytes = bytes;
    return true;
  }

  /** Counts more or less bytes in any case. */
  force(bytes: number): void {
    if (this.#released) return;
    if (bytes > this.#bytes) this.#counted.force(bytes - this.#bytes);
    else this.#counted.give(this.#bytes - bytes);
    this.#bytes = bytes;
  }

  release(): void {
    if (this.#released) return;
    this.#released = true;
    this.#counted.give(this.#bytes);
    this.#bytes = 0;
  }
}
