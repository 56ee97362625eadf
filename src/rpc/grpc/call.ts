import type { DescMessage, MessageShape } from '@bufbuild/protobuf';
import type { Hold } from '../../account/hold.ts';
import type { Caller } from '../../broker/caller.ts';
import { Reply } from '../../delivery/ports/reply.ts';
import { limits } from '../../limits/limits.ts';
import type { Call } from '../edge/call.ts';
import type { DecodedRequest } from '../translation/decode.ts';
import type { RequestDecoder } from '../translation/request-decoder.ts';
import { OpenCall } from './open-call.ts';

/** The common part of all kinds of grpc-js calls. */
interface RawCall {
  readonly cancelled: boolean;
  once(event: 'cancelled', listener: () => void): unknown;
}

/** A call of grpc-js as the handlers see it. */
export class GrpcCall implements Call, DecodedRequest {
  readonly caller: Caller;
  readonly open: OpenCall;
  readonly #call: RawCall;
  readonly #decoder: RequestDecoder;
  #held: Hold | null = null;
  #reply: Reply | null = null;

  constructor(call: RawCall, decoder: RequestDecoder) {
    this.open = OpenCall.of(call);
    this.caller = this.open.account.caller;
    this.#call = call;
    this.#decoder = decoder;
  }

  get recordsBytesMax(): number {
    return limits.messageBytesMax;
  }

  reply(): Reply {
    if (this.#reply === null) {
      const reply = new Reply();
      this.#reply = reply;
      if (this.#call.cancelled) reply.lose();
      // grpc-js also emits it at the end of every answered call.
      else
        this.#call.once('cancelled', () => {
          reply.lose();
        });
    }
    return this.#reply;
  }

  /** @throws Rejection */
  decode<D extends DescMessage>(desc: D, request: Buffer): MessageShape<D> | Promise<MessageShape<D>> {
    return this.#decoder.binary(desc, request, this);
  }

  holdDecoded(bytes: number): void {
    this.#held = this.open.account.decoded.hold(bytes);
  }

  /** The handler has ended, and keeps nothing of the request. */
  handled(): void {
    this.#held?.release();
    this.open.worked();
  }

  /** The answer, or the first event, goes to the transport. */
  answered(): void {
    this.#reply?.handOver();
  }

  /** An error goes to the transport instead. */
  failed(): void {
    this.#reply?.lose();
  }
}
