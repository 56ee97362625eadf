import type { DatabaseAddress } from '../address/database-address.ts';
import { hostname } from 'node:os';
import { parseArgs } from 'node:util';
import type { TunableLimits } from '../limits/limits.ts';
import type { Random } from '../time/clock.ts';
import { helpText, versionText } from './help.ts';
import { environmentName, WrongValue, type Setting } from './setting.ts';
import { limitsTable, settingsTable, type LogLevel } from './table.ts';

/** The validated settings of the broker. */
export interface Settings {
  readonly host: string;
  /** 0: any free port. */
  readonly grpcPort: number;
  /** 0: any free port. */
  readonly httpPort: number;
  /** Origins of web pages that may call the broker; `*` among them: all. */
  readonly corsOrigins: readonly string[];
  /** null: start an embedded PostgreSQL in `dataDir`. */
  readonly database: DatabaseAddress | null;
  readonly dataDir: string;
  /** 0: not known. */
  readonly databaseBytesMax: number;
  readonly logLevel: LogLevel;
  readonly allowUnsafeDatabase: boolean;
  readonly writeConnections: number;
  /**
   * The retention after completion of topics that are created without one; null: they keep
   * everything.
   */
  readonly defaultRetentionMs: number | null;
  readonly brokerId: string;
  /** Paths of modules, each with one of the operator's assignors. */
  readonly assignorModules: readonly string[];
  readonly limits: TunableLimits;
}

/**
 * The name under which a setting was given: its flag, or a variable that another program may have
 * set.
 */
export type NameOf = (flag: string) => string;

/** Either settings to start with, or a text to print before the end. */
export type Reading =
  | { readonly kind: 'start'; readonly settings: Settings; readonly nameOf: NameOf }
  | { readonly kind: 'print'; readonly text: string };

/** One wrong setting, in one line with the name under which it was given. */
export class SettingsError extends Error {
  override readonly name = 'SettingsError';
}

/** Values by flag, each with the name under which it was given. */
type Given = ReadonlyMap<string, { readonly name: string; readonly text: string }>;

const allSettings: readonly Setting<unknown>[] = [...Object.values(settingsTable), ...Object.values(limitsTable)];

/**
 * Reads flags (`argv` without node and script) and environment; a flag wins, and an empty variable
 * counts as unset.
 *
 * @throws SettingsError
 */
export function readSettings(argv: readonly string[], env: NodeJS.ProcessEnv, random: Random): Reading {
  const flags = readFlags(argv);
  if (flags.has('help')) return { kind: 'print', text: helpText() };
  if (flags.has('version')) return { kind: 'print', text: versionText() };
  const given: Given = new Map([...readEnvironment(env), ...flags]);
  const nameOf: NameOf = (flag) => given.get(flag)?.name ?? `--${flag}`;
  const read = <T>(setting: Setting<T>): T => valueOf(setting, given);
  const { host, grpcPort, httpPort, databaseUrl, dataDir, databaseBytesMax } = settingsTable;
  const { corsOrigins, logLevel, allowUnsafeDatabase, writeConnections, defaultRetentionMs } = settingsTable;
  const { brokerId, assignorModules } = settingsTable;
  const settings: Settings = {
    host: read(host),
    grpcPort: read(grpcPort),
    httpPort: read(httpPort),
    corsOrigins: read(corsOrigins)?.split(',') ?? [],
    database: read(databaseUrl),
    dataDir: read(dataDir),
    databaseBytesMax: read(databaseBytesMax),
    logLevel: read(logLevel),
    allowUnsafeDatabase: read(allowUnsafeDatabase),
    writeConnections: read(writeConnections),
    defaultRetentionMs: read(defaultRetentionMs),
    brokerId: read(brokerId) ?? inventedId(random),
    assignorModules: read(assignorModules)?.split(',') ?? [],
    limits: {
      recordBytesMax: read(limitsTable.recordBytesMax),
      partitionsMax: read(limitsTable.partitionsMax),
      groupMembersMax: read(limitsTable.groupMembersMax),
      offsetRetentionMs: read(limitsTable.offsetRetentionMs),
      publishQueueBytesMax: read(limitsTable.publishQueueBytesMax),
      tailCacheBytesMax: read(limitsTable.tailCacheBytesMax),
      streamUnsentBytesMax: read(limitsTable.streamUnsentBytesMax),
      slowReaderMs: read(limitsTable.slowReaderMs),
    },
  };
  if (settings.grpcPort !== 0 && settings.grpcPort === settings.httpPort) {
    throw new SettingsError(`${nameOf('http-port')}: ${String(settings.httpPort)} is the port of gRPC already`);
  }
  return { kind: 'start', settings, nameOf };
}

function readFlags(argv: readonly string[]): Given {
  const switches = new Set(['help', 'version']);
  for (const setting of allSettings) if (setting.value === null) switches.add(setting.flag);
  const known = new Set([...switches, ...allSettings.map((setting) => setting.flag)]);
  const { tokens } = parseArgs({
    args: [...argv],
    // Node's errors in strict mode talk about positionals; ours name the setting in one line.
    strict: false,
    tokens: true,
    options: {
      ...Object.fromEntries([...known].map((flag) => [flag, { type: switches.has(flag) ? 'boolean' : 'string' }])),
      help: { type: 'boolean', short: 'h' },
    },
  });
  const given = new Map<string, { name: string; text: string }>();
  for (const token of tokens) {
    if (token.kind === 'positional') throw new SettingsError(`"${token.value}" is not a setting; see --help`);
    if (token.kind === 'option-terminator') continue;
    const name = token.rawName;
    if (!known.has(token.name)) throw new SettingsError(`${name} is not a setting; see --help`);
    const implied = switches.has(token.name) ? 'true' : undefined;
    const text = token.value ?? implied;
    if (text === undefined || text === '') throw new SettingsError(`${name}: a value must follow`);
    given.set(token.name, { name, text });
  }
  return given;
}

function readEnvironment(env: NodeJS.ProcessEnv): Given {
  const given = new Map<string, { name: string; text: string }>();
  for (const { flag } of allSettings) {
    const name = environmentName(flag);
    const text = env[name];
    if (text !== undefined && text !== '') given.set(flag, { name, text });
  }
  return given;
}

function valueOf<T>(setting: Setting<T>, given: Given): T {
  const found = given.get(setting.flag);
  if (found === undefined) return setting.fallback;
  try {
    return setting.parse(found.text);
  } catch (cause) {
    if (cause instanceof WrongValue) throw new SettingsError(`${found.name}: ${cause.message}`, { cause });
    throw cause;
  }
}

/** A random part, so that two brokers of one host or image never share a name. */
function inventedId(random: Random): string {
  const host = hostname()
    .replaceAll(/[^A-Za-z0-9.-]/g, '-')
    .slice(0, 31);
  return `${host}-${random.uuid().slice(0, 8)}`;
}
