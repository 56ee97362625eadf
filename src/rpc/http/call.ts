import { Code, ConnectError, type HandlerContext as ConnectContext } from '@connectrpc/connect';
import type { Caller } from '../../broker/caller.ts';
import { Reply } from '../../delivery/ports/reply.ts';
import { limits } from '../../limits/limits.ts';
import { callerOf } from '../edge/caller.ts';
import type { Call } from '../edge/call.ts';
import { checkJsonField } from '../answers/json-records.ts';
import { requestFacts } from '../requests/request-facts.ts';

/** A call of connect-node as the handlers see it. */
export class HttpCall implements Call {
  readonly caller: Caller;
  readonly recordsBytesMax: number;
  readonly checkRecord?: (batch: Buffer) => void;
  readonly #context: ConnectContext;
  #reply: Reply | null = null;

  constructor(context: ConnectContext) {
    this.#context = context;
    const { host, json } = context.values.get(requestFacts);
    this.caller = callerOf(host);
    this.recordsBytesMax = json ? limits.jsonRecordsBytesMax : limits.messageBytesMax;
    if (json) this.checkRecord = checkJsonField;
  }

  reply(): Reply {
    if (this.#reply === null) {
      const reply = new Reply();
      this.#reply = reply;
      const { signal } = this.#context;
      if (signal.aborted) reply.lose();
      // connect-node also aborts at the end of every answered call.
      else
        signal.addEventListener('abort', () => {
          reply.lose();
        });
    }
    return this.#reply;
  }

  /**
   * The answer, or the first event, goes to the transport now: connect-node writes it
   * synchronously.
   * @throws ConnectError if the call has already ended: its client must not read an answer that
   * does not hold.
   */
  answered(): void {
    if (this.#reply?.isLost === true) throw ConnectError.from(this.#context.signal.reason, Code.Canceled);
    this.#reply?.handOver();
  }

  /** An error, or nothing, goes to the transport instead. */
  failed(): void {
    this.#reply?.lose();
  }
}

/** The request as it was decoded before connect-node, or else by connect-node. */
export function decodedOr<M>(context: ConnectContext, message: M): M {
  return (context.values.get(requestFacts).decoded ?? message) as M;
}
