import type { RawBidiStream, RawServerStream } from './definition.ts';

/**
 * The open streams. A shutdown ends them before it closes their connections, because the server's
 * next keepalive ping on a closing connection would cut them off without a status.
 */
export class OpenStreams {
  readonly #drains = new Map<RawServerStream | RawBidiStream, () => void>();
  #draining = false;
  #whenNone: (() => void) | null = null;

  /**
   * @param drain asks the stream to end; Subscribe streams need none, because the broker ends them.
   */
  opened(call: RawServerStream | RawBidiStream, drain: () => void = () => undefined): void {
    this.#drains.set(call, drain);
    // grpc-js emits it once at the end of every stream, also after a status.
    call.once('cancelled', () => {
      this.#drains.delete(call);
      this.#settle();
    });
    if (this.#draining) drain();
  }

  /** Asks all streams, including later ones, to end. @returns once no stream is open. */
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
