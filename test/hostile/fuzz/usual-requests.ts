import { fromJson, toBinary, type DescMethod, type JsonValue } from '@bufbuild/protobuf';
import { Messages } from './messages.ts';
import { CaseRandom } from './random.ts';

/** Requests of any call by reflection. Most are valid, and name a topic that has to be made. */
export class UsualRequests {
  readonly topic = 'usual';
  readonly #messages = new Messages({
    topic: [this.topic],
    topics: [this.topic],
    name: [this.topic],
    group: ['usual-1', 'usual-2', 'usual-3'],
    partition: [0, 1],
    lane: [0],
  });

  binary(method: DescMethod, index: number): Buffer {
    const message = this.#messages.message(method.input, new CaseRandom(1, index)) as JsonValue;
    try {
      return Buffer.from(toBinary(method.input, fromJson(method.input, message)));
    } catch {
      // A value that no message can have, for example a time before the first one.
      return Buffer.alloc(0);
    }
  }
}
