/**
 * The waiting items of a stream. The producer pushes, and connect-node pulls the next item once the
 * last one has gone to the socket. An item counts as taken when the next one is pulled.
 */
export class Outbox<T> {
  readonly #items: { readonly item: T; readonly taken: () => void }[] = [];
  #end: { readonly error: Error | null } | null = null;
  #wake: (() => void) | null = null;

  /** Ignored after `end`. */
  push(item: T, taken: () => void): void {
    if (this.#end !== null) return;
    this.#items.push({ item, taken });
    this.#wake?.();
  }

  /** Ends the stream after the pushed items: with an error, or well. */
  end(error: Error | null): void {
    this.#end ??= { error };
    this.#wake?.();
  }

  /** The client has gone, so nothing is sent after this. */
  drop(): void {
    this.#items.length = 0;
    this.end(null);
  }

  async *items(): AsyncGenerator<T, void, undefined> {
    for (;;) {
      const next = this.#items.shift();
      if (next !== undefined) {
        yield next.item;
        next.taken();
      } else if (this.#end !== null) {
        if (this.#end.error !== null) throw this.#end.error;
        return;
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }
}
