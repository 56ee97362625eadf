import type { RawBidiStream, RawServerStream } from './definition.ts';

/**
 * The streams that are open, for a shutdown that ends them before it closes their connections: the server's next
 * keepalive ping on a connection that is closing would cut them off without a status.
 */
export class OpenStreams {
  readonly #drains = new Map<RawServerStream | RawBidiStream, () => void>();
  #draining = false;
  #whenNone: (() => void) | null = null;

  /** @param drain asks the stream to end; a Subscribe stream needs none, since the broker ends it. */
  opened(call: RawServerStream | RawBidiStream, drain: () => void = () => undefined): void {
    this.#drains.set(call, drain);
    // grpc-js emits it once at the end of every stream, also after a status.
    call.once('cancelled', () => {
      this.#drains.delete(call);
      this.#settle();
    });
    if (this.#draining) drain();
  }

  /** Asks all streams, also those that come later, to end. @returns once there is none. */
  drained(): Promise<void> {
    this.#draining = true;
    for (const drain of this.#drains.values()) drain();
    return new Promise((resolve) => {
      this.#whenNone = resolve;
      this.#settle();
    });
  }

  #settle(): void {
    if (this.#drains.size === 0) this.#whenNone?.();
  }
}
