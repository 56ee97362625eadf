import { spawn } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { access, glob, readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';

/** Real records to stream: whatever this machine has. */
export interface SourceRecord {
  /** Records of one key stay in order. Empty: no key. */
  readonly key: string;
  readonly value: string;
}

export interface Source {
  readonly name: string;
  readonly records: AsyncIterable<SourceRecord>;
}

const aptLists = '/var/lib/apt/lists/*_Packages*';
/** Reads a list however apt has compressed it (lz4, xz, zstd ...), which Node cannot. */
const aptHelper = '/usr/lib/apt/apt-helper';
const dpkgStatus = '/var/lib/dpkg/status';
const packageFiles = 'node_modules/**/package.json';

/** A given file, else apt's package lists, else dpkg's list of what is installed, else what npm installed. */
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

/** Reads the first record now, so that it is known before anything is started whether there is one. @throws Error if not. */
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
    // Whoever has read enough would else wait for it for ever.
    child.kill();
  }
}

/** Debian's control format: stanzas with an empty line between them, one for each package. Keyed by source package. */
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

/** "Source: glibc (2.36-9)" names the version too, where it is not the package's own. */
function stanzaRecord(lines: readonly string[]): SourceRecord {
  const field = (name: string): string | undefined =>
    lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
  const key = field('Source')?.split(' ')[0] ?? field('Package') ?? '';
  return { key, value: lines.join('\n') };
}

/** A record a line. JSON objects are keyed by one of their fields, other lines by their first word. */
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
      // Text that happens to begin with a brace: the first word it is.
    }
  }
  // A key has at most 1,024 bytes; 256 characters are that in the worst case.
  return (typeof key === 'string' ? key : JSON.stringify(key)).slice(0, 256);
}

async function* packageRecords(): AsyncGenerator<SourceRecord> {
  for await (const path of glob(packageFiles)) {
    const value = await readFile(path, 'utf8').catch(() => null);
    const name = /"name":\s*"([^"]+)"/.exec(value ?? '')?.[1] ?? '';
    if (value !== null) yield { key: name, value };
  }
}

/** Opened by whoever asks for the first line: what readline reads before that is lost, and an error ends the process. */
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
