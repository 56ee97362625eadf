import type { Client } from 'pg';
import { Fault } from '../../errors/fault.ts';
import type { Connection } from './connection.ts';
import { faultOf } from '../pg/faults.ts';
import { signFence, type Fence } from './fence.ts';
import { inOneRoundTrip, type Statement } from '../pg/one-round-trip.ts';

/** Fence slots that are not of appends, which have slots 0, 1, 2, … */
export const ackSlot = 1000;
export const groupSlot = 1001;
export const topicSlot = 1002;
export const foldSlot = 1003;
export const tableSlot = 1004;
export const retentionSlot = 1005;

/** Runs fenced transactions on one connection. None commits after another broker has taken over. */
export class Writer {
  readonly #connection: Connection;
  readonly #fence: Fence;

  constructor(connection: Connection, fence: Fence) {
    this.#connection = connection;
    this.#fence = fence;
  }

  /**
   * Runs `work` in a transaction. It has committed only if the answer to COMMIT is COMMIT, because
   * the server answers a failed transaction with ROLLBACK and no error.
   *
   * @throws Fault; any other error of `work` is thrown unchanged, after a rollback.
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

  /**
   * Runs one statement as a fenced transaction, in one round trip instead of four.
   *
   * @throws Fault
   */
  write(statement: Statement): Promise<void> {
    return this.#connection.run(async (client) => {
      const { broker, slot, epoch } = this.#fence;
      await signFence(client, this.#fence);
      // The name differs from `fence`, because `pg` does not know of statements prepared here.
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
