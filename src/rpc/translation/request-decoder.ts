import type { DescMessage, MessageShape } from '@bufbuild/protobuf';
import { limits } from '../../limits/limits.ts';
import type { Clock } from '../../time/clock.ts';
import { atOnce, inTurns } from '../../time/in-turns.ts';
import { Mutex } from '../../time/mutex.ts';
import { binarySteps, decodeBinary, jsonSteps, jsonToBinarySteps, type DecodedRequest } from './decode.ts';

/**
 * Decodes the requests of both edges without stopping the event loop. A large request is decoded in
 * steps, one request after the other, because the steps of several would add up.
 */
export class RequestDecoder {
  readonly #clock: Clock;
  readonly #large = new Mutex();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * Small requests are decoded at once. @throws Rejection REQUEST_TOO_LARGE, MALFORMED_REQUEST,
   * INVALID_FIELD, BROKER_BUSY
   */
  binary<D extends DescMessage>(
    desc: D,
    bytes: Buffer,
    held: DecodedRequest | null,
  ): MessageShape<D> | Promise<MessageShape<D>> {
    if (bytes.length <= limits.bytesAtOnceMax) return decodeBinary(desc, bytes, held);
    return this.#run(bytes, binarySteps(desc, bytes, held));
  }

  /** @throws Rejection MALFORMED_REQUEST, REQUEST_TOO_LARGE, BROKER_BUSY */
  async json<D extends DescMessage>(desc: D, bytes: Buffer, held: DecodedRequest | null): Promise<MessageShape<D>> {
    return this.#run(bytes, jsonSteps(desc, bytes, held));
  }

  /** In protobuf. @throws Rejection MALFORMED_REQUEST, REQUEST_TOO_LARGE, BROKER_BUSY */
  async jsonToBinary(desc: DescMessage, bytes: Buffer, held: DecodedRequest | null): Promise<Buffer> {
    return this.#run(bytes, jsonToBinarySteps(desc, bytes, held));
  }

  #run<T>({ length }: Buffer, steps: Iterator<unknown, T>): T | Promise<T> {
    if (length <= limits.bytesAtOnceMax) return atOnce(steps);
    return this.#large.take(() => inTurns(this.#clock, steps));
  }
}
