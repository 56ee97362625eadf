import { parseDatabaseAddress, WrongAddress, type DatabaseAddress } from '../address/database-address.ts';
import { limits, type TunableLimits } from '../limits/limits.ts';
import { oneOf, onOrOff, parsed, secondsOrForever, text, wholeNumber, WrongValue, type Setting } from './setting.ts';

const portMax = 65_535;
const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof logLevels)[number];

/** Every setting of the broker except its limits. */
export const settingsTable = {
  grpcPort: wholeNumber({ flag: 'grpc-port', meaning: 'Port of gRPC; 0 takes a free one.' }, 50_051, 0, portMax),
  httpPort: wholeNumber(
    { flag: 'http-port', meaning: 'Port of Connect, gRPC-Web, JSON, /readyz and /metrics; 0 takes a free one.' },
    8_080,
    0,
    portMax,
  ),
  host: text(
    {
      flag: 'host',
      value: 'ADDRESS',
      meaning: 'Address to listen on; 0.0.0.0 or :: for all. Callers are not authenticated.',
    },
    '127.0.0.1',
    (given) => (/^[A-Za-z0-9.:_%-]{1,255}$/.test(given) ? null : `"${given}" is not an address or host name`),
  ),
  corsOrigins: text(
    {
      flag: 'cors-origins',
      value: 'ORIGINS',
      meaning:
        'Origins of web pages that may call the broker over HTTP, with commas between them, as https://app.example:8443; * for all.',
    },
    null,
    refuseOrigins,
  ),
  databaseUrl: parsed(
    {
      flag: 'database-url',
      value: 'URL',
      shownDefault: '(an embedded PostgreSQL)',
      meaning:
        'PostgreSQL 14 or newer to use, as postgresql://user:password@host:port/database: docs/configuration.md.',
    },
    databaseAddress,
  ),
  dataDir: text(
    { flag: 'data-dir', value: 'DIRECTORY', meaning: 'Where the embedded PostgreSQL keeps its data.' },
    './data',
    refusePath,
  ),
  databaseBytesMax: wholeNumber(
    {
      flag: 'database-bytes-max',
      meaning:
        'How large the database may become, in bytes, for the metric of its free room; 0: not known. The free disk of an embedded PostgreSQL is measured.',
    },
    0,
    0,
    999_999_999_999_999,
  ),
  logLevel: oneOf({ flag: 'log-level', meaning: 'The least severe level that is logged.' }, 'info', logLevels),
  allowUnsafeDatabase: onOrOff({
    flag: 'allow-unsafe-database',
    meaning: 'Start although the database has fsync or full_page_writes off and loses confirmed messages in a crash.',
  }),
  writeConnections: wholeNumber(
    { flag: 'write-connections', meaning: 'Connections that append and commit. Each has one transaction at a time.' },
    4,
    1,
    64,
  ),
  defaultRetentionMs: secondsOrForever(
    {
      flag: 'default-retention',
      meaning:
        'How long a topic that is created without a retention keeps records that every group has completed, in seconds.',
    },
    limits.afterCompletionMsDefault,
    limits.retentionMsMin,
    limits.retentionMsMax,
  ),
  brokerId: text(
    {
      flag: 'broker-id',
      value: 'NAME',
      shownDefault: '(host name and a random part)',
      meaning:
        'Name of this broker in the lease, and of its sessions in application_name; two running brokers may not share it.',
    },
    null,
    (given) => (/^[A-Za-z0-9._-]{1,40}$/.test(given) ? null : `"${given}" is not 1 to 40 of A-Z a-z 0-9 . _ -`),
  ),
  assignorModules: text(
    {
      flag: 'assignor-modules',
      value: 'PATHS',
      meaning: `Modules with your own assignors, at most ${limits.assignorModulesMax}, with commas between them: docs/assignors.md.`,
    },
    null,
    refuseModulePaths,
  ),
} as const satisfies Record<string, Setting<unknown>>;

const mebibyte = 1_048_576;

/** The limits that can be set. The proto comments explain them to clients. */
export const limitsTable: { readonly [Name in keyof TunableLimits]: Setting<number> } = {
  recordBytesMax: limit('recordBytesMax', 'Largest record, in bytes.', 1, 3 * mebibyte),
  partitionsMax: limit('partitionsMax', 'Most partitions of a topic.', 1, 100_000),
  groupMembersMax: limit('groupMembersMax', 'Most members of a group.', 1, 100_000),
  offsetRetentionMs: limit(
    'offsetRetentionMs',
    'How long a group without members keeps its offsets, in milliseconds. Then it is deleted, if none of its ' +
      'subscriptions is ACTIVE or PAUSED. 0: for ever.',
    0,
    315_360_000_000,
  ),
  publishQueueBytesMax: limit(
    'publishQueueBytesMax',
    'Publishes until their commit, in bytes; beyond it they are rejected.',
    // The largest request must fit with its keys, or the broker would never accept it.
    4 * limits.publishBytesMax,
    4_096 * mebibyte,
  ),
  tailCacheBytesMax: limit(
    'tailCacheBytesMax',
    'Recent batches kept in memory for readers, in bytes.',
    mebibyte,
    16_384 * mebibyte,
  ),
  streamUnsentBytesMax: limit(
    'streamUnsentBytesMax',
    'Bytes written to one stream and not yet read by its client.',
    65_536,
    64 * mebibyte,
  ),
  slowReaderMs: limit(
    'slowReaderMs',
    'A stream ends when its client has taken nothing of what waits for so long, in milliseconds.',
    1_000,
    86_400_000,
  ),
};

function limit(name: keyof TunableLimits, meaning: string, min: number, max: number): Setting<number> {
  const flag = name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  return wholeNumber({ flag, meaning }, limits[name], min, max);
}

/** The error does not repeat the URL, because its password must not end up in a log. */
function databaseAddress(given: string): DatabaseAddress {
  try {
    return parseDatabaseAddress(given);
  } catch (error) {
    throw error instanceof WrongAddress ? new WrongValue(error.message) : error;
  }
}

/** An origin as browsers send it: in lower case, without a path. */
const originForm = /^[a-z][a-z0-9+.-]*:\/\/[a-z0-9._:[\]-]+$/;

function refuseOrigins(given: string): string | null {
  const wrong = given.split(',').find((origin) => origin !== '*' && !originForm.test(origin));
  return wrong === undefined ? null : `"${wrong}" is not an origin as browsers send it, e.g. https://app.example`;
}

/** Node replaces bytes of an argument that are not UTF-8, so two paths could become one. */
function refusePath(given: string): string | null {
  if (given.includes('\0')) return 'is not a path';
  return given.includes('\ufffd') ? `"${given}" is not UTF-8` : null;
}

function refuseModulePaths(given: string): string | null {
  const paths = given.split(',');
  if (paths.some((path) => path.trim() !== path || path === ''))
    return `"${given}" is not paths with commas between them`;
  if (paths.length <= limits.assignorModulesMax) return null;
  return `names ${paths.length} modules, more than assignor_modules_max = ${limits.assignorModulesMax}`;
}
