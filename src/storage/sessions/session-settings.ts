import type { Client } from 'pg';
import { Fault } from '../../errors/fault.ts';
import { pg } from '../pg/driver.ts';
import { sqlState } from '../pg/faults.ts';

export type Settings = Readonly<Record<string, string>>;

/**
 * What every session relies on, whatever the defaults of the server, the database, the role and a pooler are. The values are as the
 * server shows them, because they are compared with what it shows.
 */
const sessionSettings = {
  search_path: 'pg_catalog',
  // How values are read and written as text.
  client_encoding: 'UTF8',
  DateStyle: 'ISO, YMD',
  IntervalStyle: 'postgres',
  TimeZone: 'UTC',
  extra_float_digits: '1',
  bytea_output: 'hex',
  standard_conforming_strings: 'on',
  array_nulls: 'on',
  transform_null_equals: 'off',
  // What a transaction is.
  default_transaction_isolation: 'read committed',
  default_transaction_read_only: 'off',
  default_transaction_deferrable: 'off',
  // A policy that hides rows from a query is an error, not a shorter answer.
  row_security: 'off',
  exit_on_error: 'off',
  // Every query here is a look-up by a whole key or a prefix of one: one plan serves all parameters.
  plan_cache_mode: 'force_generic_plan',
  jit: 'off',
  client_min_messages: 'warning',
  // Every limit of time of the server: none, unless the session's purpose has one.
  statement_timeout: '0',
  lock_timeout: '0',
  idle_session_timeout: '0',
  idle_in_transaction_session_timeout: '0',
  transaction_timeout: '0',
} as const satisfies Settings;

/** Only some roles may set it, also to what it is. With `replica`, foreign keys do not hold. */
const privilegedSettings: Settings = { session_replication_role: 'origin' };

/**
 * The server ends sessions of a machine that is gone after half a minute. Not compared: a Unix socket has none of these, and shows 0.
 */
const keepalives: Settings = { tcp_keepalives_idle: '15', tcp_keepalives_interval: '5', tcp_keepalives_count: '3' };

/** With these a commit is confirmed that is not on disk yet. Stronger ones, remote_apply say, stay. */
const weakCommits = ['off', 'local'];

/** A statement_timeout of the role, one millisecond say, may end the statement that would take it away. */
const setTriesMax = 20;
const queryCanceled = '57014';

/** Sets all settings of a session, in one round trip. Names that an older server does not know are passed over. */
export async function setSettings(client: Client, own: Settings): Promise<void> {
  const text = settingText(own);
  for (let tries = 1; ; tries++) {
    try {
      await client.query(text);
      return;
    } catch (error) {
      if (sqlState(error) !== queryCanceled || tries === setTriesMax) throw error;
    }
  }
}

/**
 * Statements of one message: each has a limit of time of its own, so that the first one is over before that of the role could strike. Not by the start
 * parameter `options`, which a pooler refuses.
 */
function settingText(own: Settings): string {
  const rows = (settings: Settings, always: boolean): string[] =>
    Object.entries(settings).map(([name, value]) => `(${literal(name)}, ${literal(value)}, ${always})`);
  const wanted = [...rows({ ...sessionSettings, ...keepalives, ...own }, true), ...rows(privilegedSettings, false)];
  return `SET statement_timeout = 0;
SET search_path = pg_catalog;
SELECT set_config(name, value, false) FROM (VALUES ${wanted.join(', ')}) AS wanted (name, value, always)
 WHERE current_setting(name, true) IS NOT NULL AND (always OR current_setting(name) <> value)
UNION ALL
SELECT set_config('synchronous_commit', 'on', false)
 WHERE current_setting('synchronous_commit') IN (${weakCommits.map(literal).join(', ')})`;
}

function literal(text: string): string {
  return pg.escapeLiteral(text);
}

/** Names of what is read back. */
export function settingNames(own: Settings): string[] {
  return [...Object.keys(expected(own)), 'synchronous_commit'];
}

/** Compares what was read back (by another statement, so that a pooler may have another session for it) with what was set. @throws Fault */
export function checkSettings(own: Settings, shown: ReadonlyMap<string, string | null>): void {
  for (const [name, value] of Object.entries(expected(own))) {
    const found = shown.get(name) ?? null;
    if (found !== null && found !== value) throw notKept(name, value, found);
  }
  const commit = shown.get('synchronous_commit') ?? '';
  if (weakCommits.includes(commit)) throw notKept('synchronous_commit', 'on', commit);
}

function expected(own: Settings): Settings {
  return { ...sessionSettings, ...privilegedSettings, ...own };
}

function notKept(name: string, value: string, found: string): Fault {
  const why = 'a pooler between them must give each session a server of its own';
  return new Fault(
    'DATABASE_UNAVAILABLE',
    `a session of the database does not keep what is set: ${name} is "${found}" and was set to "${value}"; ${why}`,
  );
}
