import type { Counted, Hold } from '../../account/hold.ts';
import { weights } from '../../account/weights.ts';
import { Fault } from '../../errors/fault.ts';
import { Rejection } from '../../errors/rejections/rejection.ts';

interface Chosen {
  readonly offsets: readonly number[];
  readonly hold: Hold;
}

/**
 * The first offsets of subscriptions that are being created. Each start is chosen once. If the
 * answer of the database is lost, the next call repeats the same start, so that memory has the
 * stored one whichever write took effect. After any other answer the choice is forgotten.
 */
export class ChosenStarts {
  readonly #account: Counted;
  readonly #chosen = new Map<string, Chosen>();

  constructor(account: Counted) {
    this.#account = account;
  }

  /**
   * Creates a subscription whose topic has so many logs.
   * @returns what `create` does. @throws Rejection BROKER_BUSY, and what both functions throw
   */
  async create<T>(
    { groupId, topicId, logs }: { readonly groupId: number; readonly topicId: number; readonly logs: number },
    choose: () => Promise<readonly number[]>,
    create: (offsets: readonly number[]) => Promise<T>,
  ): Promise<T> {
    const key = `${groupId}/${topicId}`;
    const { offsets } = this.#chosen.get(key) ?? (await this.#choose(key, logs, choose));
    try {
      const created = await create(offsets);
      this.#forget(key);
      return created;
    } catch (error) {
      if (!mayBeStored(error)) this.#forget(key);
      throw error;
    }
  }

  /** The group or the topic is gone, and with it the subscription that may have been created. */
  forgetOf(gone: { readonly groupId: number } | { readonly topicId: number }): void {
    for (const key of this.#chosen.keys()) {
      const isGone = 'groupId' in gone ? key.startsWith(`${gone.groupId}/`) : key.endsWith(`/${gone.topicId}`);
      if (isGone) this.#forget(key);
    }
  }

  async #choose(key: string, logs: number, choose: () => Promise<readonly number[]>): Promise<Chosen> {
    const hold = this.#account.hold(logs * weights.start);
    try {
      const chosen = { offsets: await choose(), hold };
      this.#chosen.set(key, chosen);
      return chosen;
    } catch (error) {
      hold.release();
      throw error;
    }
  }

  #forget(key: string): void {
    this.#chosen.get(key)?.hold.release();
    this.#chosen.delete(key);
  }
}

function mayBeStored(error: unknown): boolean {
  return error instanceof Fault ? error.kind === 'OUTCOME_UNKNOWN' : !(error instanceof Rejection);
}
