import type { Client } from 'pg';
import { Fault } from '../../errors/fault.ts';
import type { Connection } from './connection.ts';
import { faultOf } from '../pg/faults.ts';
import { signFence, type Fence } from './fence.ts';
import { inOneRoundTrip, type Statement } from '../pg/one-round-trip.ts';

/** Slots beside those of the appends, which are 0, 1, 2, … */
export const ackSlot = 1000;
export const groupSlot = 1001;
export const topicSlot = 1002;
export const foldSlot = 1003;
export const tableSlot = 1004;

/** Runs fenced transactions on one connection: none of them commits once another broker has taken over. */
export class Writer {
  readonly #connection: Connection;
  readonly #fence: Fence;

  constructor(connection: Connection, fence: Fence) {
    this.#connection = connection;
    this.#fence = fence;
  }

  /**
   * Runs `work` in a transaction. It counts only if every statement succeeded and the answer to COMMIT is COMMIT: a
   * transaction that failed answers ROLLBACK, without an error.
   *
   * @throws Fault; what `work` throws beside that, as it is, after a rollback.
   */
  transaction<T>(work: (client: Client) => Promise<T>): Promise<T> {
    return this.#connection.run(async (client) => {
      const { broker, slot, epoch } = this.#fence;
      await signFence(client, this.#fence);
      let commitSent = false;
      try {
        await client.query('BEGIN');
        await client.query({
          name: 'fence',
          text: 'SELECT millrace.fence($1, $2, $3)',
          values: [broker, slot, epoch()],
        });
        const result = await work(client);
        commitSent = true;
        const { command } = await client.query('COMMIT');
        if (command !== 'COMMIT') throw new Fault('DATABASE_UNAVAILABLE', 'the transaction was rolled back');
        return result;
      } catch (error) {
        const fault = faultOf(error, commitSent);
        await client.query('ROLLBACK').catch(() => undefined);
        throw fault;
      }
    });
  }

  /** The same for one statement that is known beforehand, in one round trip instead of four. @throws Fault */
  write(statement: Statement): Promise<void> {
    return this.#connection.run(async (client) => {
      const { broker, slot, epoch } = this.#fence;
      await signFence(client, this.#fence);
      // The name is its own: `pg` keeps account of the statements that it has prepared itself.
      const fence = {
        name: 'fence_first',
        text: 'SELECT millrace.fence($1, $2, $3)',
        parameters: [broker, slot, epoch()],
      };
      try {
        await inOneRoundTrip(client, [fence, statement]);
      } catch (error) {
        throw faultOf(error, true);
      }
    });
  }
}
