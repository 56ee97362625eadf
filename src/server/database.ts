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

/**
 * Starts the embedded PostgreSQL if no other database is named. The signal ends the start.
 * @throws EmbeddedPostgresError
 */
export async function provideDatabase(settings: Settings, log: Logger, signal: AbortSignal): Promise<Database> {
  if (settings.database !== null) {
    return { address: settings.database, shownUrl: null, stop: () => Promise.resolve() };
  }
  const embedded = await startEmbeddedPostgres({
    dataDir: settings.dataDir,
    signal,
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
