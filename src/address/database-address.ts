/**
 * The parsed connection string: where the database is and how to reach it. Ignores the environment.
 */
export interface DatabaseAddress {
  /** In the order in which they are tried. */
  readonly hosts: readonly DatabaseHost[];
  /** null: the user of the operating system. */
  readonly user: string | null;
  readonly password: string | null;
  /** null: the database with the name of the user. */
  readonly database: string | null;
  readonly tls: TlsSettings;
  /** For each host. */
  readonly connectTimeoutMs: number;
}

export interface DatabaseHost {
  /** A name, an IP address, or the directory of a Unix socket, which begins with a slash. */
  readonly host: string;
  readonly port: number;
}

const sslModes = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'] as const;
type SslMode = (typeof sslModes)[number];

/** The parameters of the same names in libpq; the files are paths. */
export interface TlsSettings {
  readonly mode: SslMode;
  readonly rootCert: string | null;
  readonly cert: string | null;
  readonly key: string | null;
}

/** The error of a connection string, in words that do not repeat its password. */
export class WrongAddress extends Error {
  override readonly name = 'WrongAddress';
}

const form = 'postgresql://user:password@host:port/database';
const parts =
  /^postgres(?:ql)?:\/\/(?:(?<login>[^/?#]*)@)?(?<hosts>[^/?#@]*)(?:\/(?<database>[^?#]*))?(?:\?(?<query>[^#]*))?$/;
const known = [
  'host',
  'port',
  'user',
  'password',
  'dbname',
  'sslmode',
  'sslrootcert',
  'sslcert',
  'sslkey',
  'target_session_attrs',
  'connect_timeout',
] as const;
type Parameters = ReadonlyMap<(typeof known)[number], string>;

const portDefault = 5_432;
const connectTimeoutDefault = 5;
const connectTimeoutMax = 600;

/**
 * Parses a connection string in libpq's form: one host, or several with commas between them. A
 * parameter overrides the same part of the URL. Unknown parameters, and those that would change
 * what the broker relies on, are rejected.
 *
 * @throws WrongAddress
 */
export function parseDatabaseAddress(text: string): DatabaseAddress {
  const found = parts.exec(text)?.groups;
  if (found === undefined) {
    const escaped = text.includes('#') ? ': a # in it is written %23' : '';
    throw new WrongAddress(`is not of the form ${form}${escaped}`);
  }
  const { login = '', hosts = '', database = '', query = '' } = found;
  // Do not parse this as hosts and a database: messages and logs would show a piece of a password.
  if (found['login'] === undefined && text.includes('@')) {
    throw new WrongAddress(
      'has an @ behind a / or ?: these are written %2F, %3F and %40 in a user, password or database',
    );
  }
  const parameters = parametersOf(query);
  const [user, password] = loginOf(login);
  return {
    hosts: hostsOf(hosts, parameters),
    user: filled(parameters.get('user') ?? user),
    password: filled(parameters.get('password') ?? password),
    database: filled(parameters.get('dbname') ?? decoded(database, 'the name of the database')),
    tls: tlsOf(parameters),
    connectTimeoutMs: connectTimeoutOf(parameters) * 1_000,
  };
}

/** For messages: `host:port`, or the directory of the socket. */
export function shownHost({ host, port }: DatabaseHost): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}

/** Whether the host is the directory of a Unix socket. */
export function isSocket({ host }: DatabaseHost): boolean {
  return host.startsWith('/');
}

function loginOf(login: string): readonly [user: string, password: string] {
  const colon = login.indexOf(':');
  const user = colon < 0 ? login : login.slice(0, colon);
  const password = colon < 0 ? '' : login.slice(colon + 1);
  return [decoded(user, 'the user'), decoded(password, 'the password')];
}

function parametersOf(query: string): Parameters {
  const given = new Map<string, string>();
  for (const pair of query.split('&').filter((one) => one !== '')) {
    const equals = pair.indexOf('=');
    const name = decoded(equals < 0 ? pair : pair.slice(0, equals), 'a parameter');
    if (equals < 0) throw new WrongAddress(`the parameter "${name}" has no value`);
    // libpq accepts this from JDBC's connection strings.
    const [key, value] = name === 'ssl' ? sslOfJdbc(pair.slice(equals + 1)) : [name, pair.slice(equals + 1)];
    if (!(known as readonly string[]).includes(key)) throw new WrongAddress(refusalOf(key));
    if (given.has(key)) throw new WrongAddress(`the parameter "${key}" is given twice`);
    given.set(key, decoded(value, `the parameter "${key}"`));
  }
  return given as Parameters;
}

function sslOfJdbc(value: string): readonly [string, string] {
  if (value !== 'true') throw new WrongAddress('the parameter "ssl" may only be true: say it by sslmode');
  return ['sslmode', 'require'];
}

function refusalOf(name: string): string {
  return `the parameter "${name}" is not one of ${known.join(', ')}: what a session needs, the broker sets itself`;
}

function hostsOf(authority: string, parameters: Parameters): DatabaseHost[] {
  const inQuery = parameters.get('host');
  const named = inQuery === undefined ? authority.split(',').map(hostAndPort) : inQuery.split(',').map(hostAlone);
  const ports = parameters.get('port')?.split(',') ?? [];
  if (ports.length > 1 && ports.length !== named.length) {
    throw new WrongAddress(`names ${named.length} hosts and ${ports.length} ports`);
  }
  // Without ports in the query, the ports of the hosts count, if there are as many.
  const beside = inQuery === undefined ? [] : authority.split(',').map(hostAndPort);
  return named.map(({ host, port }, index) => {
    const besidePort = beside.length === named.length ? beside[index]?.port : undefined;
    const text = ports[index] ?? ports[0] ?? port ?? besidePort ?? '';
    return { host: host === '' ? 'localhost' : host, port: portOf(text) };
  });
}

interface NamedHost {
  readonly host: string;
  readonly port?: string;
}

function hostAndPort(text: string): NamedHost {
  const [, bracketed, plain = '', port] = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::(\d*))?$/.exec(text) ?? [];
  if (bracketed === undefined && plain === '' && port === undefined && text !== '') {
    throw new WrongAddress('has a host that is not of the form host, host:port or [address]:port');
  }
  const host = decoded(bracketed ?? plain, 'a host');
  return port === undefined || port === '' ? { host } : { host, port };
}

function hostAlone(host: string): NamedHost {
  return { host };
}

function portOf(text: string): number {
  if (text === '') return portDefault;
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (port < 1 || port > 65_535) throw new WrongAddress(`"${text}" is not a port`);
  return port;
}

function tlsOf(parameters: Parameters): TlsSettings {
  const [cert, key] = [parameters.get('sslcert') ?? null, parameters.get('sslkey') ?? null];
  if ((cert === null) !== (key === null)) throw new WrongAddress('sslcert and sslkey belong together');
  const attributes = parameters.get('target_session_attrs') ?? 'read-write';
  if (attributes !== 'read-write') throw new WrongAddress('target_session_attrs may only be read-write');
  const given = parameters.get('sslmode') ?? 'prefer';
  const mode = sslModes.find((one) => one === given);
  if (mode === undefined) throw new WrongAddress(`sslmode is one of ${sslModes.join(', ')}, not "${given}"`);
  return { mode, rootCert: parameters.get('sslrootcert') ?? null, cert, key };
}

function connectTimeoutOf(parameters: Parameters): number {
  const text = parameters.get('connect_timeout');
  if (text === undefined) return connectTimeoutDefault;
  const seconds = /^\d{1,3}$/.test(text) ? Number(text) : 0;
  if (seconds < 1 || seconds > connectTimeoutMax) {
    throw new WrongAddress(`connect_timeout is a number of seconds from 1 to ${connectTimeoutMax}, not "${text}"`);
  }
  return seconds;
}

function decoded(text: string, what: string): string {
  let plain: string;
  try {
    plain = decodeURIComponent(text);
  } catch {
    throw new WrongAddress(`${what} has a % that is not percent-encoding: write it as %25`);
  }
  if (plain.includes('\0')) throw new WrongAddress(`${what} has a zero byte`);
  return plain;
}

function filled(text: string): string | null {
  return text === '' ? null : text;
}
