/** Work of one key is under way once: a second call for the key gets the promise of the first. */
export class Once<Key, Value> {
  readonly #underWay = new Map<Key, Promise<Value>>();

  has(key: Key): boolean {
    return this.#underWay.has(key);
  }

  run(key: Key, work: () => Promise<Value>): Promise<Value> {
    let underWay = this.#underWay.get(key);
    if (underWay === undefined) {
      underWay = work().finally(() => this.#underWay.delete(key));
      this.#underWay.set(key, underWay);
    }
    return underWay;
  }

  /** Resolves when the work of the key that is under way now has ended, also if it fails. */
  async endedOf(key: Key): Promise<void> {
    await this.#underWay.get(key)?.catch(() => undefined);
  }

  /** Resolves when all work that is under way now has ended, also if it fails. */
  async ended(): Promise<void> {
    await Promise.allSettled(this.#underWay.values());
  }
}
