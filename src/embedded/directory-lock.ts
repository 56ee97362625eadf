import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { EmbeddedPostgresError } from './error.ts';

/**
 * One broker for one data directory. The kernel must hold the lock, not a file with a process id in
 * it, because the lock must vanish with a killed broker and must stay with a frozen one. Node
 * cannot lock files. Its SQLite can: an open exclusive transaction holds such a lock.
 */
export class DirectoryLock {
  readonly #database: DatabaseSync;

  private constructor(database: DatabaseSync) {
    this.#database = database;
  }

  /** Takes the lock, or fails at once with an error that names the process that holds it. */
  static take(directory: string): DirectoryLock {
    const holderFile = join(directory, 'broker.pid');
    const database = lockedDatabase(directory, holderFile);
    // Only for that message; the lock does not depend on it.
    writeFileSync(holderFile, `${String(process.pid)}\n`);
    return new DirectoryLock(database);
  }

  release(): void {
    if (this.#database.isOpen) this.#database.close();
  }
}

function lockedDatabase(directory: string, holderFile: string): DatabaseSync {
  let database: DatabaseSync | null = null;
  try {
    database = new DatabaseSync(join(directory, 'broker.lock'));
    database.exec('PRAGMA journal_mode = OFF; BEGIN EXCLUSIVE');
    return database;
  } catch (cause) {
    database?.close();
    throw refusal(directory, readHolder(holderFile), cause);
  }
}

const sqliteBusy = 5;

function refusal(directory: string, holder: string | null, cause: unknown): EmbeddedPostgresError {
  if ((cause as { errcode?: number }).errcode !== sqliteBusy) {
    return new EmbeddedPostgresError(`cannot lock the data directory ${directory}: ${(cause as Error).message}`, {
      cause,
    });
  }
  const who = holder === null ? 'another broker' : `another broker (process ${holder})`;
  const advice = 'stop it, or give --data-dir';
  return new EmbeddedPostgresError(`${who} is using the data directory ${directory}; ${advice}`, { cause });
}

function readHolder(file: string): string | null {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch {
    return null;
  }
}
