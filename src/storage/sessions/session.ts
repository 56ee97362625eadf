import type { Socket } from 'node:net';
import { userInfo } from 'node:os';
import type { Client, Connection as Wire } from 'pg';
import { isSocket, shownHost, type DatabaseAddress, type DatabaseHost } from '../../address/database-address.ts';
import { present } from '../../errors/present.ts';
import { Fault } from '../../errors/fault.ts';
import type { Clock } from '../../time/clock.ts';
import { answered } from '../pg/answered.ts';
import { DriverClient } from '../pg/driver.ts';
import { faultOf, sqlState } from '../pg/faults.ts';
import type { ServerChoice, ServerIdentity } from './server-choice.ts';
import { checkSettings, setSettings, settingNames, type Settings } from './session-settings.ts';
import { encryptionsOf, type Encryption } from './tls.ts';

/** Longer than a working database takes to set and to show all settings. */
const startMs = 5_000;
const invalidAuthorization = '28000';

export interface SessionOptions {
  readonly address: DatabaseAddress;
  /** `millrace/<broker id>/<purpose>`, for operators; no decision depends on it. */
  readonly applicationName: string;
  /** The settings that the session's purpose adds. */
  readonly settings?: Settings;
  readonly clock: Clock;
  /** The server of all sessions of the broker. */
  readonly server?: ServerChoice;
  /** Whether this session chooses the server for all others. */
  readonly chooses?: boolean;
}

/**
 * Identifies a session for ever by its process id and its start, because process ids are used
 * again.
 */
export interface SessionIdentity {
  readonly pid: number;
  /** Microseconds since the epoch. It is text, because a comparison must be exact. */
  readonly startUs: string;
  /** The id of the role that logged in. */
  readonly roleId: string;
  readonly server: ServerIdentity;
}

const identities = new WeakMap<Client, SessionIdentity>();

/** The identity of a client's session. @throws Error if `openSession` did not open it. */
export function identityOf(client: Client): SessionIdentity {
  const identity = identities.get(client);
  if (identity === undefined) throw new Error('the session was not opened here');
  return identity;
}

/**
 * The function of the server that sends a warning when the wait for a replica is cancelled. The
 * commit is then confirmed, but it is on one machine only.
 */
const replicaWait = 'SyncRepWaitForLSN';
const unreplicated = new WeakSet<Client>();

/** Whether the server confirmed a commit of this session without the synchronous replica. */
export function hasUnreplicatedCommit(client: Client): boolean {
  return unreplicated.has(client);
}

/**
 * Opens a session with all its settings, on the chosen server or on the first host that accepts
 * writes. When the session ends, it calls `onEnd` once or several times.
 *
 * @throws Fault; an error with which the server rejects the session is thrown unchanged.
 */
export async function openSession(options: SessionOptions, onEnd: (client: Client) => void): Promise<Client> {
  const { server, chooses = false } = options;
  const client = await openOnFirst(options, placesOf(options), onEnd);
  const found = identityOf(client).server;
  try {
    if (chooses) server?.choose(found);
    else server?.admit(found);
  } catch (error) {
    drop(client);
    throw error;
  }
  return client;
}

/** A host of the connection string, and the host to connect to. */
type Place = Pick<ServerIdentity, 'named' | 'reached'>;

function placesOf({ address, server, chooses = false }: SessionOptions): readonly Place[] {
  const byName = address.hosts.map((host) => ({ named: host, reached: host }));
  const chosen = server?.chosen ?? null;
  if (chosen === null) return byName;
  if (!chooses) return [chosen];
  // The address comes first: under another of its addresses, the server would count as another one.
  return server?.owned === true ? [chosen, ...byName] : byName;
}

async function openOnFirst(
  options: SessionOptions,
  places: readonly Place[],
  onEnd: (client: Client) => void,
): Promise<Client> {
  const refusals = new Map<string, unknown>();
  for (const { named, reached } of places) {
    try {
      return await openAt(options, named, reached, onEnd);
    } catch (error) {
      refusals.set(`${shownHost(named)}: ${messageOf(error)}`, error);
    }
  }
  const [first, ...others] = refusals.values();
  if (others.length === 0) throw first;
  const all = [...refusals.keys()].join('; ');
  throw new Fault('DATABASE_UNAVAILABLE', `no host of the database can be used: ${all}`, first);
}

/** Tries TLS and no TLS in the mode's order; the second only if the server refused the first. */
async function openAt(
  options: SessionOptions,
  named: DatabaseHost,
  reached: DatabaseHost,
  onEnd: (client: Client) => void,
): Promise<Client> {
  const encryptions = await encryptionsOf(options.address.tls, named).catch((error: unknown) => {
    throw unusable(named, error);
  });
  for (const [index, tls] of encryptions.entries()) {
    try {
      return await start(options, named, reached, tls, onEnd);
    } catch (error) {
      if (index === encryptions.length - 1 || !refusesEncryption(error)) throw error;
    }
  }
  throw new Error('there is a way to connect in every mode');
}

/**
 * Whether the other encryption may work: the server has no TLS, the handshake failed, or a rule of
 * pg_hba.conf forbids this one.
 */
function refusesEncryption(error: unknown): boolean {
  const cause = error instanceof Fault ? error.cause : error;
  const state = sqlState(cause);
  if (state !== null) return state === invalidAuthorization;
  return /\bSSL connection/.test(messageOf(cause)) || !(faultOf(cause, false) instanceof Fault);
}

async function start(
  options: SessionOptions,
  named: DatabaseHost,
  reached: DatabaseHost,
  tls: Encryption,
  onEnd: (client: Client) => void,
): Promise<Client> {
  const { address, applicationName, settings = {}, clock } = options;
  const user = address.user ?? userOfSystem();
  const client = new DriverClient({
    ...reached,
    user,
    database: address.database ?? user,
    password: address.password,
    applicationName,
    tls,
    connectTimeoutMs: address.connectTimeoutMs,
  });
  // An idle client emits `error` when its server disappears, which would end a process without a
  // listener.
  const ended = (): void => {
    onEnd(client);
  };
  client.on('error', ended);
  client.on('end', ended);
  client.on('notice', ({ routine }) => {
    if (routine === replicaWait) unreplicated.add(client);
  });
  try {
    await client.connect().catch((error: unknown) => {
      throw unusable(named, error, tls === false ? null : address.tls.mode);
    });
    const own = { ...settings, application_name: applicationName };
    await answered(client, { withinMs: startMs, clock }, async () => {
      await setSettings(client, own);
      await identify(client, named, reached, own);
    });
    return client;
  } catch (error) {
    drop(client);
    throw error;
  }
}

function userOfSystem(): string {
  try {
    return userInfo().username;
  } catch (cause) {
    throw new Fault('DATABASE_UNAVAILABLE', 'the connection string names no user, and this process has none', cause);
  }
}

interface Shown {
  readonly pid: number;
  readonly start_us: string | null;
  readonly role_id: string;
  readonly address: string | null;
  readonly port: number | null;
  readonly started_us: string;
  readonly in_recovery: boolean;
  readonly timeline: string | null;
  readonly settings: (string | null)[];
}

/**
 * Reads the settings back, and the identity of the session and its server.
 *
 * @throws Fault if a setting was not kept, or the server is a replica.
 */
async function identify(client: Client, named: DatabaseHost, reached: DatabaseHost, own: Settings): Promise<void> {
  const names = settingNames(own);
  const { rows } = await client.query<Shown>(
    `SELECT a.pid, (extract(epoch FROM a.backend_start) * 1000000)::bigint AS start_us, a.usesysid::text AS role_id,
            inet_server_addr()::text AS address, inet_server_port() AS port,
            (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint AS started_us,
            pg_is_in_recovery() AS in_recovery,
            CASE WHEN NOT pg_is_in_recovery() THEN left(pg_walfile_name(pg_current_wal_lsn()), 8) END AS timeline,
            ARRAY(SELECT current_setting(name, true) FROM unnest($1::text[]) WITH ORDINALITY AS asked (name, place)
                   ORDER BY place) AS settings
       FROM pg_stat_get_activity(pg_backend_pid()) AS a`,
    [names],
  );
  const found = present(rows[0], 'a session has one backend');
  checkSettings(own, new Map(names.map((name, index) => [name, found.settings[index] ?? null])));
  if (found.in_recovery || found.timeline === null) throw isReplica(named);
  if (found.start_us === null) throw seesNothing();
  identities.set(client, {
    pid: found.pid,
    startUs: found.start_us,
    roleId: found.role_id,
    server: {
      named,
      reached: addressOf(client, reached),
      address: found.address,
      port: found.port,
      startedUs: found.started_us,
      timeline: found.timeline,
    },
  });
}

/** The address behind a host name, so that all other sessions reach the same server. */
function addressOf(client: Client, reached: DatabaseHost): DatabaseHost {
  if (isSocket(reached)) return reached;
  const { remoteAddress } = socketOf(client);
  return { host: remoteAddress ?? reached.host, port: reached.port };
}

function isReplica(named: DatabaseHost): Fault {
  return new Fault(
    'DATABASE_UNAVAILABLE',
    `the database at ${shownHost(named)} is a read-only replica: name its primary`,
  );
}

function seesNothing(): Fault {
  return new Fault(
    'DATABASE_UNAVAILABLE',
    'the role does not see the start times of its own sessions, which identify them: it must not SET ROLE, or needs pg_read_all_stats',
  );
}

/** Trouble of the network or of TLS is never a bug: it passes, or an operator must mend it. */
function unusable(host: DatabaseHost, error: unknown, mode: string | null = null): Error {
  if (sqlState(error) !== null) return error as Error;
  const known = faultOf(error, false);
  if (known instanceof Fault) return known;
  const how = mode === null ? '' : ` by TLS (sslmode=${mode})`;
  return new Fault(
    'DATABASE_UNAVAILABLE',
    `the database at ${shownHost(host)} cannot be used${how}: ${known.message}`,
    error,
  );
}

function socketOf(client: Client): Socket {
  return (client as unknown as { readonly connection: Wire }).connection.stream as Socket;
}

/** Ends an unusable session, and does not wait until the server closes it. */
function drop(client: Client): void {
  void client.end().catch(() => undefined);
  socketOf(client).destroy();
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
