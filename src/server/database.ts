import { statfs } from 'node:fs/promises';
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
  /** How many bytes a database of this size may grow; null if that is not known. */
  freeBytes(databaseBytes: number): Promise<number | null>;
  stop(): Promise<void>;
}

/**
 * Starts the embedded PostgreSQL if no other database is named. The signal ends the start.
 * @throws EmbeddedPostgresError
 */
export async function provideDatabase(settings: Settings, log: Logger, signal: AbortSignal): Promise<Database> {
  const { dataDir, databaseBytesMax } = settings;
  if (settings.database !== null) {
    return {
      address: settings.database,
      shownUrl: null,
      freeBytes: (bytes) => Promise.resolve(databaseBytesMax === 0 ? null : Math.max(0, databaseBytesMax - bytes)),
      stop: () => Promise.resolve(),
    };
  }
  const embedded = await startEmbeddedPostgres({
    dataDir,
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
    async freeBytes() {
      const { bavail, bsize } = await statfs(dataDir);
      return bavail * bsize;
    },
    stop: () => embedded.stop(),
  };
}
