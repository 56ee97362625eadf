import { spawn } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { access, glob, readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';

/** A record of real data from this machine. */
export interface SourceRecord {
  /** Records of one key keep their order. Empty: no key. */
  readonly key: string;
  readonly value: string;
}

export interface Source {
  readonly name: string;
  readonly records: AsyncIterable<SourceRecord>;
}

const aptLists = '/var/lib/apt/lists/*_Packages*';
/** Reads a list in any compression of apt (lz4, xz, zstd, …). Node cannot read all of them. */
const aptHelper = '/usr/lib/apt/apt-helper';
const dpkgStatus = '/var/lib/dpkg/status';
const packageFiles = 'node_modules/**/package.json';

/**
 * The given file, or apt's package lists, or dpkg's list of installed packages, or those of npm.
 */
export async function findSource(file: string | null, keyField: string): Promise<Source> {
  if (file !== null)
    return {
      name: file,
      records: lineRecords(
        linesOf(() => createReadStream(file)),
        keyField,
      ),
    };
  const lists = await readableLists();
  if (lists.length > 0) {
    return {
      name: `${lists.length} package list(s) of apt`,
      records: inTurn(lists, (list) => stanzas(readList(list))),
    };
  }
  if (await exists(dpkgStatus)) {
    return { name: dpkgStatus, records: stanzas(linesOf(() => createReadStream(dpkgStatus))) };
  }
  return { name: packageFiles, records: packageRecords() };
}

/** Reads the first record before a broker starts. @throws Error if there is none */
export async function begun({ name, records }: Source): Promise<Source> {
  const reader = records[Symbol.asyncIterator]();
  const first = await reader.next().catch((error: unknown) => {
    throw new Error(`${name} cannot be read: ${(error as Error).message}`, { cause: error });
  });
  if (first.done === true) throw new Error(`${name} has no records`);
  return { name, records: withFirst(first.value, reader) };
}

async function* withFirst<T>(first: T, rest: AsyncIterator<T>): AsyncGenerator<T> {
  try {
    yield first;
    yield* { [Symbol.asyncIterator]: () => rest };
  } finally {
    await rest.return?.();
  }
}

async function readableLists(): Promise<string[]> {
  const helper = await exists(aptHelper);
  const lists: string[] = [];
  for await (const path of glob(aptLists)) {
    if (path.endsWith('_Packages') || (helper && !path.endsWith('.diff_Index'))) lists.push(path);
  }
  return lists.sort();
}

async function* readList(path: string): AsyncGenerator<string> {
  if (path.endsWith('_Packages')) {
    yield* linesOf(() => createReadStream(path));
    return;
  }
  const child = spawn(aptHelper, ['cat-file', path], { stdio: ['ignore', 'pipe', 'ignore'] });
  try {
    yield* linesOf(() => child.stdout);
  } finally {
    // A reader that stops early would otherwise wait for the child for ever.
    child.kill();
  }
}

/**
 * Parses Debian's control format: a stanza for each package, with empty lines between. The key is
 * the source package.
 */
export async function* stanzas(lines: AsyncIterable<string> | Iterable<string>): AsyncGenerator<SourceRecord> {
  let stanza: string[] = [];
  for await (const line of lines) {
    if (line !== '') stanza.push(line);
    else if (stanza.length > 0) {
      yield stanzaRecord(stanza);
      stanza = [];
    }
  }
  if (stanza.length > 0) yield stanzaRecord(stanza);
}

/** Takes only the first word of "Source: glibc (2.36-9)", which may name a version too. */
function stanzaRecord(lines: readonly string[]): SourceRecord {
  const field = (name: string): string | undefined =>
    lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
  const key = field('Source')?.split(' ')[0] ?? field('Package') ?? '';
  return { key, value: lines.join('\n') };
}

/**
 * Makes a record of each line. The key is a field of a JSON object, or the first word of other
 * lines.
 */
export async function* lineRecords(
  lines: AsyncIterable<string> | Iterable<string>,
  keyField: string,
): AsyncGenerator<SourceRecord> {
  for await (const line of lines) {
    if (line.trim() !== '') yield { key: lineKey(line, keyField), value: line };
  }
}

function lineKey(line: string, keyField: string): string {
  const trimmed = line.trim();
  let key: unknown = trimmed.split(/\s+/, 1)[0];
  if (trimmed.startsWith('{')) {
    try {
      key = (JSON.parse(trimmed) as Record<string, unknown>)[keyField] ?? '';
    } catch {
      // The line is text that begins with a brace, so its key is the first word.
    }
  }
  // A key has at most 1,024 bytes, and 256 characters need no more.
  return (typeof key === 'string' ? key : JSON.stringify(key)).slice(0, 256);
}

async function* packageRecords(): AsyncGenerator<SourceRecord> {
  for await (const path of glob(packageFiles)) {
    const value = await readFile(path, 'utf8').catch(() => null);
    const name = /"name":\s*"([^"]+)"/.exec(value ?? '')?.[1] ?? '';
    if (value !== null) yield { key: name, value };
  }
}

/**
 * Opens the input at the first read. Before it, readline would lose lines, and an error would end
 * the process.
 */
async function* linesOf(open: () => Readable): AsyncGenerator<string> {
  yield* createInterface({ input: open(), crlfDelay: Infinity });
}

async function* inTurn<T, U>(items: readonly T[], open: (item: T) => AsyncIterable<U>): AsyncGenerator<U> {
  for (const item of items) yield* open(item);
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
