import { createRequire } from 'node:module';
import type { ConnectionOptions } from 'node:tls';
import type * as Pg from 'pg';

const require = createRequire(import.meta.url);
// The variable makes `pg` load a binding of libpq, which may not be installed. `pg` reads the
// variable once, when it is loaded.
delete process.env['NODE_PG_FORCE_NATIVE'];
export const pg = require('pg') as typeof Pg;

/** All options of a connection. */
interface DriverOptions {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly database: string;
  readonly password: string | null;
  readonly applicationName: string;
  /** false: no TLS. */
  readonly tls: ConnectionOptions | false;
  readonly connectTimeoutMs: number;
}

/** A client of `pg` that ignores the environment. */
export class DriverClient extends pg.Client {
  readonly #startParameters: Readonly<Record<string, string>>;

  constructor(options: DriverOptions) {
    const { host, port, user, database, password, applicationName, tls, connectTimeoutMs } = options;
    super({
      host,
      port,
      user,
      database,
      // A function, because `pg` reads PGPASSWORD and ~/.pgpass in place of an empty value.
      password: () => {
        if (password === null) throw new Error('the database asks for a password, and the connection string has none');
        return password;
      },
      // These options are always given, because `pg` reads a missing one from its PG* variable.
      ssl: tls,
      sslnegotiation: 'postgres',
      client_encoding: 'UTF8',
      connectionTimeoutMillis: connectTimeoutMs,
      keepAlive: true,
    });
    this.#startParameters = { user, database, application_name: applicationName };
  }

  /** Replaces the start parameters of `pg`, which adds PGOPTIONS and PGREPLICATION to them. */
  getStartupConf(): Readonly<Record<string, string>> {
    return this.#startParameters;
  }
}
