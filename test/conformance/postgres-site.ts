import { Client } from 'pg';
import { vi } from 'vitest';
import { parseDatabaseAddress } from '../../src/address/database-address.ts';
import { migrate, refuseNewerSchema } from '../../src/storage/migrations/migrate.ts';
import { endEpoch } from '../../src/storage/ownership/epochs.ts';
import { LeaseStorage } from '../../src/storage/ownership/lease.ts';
import { ServerChoice } from '../../src/storage/sessions/server-choice.ts';
import { ackSlot } from '../../src/storage/sessions/writer.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { systemClock } from '../../src/time/system.ts';
import { LogSite } from '../storage/log/log-site.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { TravelTime } from '../time/travel-time.ts';
import type { LeaseSite, Stores, StoreSite } from './site.ts';

/** Owners whose sessions stay open, so that they can try to write after they are fenced. */
const ownersKept = 2;

export class PostgresStoreSite implements StoreSite {
  readonly #site: LogSite;
  readonly #time = new TravelTime(Math.floor(systemClock.wallMs()));
  readonly #owners: Storage[] = [];
  #epoch = 0;

  private constructor(site: LogSite) {
    this.#site = site;
    site.now = this.#time.iso;
  }

  static async open(): Promise<PostgresStoreSite> {
    return new PostgresStoreSite(await LogSite.open());
  }

  get nowMs(): number {
    return this.#time.ms;
  }

  /** A session that is not of a broker. */
  get client(): Client {
    return this.#site.client;
  }

  /** Another one, which ends with the site. */
  session(): Promise<Client> {
    return this.#site.session();
  }

  async own(): Promise<Stores> {
    this.#epoch += 1;
    await endEpoch(this.client);
    await this.client.query(
      `INSERT INTO millrace.broker_lease (broker, epoch, renewed_at) VALUES ('', $1, '-infinity')
       ON CONFLICT (only_one) DO UPDATE SET epoch = excluded.epoch, renewed_at = excluded.renewed_at`,
      [this.#epoch],
    );
    const storage = await this.#site.own(`broker-${this.#epoch}`, this.#epoch);
    this.#owners.push(storage);
    while (this.#owners.length > ownersKept) await this.#owners.shift()?.close();
    return storage;
  }

  async renew(): Promise<void> {
    await this.client.query('UPDATE millrace.broker_lease SET renewed_at = $1', [this.#time.iso()]);
  }

  pass(ms: number): void {
    this.#time.pass(ms);
  }

  close(): Promise<void> {
    return this.#site.close();
  }
}

export class PostgresLeaseSite implements LeaseSite {
  readonly #database: TestDatabase;
  readonly #admin: Client;
  readonly #leases: LeaseStorage[] = [];
  readonly #time = new TravelTime();

  private constructor(database: TestDatabase, admin: Client) {
    this.#database = database;
    this.#admin = admin;
  }

  static async open(): Promise<PostgresLeaseSite> {
    const database = await createTestDatabase();
    const admin = new Client({ connectionString: database.url });
    await admin.connect();
    return new PostgresLeaseSite(database, admin);
  }

  lease(brokerId: string): LeaseStorage {
    const lease = new LeaseStorage({
      address: parseDatabaseAddress(this.#database.url),
      server: new ServerChoice(),
      brokerId,
      slots: [0, ackSlot],
      clock: systemClock,
      checkVersion: refuseNewerSchema,
      now: this.#time.iso,
      log: { warn: () => undefined },
    });
    this.#leases.push(lease);
    return lease;
  }

  async prepare(): Promise<void> {
    await migrate(this.#admin);
  }

  pass(ms: number): void {
    this.#time.pass(ms);
  }

  async cut(broker: string): Promise<void> {
    await this.#admin.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND starts_with(application_name, $1)`,
      [`millrace/${broker}/`],
    );
  }

  async until(holds: () => Promise<boolean>): Promise<void> {
    await vi.waitUntil(holds, { timeout: 10_000, interval: 5 });
  }

  async close(): Promise<void> {
    await Promise.all(this.#leases.map((lease) => lease.close()));
    await this.#admin.end();
    await this.#database.drop();
  }
}
