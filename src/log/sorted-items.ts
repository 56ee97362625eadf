/** Items in order, sorted only for the first reader after one of them has come or gone. */
export class SortedItems<T> {
  readonly #items: () => Iterable<T>;
  readonly #compare: (a: T, b: T) => number;
  #sorted: readonly T[] | null = null;

  constructor(items: () => Iterable<T>, compare: (a: T, b: T) => number) {
    this.#items = items;
    this.#compare = compare;
  }

  /** An item has come or gone. */
  changed(): void {
    this.#sorted = null;
  }

  get all(): readonly T[] {
    return (this.#sorted ??= [...this.#items()].sort(this.#compare));
  }
}
