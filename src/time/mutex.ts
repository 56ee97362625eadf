/** Pieces of work that exclude each other, in the order in which they were given. */
export class Mutex {
  #last: Promise<void> = Promise.resolve();
  #load = 0;

  /** How many pieces of work are under way or wait. */
  get load(): number {
    return this.#load;
  }

  /** Runs `work` once all work that was given before has ended. */
  async take<T>(work: () => Promise<T>): Promise<T> {
    const before = this.#load === 0 ? null : this.#last;
    const ended = Promise.withResolvers<void>();
    this.#last = ended.promise;
    this.#load++;
    if (before !== null) await before;
    try {
      return await work();
    } finally {
      this.#load--;
      ended.resolve();
    }
  }

  /** Resolves when all work that was given until now has ended, also if it fails. */
  ended(): Promise<void> {
    return this.#last;
  }
}
