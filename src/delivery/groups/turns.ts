/** Work that excludes other work of its kind: one after the other. */
export class Turns {
  #underWay: Promise<void> | null = null;

  /** Settled when the present work is done; null if there is none. Look again after it: the next may have begun. */
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
