/** Pieces of work that exclude each other: each begins when the one before has ended. */
export class Mutex {
  #underWay: Promise<void> | null = null;

  /**
   * Resolves when the present work has ended; null if there is none. Look again after it, because
   * the next work may have begun.
   */
  get underWay(): Promise<void> | null {
    return this.#underWay;
  }

  /** Runs `work` once no other is under way. */
  async take<T>(work: () => Promise<T>): Promise<T> {
    while (this.#underWay !== null) await this.#underWay;
    const done = Promise.withResolvers<void>();
    this.#underWay = done.promise;
    try {
      return await work();
    } finally {
      this.#underWay = null;
      done.resolve();
    }
  }
}
