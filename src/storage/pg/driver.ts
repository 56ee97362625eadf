import { createRequire } from 'node:module';
import type { ConnectionOptions } from 'node:tls';
import type * as Pg from 'pg';

const require = createRequire(import.meta.url);
// This variable makes `pg` load a binding of libpq, which need not be installed. It is read once, when `pg` is loaded.
delete process.env['NODE_PG_FORCE_NATIVE'];
export const pg = require('pg') as typeof Pg;

/** Everything that `pg` is told about a connection. */
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

/** A client of `pg` that takes nothing from the environment. */
export class DriverClient extends pg.Client {
  readonly #startParameters: Readonly<Record<string, string>>;

  constructor(options: DriverOptions) {
    const { host, port, user, database, password, applicationName, tls, connectTimeoutMs } = options;
    super({
      host,
      port,
      user,
      database,
      // As a function: for an empty value `pg` looks into PGPASSWORD and ~/.pgpass.
      password: () => {
        if (password === null) throw new Error('the database asks for a password, and the connection string has none');
        return password;
      },
      // Each would come from its PG* variable if it were not given.
      ssl: tls,
      sslnegotiation: 'postgres',
      client_encoding: 'UTF8',
      connectionTimeoutMillis: connectTimeoutMs,
      keepAlive: true,
    });
    this.#startParameters = { user, database, application_name: applicationName };
  }

  /** What the session is started with: `pg` would add PGOPTIONS and PGREPLICATION, which an empty value does not keep out. */
  getStartupConf(): Readonly<Record<string, string>> {
    return this.#startParameters;
  }
}
