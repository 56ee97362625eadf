import { parseDatabaseAddress, type DatabaseAddress } from '../address/database-address.ts';
import { startEmbeddedPostgres } from '../embedded/embedded.ts';
import type { Settings } from '../config/settings.ts';
import type { Logger } from 'pino';

/** The database that the settings ask for. */
export interface Database {
  /** The connection string of the broker. */
  readonly address: DatabaseAddress;
  /** The connection string for psql; null for a database that the operator named. */
  readonly shownUrl: string | null;
  stop(): Promise<void>;
}

/** Starts the embedded PostgreSQL if no other database is named. @throws EmbeddedPostgresError */
export async function provideDatabase(settings: Settings, log: Logger): Promise<Database> {
  if (settings.database !== null) {
    return { address: settings.database, shownUrl: null, stop: () => Promise.resolve() };
  }
  const embedded = await startEmbeddedPostgres({
    dataDir: settings.dataDir,
    log: {
      info: (message) => {
        log.info(message);
      },
      warn: (message) => {
        log.warn(message);
      },
    },
  });
  return {
    address: parseDatabaseAddress(embedded.brokerConnectionString),
    shownUrl: embedded.connectionString,
    stop: () => embedded.stop(),
  };
}
