/**
 * A pattern of names, in which `*` stands for any characters. It has no regular expression behind
 * it, because a client chooses the pattern.
 */
export class NamePattern {
  readonly #first: string;
  readonly #middle: readonly string[];
  /** Null for a pattern without `*`, which names one name. */
  readonly #last: string | null;

  constructor(pattern: string) {
    const [first = '', ...rest] = pattern.split('*');
    this.#first = first;
    this.#last = rest.pop() ?? null;
    // An empty part matches anywhere, so that a search for it would be work for nothing.
    this.#middle = rest.filter((part) => part !== '');
  }

  matches(name: string): boolean {
    if (this.#last === null) return name === this.#first;
    if (!name.startsWith(this.#first)) return false;
    let at = this.#first.length;
    for (const part of this.#middle) {
      const found = name.indexOf(part, at);
      if (found < 0) return false;
      at = found + part.length;
    }
    return name.length - this.#last.length >= at && name.endsWith(this.#last);
  }
}
