import type { LogEnd } from '../../log/store.ts';
import { Fault } from '../../errors/fault.ts';
import type { Clock } from '../../time/clock.ts';
import { arrayLiteral } from '../pg/array-literal.ts';
import { sqlState, undefinedTableState } from '../pg/faults.ts';
import type { Connection } from '../sessions/connection.ts';
import { readEnds } from './segments.ts';

/** More topics in a statement are not faster, and a call then waits longer for its topic. */
const topicsTogether = 20;
const sessions = 2;
/** After a pause of this length the load is over. */
const idleMs = 5_000;
/** A topic can be deleted between the look for its segment and the read of its table. */
const triesMax = 5;

/**
 * Reads the ends of many topics at the load. Its sessions keep what they know of each table in
 * memory, so they are its own, and end after the load.
 */
export class LoadedEnds {
  readonly #connections: readonly Connection[];
  readonly #clock: Clock;
  #reads = 0;
  #stopped = false;
  #cancel: () => void = () => undefined;

  constructor(connect: (purpose: string) => Connection, clock: Clock) {
    this.#connections = Array.from({ length: sessions }, (_, index) => connect(`ends-${index}`));
    this.#clock = clock;
  }

  /** @throws Fault */
  async read(topicIds: readonly number[]): Promise<Map<number, LogEnd[]>> {
    this.#reads++;
    this.#cancel();
    try {
      const found = new Map<number, LogEnd[]>();
      for (let at = 0; at < topicIds.length; at += topicsTogether) {
        for (const [id, ends] of await this.#readSome(topicIds.slice(at, at + topicsTogether))) found.set(id, ends);
      }
      return found;
    } finally {
      if (--this.#reads === 0) this.#restLater();
    }
  }

  /** The storage closes the connections. */
  stop(): void {
    this.#cancel();
    this.#stopped = true;
  }

  async #readSome(topicIds: readonly number[], tries = 1): Promise<Map<number, LogEnd[]>> {
    const [one, other] = this.#connections as [Connection, Connection];
    try {
      return await (one.load <= other.load ? one : other).run(async (client) => {
        const { rows } = await client.query<{ id: number; segment: number }>(
          'SELECT id, segment FROM millrace.topics WHERE id = ANY ($1::integer[])',
          [arrayLiteral(topicIds)],
        );
        return readEnds(client, rows);
      });
    } catch (error) {
      if (!(error instanceof Fault) || sqlState(error.cause) !== undefinedTableState || tries === triesMax) throw error;
      return this.#readSome(topicIds, tries + 1);
    }
  }

  #restLater(): void {
    if (this.#stopped) return;
    this.#cancel = this.#clock.after(idleMs, () => {
      for (const connection of this.#connections) connection.rest();
    });
  }
}
