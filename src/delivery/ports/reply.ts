/**
 * What becomes of the answer to a call; on a stream, of its first event. The edge settles a reply once: it is handed over when the
 * transport has it, and lost when the call ends before that: cancelled, past its deadline, cut off, or answered with an error.
 *
 * The answer to a join tells the client its member id. A client whose reply is lost cannot have the id, so the new member leaves at once
 * and does not keep its partitions for a session timeout. A client that dies after the handover is for its session to find out.
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

  /** The transport has the answer. Ignored once the reply is lost. */
  handOver(): void {
    this.#isHandedOver = !this.isLost;
  }

  /** The call has ended. Ignored after the handover. */
  lose(): void {
    if (!this.#isHandedOver) this.#lost.abort();
  }

  /** Calls `run` once if the reply is lost: at once if it is already. */
  whenLost(run: () => void): void {
    if (this.isLost) run();
    else this.signal.addEventListener('abort', run, { once: true });
  }
}
