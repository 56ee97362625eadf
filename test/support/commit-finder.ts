/** Message types of PostgreSQL's protocol, as a client sends them. */
const query = 0x51;
const execute = 0x45;
const sync = 0x53;
/** The type byte and the length, which counts itself. */
const headerBytes = 5;

const commitText = Buffer.from('COMMIT\0');
/** ReadyForQuery, outside of a transaction. */
const readyAndIdle = Buffer.from('Z\0\0\0\x05I');

/**
 * Follows what a client sends, and finds what commits a transaction of several statements: a
 * COMMIT, or the Sync behind them.
 */
export class CommitFinder {
  /** What was sent of a message that is not complete yet. */
  #pending: Buffer = Buffer.alloc(0);
  #started = false;
  #executed = 0;

  /**
   * @returns where in these bytes the message that commits begins, or what is left of it; null if
   * it does not end in them.
   */
  find(chunk: Buffer): number | null {
    const before = this.#pending.length;
    const sent = Buffer.concat([this.#pending, chunk]);
    let found: number | null = null;
    let at = 0;
    for (let end = this.#endOf(sent, at); end <= sent.length; end = this.#endOf(sent, at)) {
      if (this.#commits(sent.subarray(at, end))) found ??= Math.max(0, at - before);
      at = end;
    }
    this.#pending = sent.subarray(at);
    return found;
  }

  /** The first message of a connection has no type. */
  #endOf(sent: Buffer, at: number): number {
    const lengthAt = this.#started ? at + 1 : at;
    return sent.length < at + headerBytes ? Infinity : lengthAt + sent.readInt32BE(lengthAt);
  }

  #commits(message: Buffer): boolean {
    if (!this.#started) {
      this.#started = true;
      return false;
    }
    const type = message[0];
    if (type === query) return message.subarray(headerBytes).equals(commitText);
    if (type === execute) this.#executed++;
    if (type !== sync) return false;
    const several = this.#executed > 1;
    this.#executed = 0;
    return several;
  }
}

/** Whether what the database answered says that nothing is in a transaction any more. */
export function isCommitted(answers: Buffer): boolean {
  return answers.includes(readyAndIdle);
}
