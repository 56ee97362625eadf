import type { Kind } from '../../account/kind.ts';
import type { Clock } from '../../time/clock.ts';
import type { NodeResponse } from '../requests/universal-response.ts';

const freshMs = 1_000;
const copiesMax = 3;

interface Copy {
  readonly body: Promise<Buffer>;
  readonly madeMs: number;
  readers: number;
}

/**
 * A page that is answered although the account has no room for answers. Its readers share a copy,
 * and few copies may be unread at a time: then the newest one, which may be old, is answered.
 */
export class SparePage {
  readonly #clock: Pick<Clock, 'nowMs'>;
  readonly #answers: Kind;
  readonly #make: () => Promise<string>;
  readonly #unread = new Set<Copy>();
  #newest: Copy | null = null;

  constructor(clock: Pick<Clock, 'nowMs'>, answers: Kind, make: () => Promise<string>) {
    this.#clock = clock;
    this.#answers = answers;
    this.#make = make;
  }

  async answer(response: NodeResponse): Promise<Buffer> {
    const copy = this.#fresh ?? this.#copied();
    copy.readers += 1;
    this.#unread.add(copy);
    response.once('close', () => {
      void this.#left(copy);
    });
    return copy.body;
  }

  get #fresh(): Copy | null {
    const newest = this.#newest;
    if (newest === null || this.#unread.size >= copiesMax) return newest;
    return this.#clock.nowMs() - newest.madeMs < freshMs ? newest : null;
  }

  #copied(): Copy {
    const copy: Copy = { body: this.#counted(), madeMs: this.#clock.nowMs(), readers: 0 };
    this.#newest = copy;
    return copy;
  }

  /** Beyond the limit of the kind, because the copies are few. */
  async #counted(): Promise<Buffer> {
    const body = Buffer.from(await this.#make());
    this.#answers.force(body.length);
    return body;
  }

  async #left(copy: Copy): Promise<void> {
    copy.readers -= 1;
    if (copy.readers > 0) return;
    this.#unread.delete(copy);
    if (this.#newest === copy) this.#newest = null;
    const { length } = await copy.body.catch(() => Buffer.alloc(0));
    this.#answers.give(length);
  }
}
