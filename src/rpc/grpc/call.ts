import type { Caller } from '../../broker/broker.ts';
import { callerOf } from '../caller.ts';
import type { Call } from '../handlers/call.ts';

/** What calls of grpc-js of all kinds have. */
interface RawCall {
  readonly cancelled: boolean;
  getPeer(): string;
  once(event: 'cancelled', listener: () => void): unknown;
}

/** A call of grpc-js as the handlers see it. */
export class GrpcCall implements Call {
  readonly caller: Caller;
  readonly #call: RawCall;
  #controller: AbortController | null = null;

  constructor(call: RawCall) {
    this.#call = call;
    this.caller = callerOf(hostOf(call.getPeer()));
  }

  signal(): AbortSignal {
    if (this.#controller === null) {
      const controller = new AbortController();
      this.#controller = controller;
      if (this.#call.cancelled) controller.abort();
      // Also emitted after a status has been sent, when nobody listens any more.
      else
        this.#call.once('cancelled', () => {
          controller.abort();
        });
    }
    return this.#controller.signal;
  }
}

/** Of "address:port"; an IPv6 address stands there without brackets. */
function hostOf(peer: string): string {
  const colon = peer.lastIndexOf(':');
  return colon === -1 ? peer : peer.slice(0, colon);
}
