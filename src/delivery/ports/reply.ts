/**
 * The outcome of the answer to a call, or of a stream's first event. The edge settles a reply once.
 * The reply is handed over when the transport has the answer. It is lost when the call ends before:
 * cancelled, past its deadline, cut off, or answered with an error.
 *
 * The answer to a join contains the member id. A client whose reply is lost cannot have the id, so
 * the new member leaves at once, instead of keeping its partitions for a session timeout. If a
 * client dies after the handover, its session times out.
 */
export class Reply {
  readonly #lost = new AbortController();
  #isHandedOver = false;

  /** Aborted when the reply is lost, and never after the handover. */
  get signal(): AbortSignal {
    return this.#lost.signal;
  }

  get isLost(): boolean {
    return this.#lost.signal.aborted;
  }

  get isHandedOver(): boolean {
    return this.#isHandedOver;
  }

  /** The edge calls it when the transport has the answer. Ignored after a loss. */
  handOver(): void {
    this.#isHandedOver = !this.isLost;
  }

  /** The edge calls it when the call has ended. Ignored after the handover. */
  lose(): void {
    if (!this.#isHandedOver) this.#lost.abort();
  }

  /** Calls `run` once when the reply is lost, or at once if it is lost already. */
  whenLost(run: () => void): void {
    if (this.isLost) run();
    else this.signal.addEventListener('abort', run, { once: true });
  }
}
