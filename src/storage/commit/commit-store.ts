import { Fault } from '../../errors/fault.ts';
import type { AckTable } from '../../commit/ack-ring.ts';
import type { AckRow, AppendedBatch, AppendTransaction, CommitStore } from '../../commit/store.ts';
import type { IdempotencyHit } from '../../log/known-keys.ts';
import { appendSettings, type Connection, type ConnectionOptions } from '../sessions/connection.ts';
import type { Writer } from '../sessions/writer.ts';
import { faultOf } from '../pg/faults.ts';
import type { Now } from '../pg/now.ts';
import { inOneRoundTrip } from '../pg/one-round-trip.ts';
import { signFence, type Fence } from '../sessions/fence.ts';
import { ackStatement, findReceipt } from './ack-log.ts';
import { append } from './append.ts';
import { currentKeyTable, findKeys, turnRing } from './idempotency.ts';
import type { UnsettledSessions } from './unsettled.ts';

interface CommitStoreOptions {
  readonly connect: (purpose: string, settings?: ConnectionOptions['settings']) => Connection;
  readonly brokerId: string;
  readonly epoch: () => number;
  readonly appendSlots: number;
  readonly lookups: Connection;
  /** Runs the statements that lock whole topics. */
  readonly admin: Writer;
  /** Sessions that may still run an append. */
  readonly unsettled: UnsettledSessions;
  /**
   * The connection of ack rounds without an append: each is one statement, without BEGIN and
   * COMMIT.
   */
  readonly acks: Connection;
  readonly acksFence: Fence;
  /** Tables of the ack log that may have rows. */
  readonly filled: Set<AckTable>;
  readonly now: Now;
}

/** Commits publishes, acks and settlements in PostgreSQL. */
export class PostgresCommitStore implements CommitStore {
  readonly appendSlots: number;
  readonly #o: CommitStoreOptions;
  readonly #writers: readonly Connection[];
  /** The table for new idempotency keys; null: not read yet. */
  #keyTable: number | null = null;
  /**
   * Whether keys were stored since the last turn, because an idle broker does not turn the ring.
   */
  #keysStored = true;

  constructor(options: CommitStoreOptions) {
    this.#o = options;
    this.appendSlots = options.appendSlots;
    this.#writers = Array.from({ length: options.appendSlots }, (_, slot) =>
      options.connect(`append-${slot}`, appendSettings),
    );
  }

  async append(slot: number, transaction: AppendTransaction): Promise<AppendedBatch[]> {
    const writer = this.#writers[slot];
    if (writer === undefined) throw new Error(`there is no write connection ${slot}`);
    const keyTable = transaction.keys.length === 0 ? 0 : await this.#currentKeyTable();
    if (transaction.keys.length > 0) this.#keysStored = true;
    const { brokerId, epoch, unsettled, filled, now } = this.#o;
    if (transaction.acks !== null) filled.add(transaction.acks.table);
    return writer.run(async (client) => {
      try {
        return await append(client, { broker: brokerId, slot, epoch }, transaction, keyTable, now);
      } catch (error) {
        if (error instanceof Fault && error.kind === 'OUTCOME_UNKNOWN') unsettled.add(client);
        throw error;
      }
    });
  }

  async appendAcks(row: AckRow): Promise<void> {
    const { acks, acksFence, filled } = this.#o;
    filled.add(row.table);
    await acks.run(async (client) => {
      await signFence(client, acksFence);
      try {
        await inOneRoundTrip(client, [ackStatement(acksFence, row)]);
      } catch (error) {
        // The statement is a transaction, so a connection that breaks may break after its commit.
        throw faultOf(error, true);
      }
    });
  }

  async hasReceipt(table: AckTable, receipt: string): Promise<boolean> {
    await this.#o.lookups.run((client) => this.#o.unsettled.end(client));
    // The fence is needed, because a successor may have truncated the table.
    return this.#o.admin.transaction((client) => findReceipt(client, table, receipt));
  }

  findKeys(topicId: number, windowMs: number, keys: readonly string[]): Promise<Map<string, IdempotencyHit>> {
    return this.#o.lookups.run((client) => findKeys(client, topicId, windowMs, keys, this.#o.now));
  }

  async turnIdempotencyRing(): Promise<void> {
    if (!this.#keysStored) return;
    const before = await this.#currentKeyTable();
    this.#keyTable = await this.#o.admin.transaction((client) => turnRing(client, this.#o.now));
    if (this.#keyTable !== before) this.#keysStored = false;
  }

  async #currentKeyTable(): Promise<number> {
    this.#keyTable ??= await this.#o.lookups.run(currentKeyTable);
    return this.#keyTable;
  }
}
