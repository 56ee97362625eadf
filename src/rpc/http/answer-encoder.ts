import { toBinary, type DescMessage, type MessageShape } from '@bufbuild/protobuf';
import type { Clock } from '../../time/clock.ts';
import { inTurns } from '../../time/in-turns.ts';
import { Mutex } from '../../time/mutex.ts';
import { binaryPieces } from '../translation/binary-pieces.ts';
import { jsonEncodingSteps } from '../translation/json-encoding.ts';

/**
 * Encodes answers without stopping the event loop. What a large answer needs beyond its first step
 * is done one answer after the other, because the steps of several would add up.
 */
export class AnswerEncoder {
  readonly #clock: Clock;
  readonly #large = new Mutex();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** @param answer a message, or its bytes in protobuf. */
  async encode(desc: DescMessage, answer: unknown, json: boolean): Promise<Buffer> {
    if (json) return this.#run(jsonSteps(desc, answer));
    if (Buffer.isBuffer(answer)) return answer;
    const { buffer, byteOffset, byteLength } = toBinary(desc, answer as MessageShape<DescMessage>);
    return Buffer.from(buffer, byteOffset, byteLength);
  }

  #run(steps: Iterator<null, Buffer>): Buffer | Promise<Buffer> {
    const first = steps.next();
    return first.done === true ? first.value : this.#large.take(() => inTurns(this.#clock, steps));
  }
}

function* jsonSteps(desc: DescMessage, answer: unknown): Generator<null, Buffer> {
  const message = Buffer.isBuffer(answer) ? yield* binaryPieces(desc, answer) : answer;
  return yield* jsonEncodingSteps(desc, message as MessageShape<DescMessage>);
}
