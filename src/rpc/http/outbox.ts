/**
 * What is to be sent on a stream, between a producer that pushes and connect-node, which pulls the next item once the
 * last one has gone to the socket. An item counts as taken when the one after it is pulled.
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

  /** The stream ends after what was pushed: with an error, or well. */
  end(error: Error | null): void {
    this.#end ??= { error };
    this.#wake?.();
  }

  /** The client has gone: nothing more is sent. */
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
