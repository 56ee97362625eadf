import { readFileSync } from 'node:fs';
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
    'Each setting is a flag or an environment variable; the flag wins.',
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
    'Each setting of the broker is a flag or an environment variable; the flag wins, and an empty variable counts as unset.',
    'All are checked at start: a wrong one ends it with one line that names it. `millrace --help` prints the same list, and in the',
    'repository `npm start -- --help`.',
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
  return `${lines.join('\n')}\n`;
}

const notes: readonly string[] = [
  '## Beside the settings',
  '',
  'A path is used as it was given, with blanks at its ends. An error names a setting as it was given: `HOST` may be a variable that',
  'conda or a shell has set for itself, and then `--host` wins over it.',
  '',
  'SIGTERM, SIGINT (Ctrl-C) and SIGHUP drain the broker and end it. Another SIGTERM or SIGINT half a second later ends it at once.',
  'The log holds at most 1 MiB that nobody reads, drops lines beyond that and says how many, and delays the end by 1 s at most.',
  '',
  'A connection may cancel 20,000 calls at once and 2,000 a second; beyond that it is closed.',
];

function usage(setting: Setting<unknown>): string {
  return setting.value === null ? `--${setting.flag}` : `--${setting.flag} ${setting.value}`;
}
