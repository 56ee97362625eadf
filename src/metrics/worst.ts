/** Keeps the items with the highest scores, and counts the others. */
export class Worst<Item> {
  readonly #max: number;
  readonly #scoreOf: (item: Item) => number;
  /** A heap whose first item has the lowest score of those that are kept. */
  readonly #heap: { readonly item: Item; readonly score: number }[] = [];
  #leftOut = 0;

  constructor(max: number, scoreOf: (item: Item) => number) {
    this.#max = max;
    this.#scoreOf = scoreOf;
  }

  /** How many items were offered and are not kept. */
  get leftOut(): number {
    return this.#leftOut;
  }

  offer(item: Item): void {
    const heap = this.#heap;
    const offered = { item, score: this.#scoreOf(item) };
    if (heap.length < this.#max) {
      heap.push(offered);
      this.#rise(heap.length - 1);
      return;
    }
    this.#leftOut++;
    if (this.#max === 0 || offered.score <= this.#score(0)) return;
    heap[0] = offered;
    this.#sink();
  }

  /** The kept items, the highest score first. */
  items(): Item[] {
    return [...this.#heap].sort((a, b) => b.score - a.score).map(({ item }) => item);
  }

  /** Behind the end of the heap every score is higher. */
  #score(at: number): number {
    return this.#heap[at]?.score ?? Infinity;
  }

  #rise(from: number): void {
    for (let at = from; at > 0;) {
      const parent = (at - 1) >> 1;
      if (this.#score(parent) <= this.#score(at)) return;
      this.#swap(at, parent);
      at = parent;
    }
  }

  #sink(): void {
    for (let at = 0; ;) {
      let lowest = at;
      for (const child of [2 * at + 1, 2 * at + 2]) {
        if (this.#score(child) < this.#score(lowest)) lowest = child;
      }
      if (lowest === at) return;
      this.#swap(at, lowest);
      at = lowest;
    }
  }

  #swap(a: number, b: number): void {
    const [first, second] = [this.#heap[a], this.#heap[b]];
    if (first === undefined || second === undefined) return;
    this.#heap[a] = second;
    this.#heap[b] = first;
  }
}
