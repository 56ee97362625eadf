import type { Client } from 'pg';
import { Fault } from '../../errors/fault.ts';
import { pg } from '../pg/driver.ts';
import { sqlState } from '../pg/faults.ts';

export type Settings = Readonly<Record<string, string>>;

/**
 * The settings that every session needs, whatever the defaults of the server, the database, the
 * role and a pooler are. The values are written as the server shows them, because `checkSettings`
 * compares both.
 */
const sessionSettings = {
  search_path: 'pg_catalog',
  // The text form of values.
  client_encoding: 'UTF8',
  DateStyle: 'ISO, YMD',
  IntervalStyle: 'postgres',
  TimeZone: 'UTC',
  extra_float_digits: '1',
  bytea_output: 'hex',
  standard_conforming_strings: 'on',
  array_nulls: 'on',
  transform_null_equals: 'off',
  // The kind of a transaction.
  default_transaction_isolation: 'read committed',
  default_transaction_read_only: 'off',
  default_transaction_deferrable: 'off',
  // A row-security policy that hides rows raises an error, because a shorter answer would go
  // unnoticed.
  row_security: 'off',
  exit_on_error: 'off',
  // Every query looks up a whole key or a prefix of a key, so one plan serves all parameters.
  plan_cache_mode: 'force_generic_plan',
  jit: 'off',
  client_min_messages: 'warning',
  // No time limits of the server, except those that the purpose of a session sets.
  statement_timeout: '0',
  lock_timeout: '0',
  idle_session_timeout: '0',
  idle_in_transaction_session_timeout: '0',
  transaction_timeout: '0',
} as const satisfies Settings;

/**
 * Only some roles may set this, even to its present value. With `replica`, the server does not
 * check foreign keys.
 */
const privilegedSettings: Settings = { session_replication_role: 'origin' };

/**
 * The server ends the sessions of a dead machine after half a minute. `checkSettings` does not
 * compare them, because a Unix socket has no keepalives and shows 0.
 */
const keepalives: Settings = { tcp_keepalives_idle: '15', tcp_keepalives_interval: '5', tcp_keepalives_count: '3' };

/**
 * With `off`, a commit is confirmed before it is on disk; with `local`, before it is on the
 * synchronous replica. Stronger values, such as remote_apply, stay.
 */
const weakCommits = ['off', 'local'];

/**
 * A short statement_timeout of the role, such as 1 ms, may cancel the statement that removes it.
 */
const setTriesMax = 20;
const queryCanceled = '57014';

/**
 * Sets all settings of a session in one round trip, except names that an older server does not
 * know.
 */
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
 * The timeout of the role counts per statement, so the short first statement can remove it before
 * it strikes. The start parameter `options` is no alternative, because poolers reject it.
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

/** The names of the settings that `checkSettings` compares. */
export function settingNames(own: Settings): string[] {
  return [...Object.keys(expected(own)), 'synchronous_commit'];
}

/**
 * Compares the settings that the server shows with those that were set. A later statement reads
 * them, so that a pooler that changes the session in between is found.
 *
 * @throws Fault
 */
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
  const why = 'a pooler in between must give each session a server connection of its own';
  return new Fault(
    'DATABASE_UNAVAILABLE',
    `a session of the database does not keep what is set: ${name} is "${found}" and was set to "${value}"; ${why}`,
  );
}
