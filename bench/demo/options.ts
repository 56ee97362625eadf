import { parseArgs } from 'node:util';

export const help = `npm run demo -- [options]

Streams this machine's Debian package index (without one: what dpkg or npm have installed) through a topic with
6 partitions to three groups of 1, 3 and 5 members, each a process of its own. On the way members are killed (SIGKILL)
and streams broken; at the end every group must have every record, in order for each key.

  --file FILE      any text or JSON lines instead, a record a line; text is keyed by its first word
  --key FIELD      JSON lines are keyed by this field. Default: key
  --limit N        at most N records. Default: all
  --rate N         records a second; 0: as fast as it goes. Default: 6000
  --kills N        how many members are killed or lose their stream on the way. Default: 12
  --seed N         decides which. Default: 1
  --address HOST:PORT   gRPC address of a running broker. Default: one is started, on a PostgreSQL of its own
  --data-dir DIR   where that keeps its data. Default: a temporary directory, removed at the end

Ends with 1 if a record is missing or out of order.
`;

export interface Options {
  readonly file: string | null;
  readonly keyField: string;
  readonly limit: number;
  readonly recordsPerSecond: number;
  readonly kills: number;
  readonly seed: number;
  readonly address: string | null;
  readonly dataDir: string | null;
}

/**
 * @returns null if the command line asks for help.
 * @throws Error that names the fault of the command line
 */
export function readOptions(args: readonly string[]): Options | null {
  const { values } = parseArgs({
    args: [...args],
    options: {
      file: { type: 'string' },
      key: { type: 'string', default: 'key' },
      limit: { type: 'string', default: 'Infinity' },
      rate: { type: 'string', default: '6000' },
      kills: { type: 'string', default: '12' },
      seed: { type: 'string', default: '1' },
      address: { type: 'string' },
      'data-dir': { type: 'string' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) return null;
  const number = (flag: 'limit' | 'rate' | 'kills' | 'seed'): number => {
    const value = Number(values[flag]);
    if (Number.isNaN(value) || value < 0) throw new Error(`--${flag}: ${values[flag]} is not a number of 0 or more`);
    return value;
  };
  return {
    file: values.file ?? null,
    keyField: values.key,
    limit: number('limit'),
    recordsPerSecond: number('rate'),
    kills: number('kills'),
    seed: number('seed'),
    address: values.address ?? null,
    dataDir: values['data-dir'] ?? null,
  };
}
