import { readFileSync } from 'node:fs';
import { memoryOfProcess } from '../account/memory-document.ts';
import { environmentName, type Setting } from './setting.ts';
import { limitsTable, settingsTable } from './table.ts';

const groups: readonly (readonly [title: string, settings: readonly Setting<unknown>[]])[] = [
  ['Settings', Object.values(settingsTable)],
  ['Limits', Object.values(limitsTable)],
];

/** The answer to --version. */
export function versionText(): string {
  const file = new URL('../../package.json', import.meta.url);
  const { version } = JSON.parse(readFileSync(file, 'utf8')) as { version: string };
  return `millrace ${version}`;
}

/** The answer to --help: every setting with its variable, default and meaning. */
export function helpText(): string {
  const lines = [
    'Millrace, a message broker on PostgreSQL.',
    '',
    'Usage: millrace start [settings], or in the repository: npm start -- [settings]',
    'Each setting is a flag or an environment variable. The flag wins.',
  ];
  for (const [title, settings] of groups) {
    lines.push('', `${title}:`);
    for (const setting of settings) {
      lines.push(`  ${usage(setting)}  (${environmentName(setting.flag)}; default ${setting.shownDefault})`);
      lines.push(`      ${setting.meaning}`);
    }
  }
  lines.push('', '  --help, -h', '      Print this.', '  --version', '      Print the version.');
  return lines.join('\n');
}

/** docs/configuration.md, from the same table. */
export function configurationDocument(): string {
  const lines = [
    '# Configuration',
    '',
    'Each setting of the broker is a flag or an environment variable. The flag wins, and an empty',
    'variable counts as unset. The broker checks all settings at its start. A wrong one ends the',
    'start with one line that names it. `millrace --help` prints the same list, and in the repository',
    '`npm start -- --help`.',
    '',
    'This file is written from the table in `src/config/table.ts` by `npm run generate`.',
  ];
  for (const [title, settings] of groups) {
    lines.push('', `## ${title}`, '', '| flag | environment | default | meaning |', '|---|---|---|---|');
    for (const setting of settings) {
      const flag = usage(setting).replaceAll('|', '\\|');
      const row = [`\`${flag}\``, `\`${environmentName(setting.flag)}\``, setting.shownDefault, setting.meaning];
      lines.push(`| ${row.join(' | ')} |`);
    }
  }
  lines.push('', ...notes);
  return `${lines.join('\n')}\n\n${connectionString}`;
}

const notes: readonly string[] = [
  '## Beside the settings',
  '',
  'A path keeps blanks at its ends. An error names a setting as it was given: `HOST` may be a',
  'variable that conda or a shell has set for itself, and then `--host` wins over it.',
  '',
  'SIGTERM, SIGINT (Ctrl-C) and SIGHUP drain the broker and end it. A second SIGTERM or SIGINT half a',
  'second later ends it at once. The broker holds at most 1 MiB of unread log, drops the lines beyond',
  'it, counts them in the log, and waits for a reader of the log for at most 1 s at the end.',
  '',
  'A connection may cancel 20,000 calls at once and 2,000 a second; beyond that it is closed. Calls',
  'that are reset before the broker has begun with them have limits of their own: 1,000 at once and 100',
  'a second on one connection, and 2,000 at once and 500 a second on all of them. Beyond either the',
  'connection is closed with `ENHANCE_YOUR_CALM`, unless it has made no more than 20 lately. A',
  'connection may have 1,000 open calls over gRPC and 100 over HTTP/2; a client with more of them',
  'waits, or opens another connection. All connections together may have 15 open calls for each MiB of',
  '`HEAP_MIB` over gRPC, streams included (4,033 with the default). Over HTTP a call counts as two of',
  'them, a stream as three or four. One more is refused with `BROKER_BUSY`. There may be 16 connections',
  'for each MiB (4,096), and at most 10,000; a new one beyond that is closed. A gRPC connection without',
  'a call for five minutes is closed. Compressed requests are refused on both ports. A request over',
  'gRPC must be complete within 30 s, and must not come in more pieces than one for each KiB and 1,024',
  'more. An answer over gRPC that its client has not read after 60 s (a large one: at 16 KiB/s) ends',
  'its call, and so do requests of a stream that wait as long behind unread answers. 64 new calls of',
  'all connections begin in one turn of the event loop; the others follow, the connections alternating.',
  'A request has at most 64 headers of 16 KiB together.',
  '',
  ...memoryOfProcess(),
  '[memory.md](memory.md) has the limits of everything that clients make the broker hold.',
];

const connectionString = `## The connection string

\`postgresql://user:password@host:port/database\`. Percent-encode a character that would end a part:
the database \`a&b#c/d\` is \`a%26b%23c%2Fd\`. These parameters may follow, as in
\`?sslmode=require&connect_timeout=3\`. Their meaning is that of libpq:

| parameter | default | meaning |
|---|---|---|
| \`sslmode\` | \`prefer\` | \`disable\`, \`allow\`, \`prefer\`, \`require\` (encrypted, and the server is not verified), \`verify-ca\` (its certificate is), \`verify-full\` (and its host name). A Unix socket has no TLS. |
| \`sslrootcert\` | the roots of Node | File with the certificates of the authorities that are trusted; with it, \`require\` is \`verify-ca\`. \`system\`: the roots of Node. |
| \`sslcert\`, \`sslkey\` | (none) | Files with the certificate and the key of the client. |
| \`connect_timeout\` | 5 | Seconds for each host. |
| \`target_session_attrs\` | \`read-write\` | The only allowed value. |
| \`host\`, \`port\`, \`user\`, \`password\`, \`dbname\` | | They override the parts of the URL. A host that begins with \`/\` is the directory of a Unix socket. |

Any other parameter ends the start with a line that names it (\`application_name\`, \`options\`,
\`statement_timeout\`, \`channel_binding\`, …). The broker itself sets what a session needs, and reads
it back. It takes nothing from \`PGHOST\`, \`PGSSLMODE\`, \`PGOPTIONS\`, \`~/.pgpass\` or other sources of
libpq. The default user is that of the operating system, and the default database has the name of
the user.

Several hosts (\`postgresql://user:password@a:5432,b:5432/database\`) are tried in turn, for example a
primary and its replicas. The broker uses the first one that accepts writes. All sessions of a
broker are on one server, that of the session that holds the lease; the broker ends any other
session. When the database moves to another server, for example by the promotion of a replica, the
owner ends. The next broker to come takes over there: a standby, or the same broker restarted.
Confirmed records are there if the replication is synchronous. After a restart of its server an
owner goes on.

The role must see when its own sessions began (\`pg_stat_activity\`). It does, unless it has
\`SET ROLE\` to another role. A pooler must give each session a server of its own (pgbouncer:
\`pool_mode = session\`).
`;

function usage(setting: Setting<unknown>): string {
  return setting.value === null ? `--${setting.flag}` : `--${setting.flag} ${setting.value}`;
}
