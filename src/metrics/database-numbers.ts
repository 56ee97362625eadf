import { single, type Family, type Sample } from './family.ts';

/** What the database says of itself and of the broker's tables. */
export interface DatabaseNumbers {
  /** Bytes of WAL that the server has written since it was made. */
  readonly walBytes: number;
  /** Bytes of the whole database. */
  readonly bytes: number;
  /** The session that holds back the most; null if none does. */
  readonly holder: XminHolder | null;
  readonly tables: readonly TableNumbers[];
}

/** What keeps the database from removing old row versions. */
export interface XminHolder {
  /** Transactions that have begun since its oldest snapshot. */
  readonly transactions: number;
  /** How long its transaction is open; null if the role of the broker may not see it. */
  readonly seconds: number | null;
  readonly pid: number | null;
  /** The application of a session, or the name of a prepared transaction or a replication slot. */
  readonly application: string;
}

/** Tables of one kind together: all segments of all topics are one. */
export interface TableNumbers {
  readonly table: string;
  readonly deadTuples: number;
  readonly bytes: number;
  /** An estimate; null without statistics. */
  readonly bloatBytes: number | null;
}

/** The port of the numbers of the database. */
export interface NumbersStore {
  /** @throws Fault */
  read(): Promise<DatabaseNumbers>;
}

/** Without samples while the numbers are not known. */
export function databaseFamilies(numbers: DatabaseNumbers | null): Family[] {
  const holder = numbers?.holder ?? null;
  const tables = numbers?.tables ?? [];
  return [
    single(
      'counter',
      'millrace_database_wal_bytes_total',
      'WAL that the database server has written, in bytes.',
      numbers?.walBytes ?? null,
    ),
    single('gauge', 'millrace_database_bytes', 'The whole database, in bytes.', numbers?.bytes ?? null),
    single(
      'gauge',
      'millrace_database_held_transactions',
      'Transactions since the oldest snapshot that keeps the database from removing old row versions.',
      numbers === null ? null : (holder?.transactions ?? 0),
    ),
    {
      name: 'millrace_database_held_seconds',
      kind: 'gauge',
      help: 'How long the transaction of that snapshot is open, with the session that has it.',
      samples: holder === null ? [] : [heldSample(holder)],
    },
    byTable(
      'millrace_database_dead_tuples',
      'Old row versions in the tables of the broker.',
      tables,
      (of) => of.deadTuples,
    ),
    byTable('millrace_database_table_bytes', 'Tables of the broker, in bytes.', tables, (of) => of.bytes),
    byTable(
      'millrace_database_bloat_bytes',
      'Free or dead room in these tables, in bytes, an estimate.',
      tables,
      (of) => of.bloatBytes,
    ),
  ];
}

function heldSample({ seconds, pid, application }: XminHolder): Sample {
  return { labels: { pid: pid === null ? '' : String(pid), application }, value: seconds ?? NaN };
}

function byTable(
  name: string,
  help: string,
  tables: readonly TableNumbers[],
  valueOf: (of: TableNumbers) => number | null,
): Family {
  const samples = tables.flatMap((of) => {
    const value = valueOf(of);
    return value === null ? [] : [{ labels: { table: of.table }, value }];
  });
  return { name, kind: 'gauge', help, samples };
}
