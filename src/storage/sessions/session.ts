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

/** Longer than setting and reading settings takes in a database that works. */
const startMs = 5_000;
const invalidAuthorization = '28000';

export interface SessionOptions {
  readonly address: DatabaseAddress;
  /** `millrace/<broker id>/<purpose>`, for people who look at the sessions: nothing rests on it. */
  readonly applicationName: string;
  /** More settings of the session. */
  readonly settings?: Settings;
  readonly clock: Clock;
  /** Where all sessions of the broker are. */
  readonly server?: ServerChoice;
  /** Whether this session decides where the others are. */
  readonly chooses?: boolean;
}

/** Which session of which server a client has. Process ids are used again; together with the start they are one session's for ever. */
export interface SessionIdentity {
  readonly pid: number;
  /** Microseconds since the epoch, exact. */
  readonly startUs: string;
  /** Id of the role that logged in. */
  readonly roleId: string;
  readonly server: ServerIdentity;
}

const identities = new WeakMap<Client, SessionIdentity>();

/** The session of a client that `openSession` has opened. */
export function identityOf(client: Client): SessionIdentity {
  const identity = identities.get(client);
  if (identity === undefined) throw new Error('the session was not opened here');
  return identity;
}

/** The function of the server that warns when somebody cancels the wait for a replica: the commit is confirmed then, and on one machine only. */
const replicaWait = 'SyncRepWaitForLSN';
const unreplicated = new WeakSet<Client>();

/** Whether a commit of the session was confirmed without its synchronous replica. */
export function hasUnreplicatedCommit(client: Client): boolean {
  return unreplicated.has(client);
}

/**
 * Opens one session with all its settings, on the first host that takes writes, or on the chosen server. `onEnd` is called, maybe more
 * than once, when it has ended for whatever reason.
 *
 * @throws Fault; or what the server refuses the session with, as it is.
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

/** A host as the connection string names it, and what is connected to. */
type Place = Pick<ServerIdentity, 'named' | 'reached'>;

function placesOf({ address, server, chooses = false }: SessionOptions): readonly Place[] {
  const byName = address.hosts.map((host) => ({ named: host, reached: host }));
  const chosen = server?.chosen ?? null;
  if (chosen === null) return byName;
  if (!chooses) return [chosen];
  // A server may have several addresses, and under another one it would be taken for another server.
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

/** Tries the ways of encryption in turn; the next one only where the server has refused the one before. */
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

/** Reasons to try without TLS, or with it: the server has none, a handshake fails, or a rule of pg_hba.conf is against it. */
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
  // An idle client whose server goes away emits `error`; without a listener that would end the process.
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

/** Reads back what was set, and which session of which server this is. @throws Fault if it is not what was asked for. */
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

/** The address behind a name, so that the other sessions go where the first one went. */
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
    'the role does not see when its own sessions began, by which they are told apart: it must not SET ROLE, or needs pg_read_all_stats',
  );
}

/** Trouble of the network or of TLS, which passes, or which a person has to see: never a bug. */
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

/** Ends a session that is of no use, without waiting for its goodbye. */
function drop(client: Client): void {
  void client.end().catch(() => undefined);
  socketOf(client).destroy();
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
