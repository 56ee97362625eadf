import { Client } from 'pg';
import { parseDatabaseAddress } from '../../../src/address/database-address.ts';
import { databaseClock, type Now } from '../../../src/storage/pg/now.ts';
import { Connection, writerSettings } from '../../../src/storage/sessions/connection.ts';
import { takeFence } from '../../../src/storage/sessions/fence.ts';
import { AckRing, type AckTable } from '../../../src/commit/ack-ring.ts';
import type { AckRow } from '../../../src/commit/store.ts';
import type { FoldResult, StoredCursor } from '../../../src/delivery/ports/store.ts';
import { PostgresCommitStore } from '../../../src/storage/commit/commit-store.ts';
import { UnsettledSessions } from '../../../src/storage/commit/unsettled.ts';
import { GroupStorage } from '../../../src/storage/groups/groups.ts';
import { ackSlot, foldSlot, groupSlot, Writer } from '../../../src/storage/sessions/writer.ts';
import { systemClock } from '../../../src/time/system.ts';
import { createMigratedDatabase, type TestDatabase } from '../../support/database.ts';

/** The storage of groups, with the ring of ack tables of a broker. */
export class SiteStorage extends GroupStorage {
  readonly #ring = new AckRing();
  readonly #commits: PostgresCommitStore;

  constructor(groups: ConstructorParameters<typeof GroupStorage>[0], commits: PostgresCommitStore) {
    super(groups);
    this.#commits = commits;
  }

  appendRound({ deltas }: Pick<AckRow, 'deltas'>): Promise<void> {
    return this.#commits.appendAcks({ table: this.#ring.current, deltas, receipts: [] });
  }

  foldAll(snapshots: () => Iterable<StoredCursor>, mayGoOn?: () => boolean): Promise<FoldResult> {
    this.#ring.turn();
    return this.fold(this.#ring.current, snapshots, mayGoOn);
  }
}

/** A migrated database with topics 1 to 9, and the group storage of any number of brokers. */
export class GroupSite {
  readonly database: TestDatabase;
  /** A session that is not of a broker. */
  readonly client: Client;
  /** The present time for the statements of the brokers. */
  now: Now = databaseClock;
  readonly #connections: Connection[] = [];
  readonly #clients: Client[] = [];

  private constructor(database: TestDatabase, client: Client) {
    this.database = database;
    this.client = client;
  }

  static async open(): Promise<GroupSite> {
    const database = await createMigratedDatabase();
    const client = new Client({ connectionString: database.url });
    await client.connect();
    await client.query(
      `INSERT INTO millrace.topics (name, semantics, idempotency_window_ms, description, segment)
       SELECT 'topic-' || n, 'PUB_SUB', 1000, '', 1 FROM generate_series(1, 9) AS n ORDER BY n`,
    );
    return new GroupSite(database, client);
  }

  /** Makes `broker` the owner in that epoch. */
  async own(broker: string, epoch: number): Promise<SiteStorage> {
    await takeFence(this.client, broker, epoch, [ackSlot, groupSlot, foldSlot]);
    return this.storage(broker, epoch);
  }

  /** The storage of a broker that acts as the owner in that epoch. */
  storage(broker: string, epoch: number): SiteStorage {
    const fence = (slot: number) => ({ broker, slot, epoch: () => epoch });
    const admin = new Writer(this.#connection(broker, 'admin'), fence(groupSlot));
    const filled = new Set<AckTable>();
    const now = (): string | null => this.now();
    const commits = new PostgresCommitStore({
      connect: (purpose) => this.#connection(broker, purpose),
      brokerId: broker,
      epoch: () => epoch,
      appendSlots: 0,
      lookups: this.#connection(broker, 'lookup'),
      admin,
      unsettled: new UnsettledSessions(),
      acks: this.#connection(broker, 'acks'),
      acksFence: fence(ackSlot),
      filled,
      now,
    });
    const groups = {
      reads: this.#connection(broker, 'reads'),
      groups: new Writer(this.#connection(broker, 'groups'), fence(groupSlot)),
      filled,
      folds: new Writer(this.#connection(broker, 'folds'), fence(foldSlot)),
      now,
      log: { warn: () => undefined },
    };
    return new SiteStorage(groups, commits);
  }

  /** Another session that is not of a broker. */
  async session(): Promise<Client> {
    const client = new Client({ connectionString: this.database.url });
    await client.connect();
    this.#clients.push(client);
    return client;
  }

  async count(table: string): Promise<number> {
    const { rows } = await this.client.query<{ n: number }>(`SELECT count(*)::int AS n FROM millrace.${table}`);
    return rows[0]!.n;
  }

  async close(): Promise<void> {
    await Promise.all(this.#connections.map((connection) => connection.close()));
    await Promise.all([this.client, ...this.#clients].map((client) => client.end()));
    await this.database.drop();
  }

  #connection(broker: string, purpose: string): Connection {
    const connection = new Connection({
      address: parseDatabaseAddress(this.database.url),
      applicationName: `millrace/${broker}/${purpose}`,
      clock: systemClock,
      settings: writerSettings,
    });
    this.#connections.push(connection);
    return connection;
  }
}
