import { randomBytes } from 'node:crypto';
import { chown, mkdir, open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EmbeddedPostgresError } from './error.ts';
import type { Home } from './home.ts';
import { ownerOfFiles, runAs } from './identity.ts';

/** The role that owns the embedded cluster. */
export const roleName = 'millrace';

/** Settings for the postgresql.conf of a new cluster. The owner may change them there. */
const defaults: Readonly<Record<string, string>> = {
  max_connections: '100',
  shared_buffers: '256MB',
  wal_buffers: '16MB',
  // PostgreSQL renames old segments instead of removing them, up to this size. Every commit waits
  // for the 16 MB of zeros of a new segment (50 ms measured, half the rate of a fresh cluster).
  min_wal_size: '1GB',
  max_wal_size: '4GB',
  checkpoint_timeout: '5min',
  checkpoint_completion_target: '0.9',
  // The broker's statements are short and prepared, so compiling one takes longer than running it.
  jit: 'off',
  // The log is insert-only, and each of its segments is frozen once, when it is sealed.
  autovacuum_naptime: '15s',
  log_checkpoints: 'off',
};

/**
 * Makes the cluster if there is none, and returns its password. A kill at any point leaves either
 * no cluster or a complete one, because initdb works beside the final place.
 */
export async function ensureCluster(
  home: Home,
  options: { settings: Readonly<Record<string, string>>; walBytes: number },
): Promise<{ password: string; fresh: boolean }> {
  const passwordFile = join(home.directory, 'password');
  const exists = (await stat(join(home.cluster, 'PG_VERSION')).catch(() => null)) !== null;
  const stored = await readFile(passwordFile, 'utf8').catch(() => null);
  if (exists) {
    if (stored === null) throw new EmbeddedPostgresError(`the password of the cluster is missing: ${passwordFile}`);
    await checkVersion(home);
    return { password: stored.trim(), fresh: false };
  }
  const password = stored?.trim() ?? randomBytes(24).toString('base64url');
  await writeFile(passwordFile, `${password}\n`, { mode: 0o600 });
  await initialise(home, password, options.settings, options.walBytes);
  return { password, fresh: true };
}

async function initialise(
  home: Home,
  password: string,
  settings: Readonly<Record<string, string>>,
  walBytes: number,
): Promise<void> {
  const unfinished = `${home.cluster}.new`;
  const owner = ownerOfFiles(home.identity);
  const passwordFile = join(home.directory, 'initdb-password');
  await rm(unfinished, { recursive: true, force: true });
  await makeOwnedDirectory(unfinished, owner);
  // initdb may run as another user than the owner of the password file.
  await writeFile(passwordFile, password, { mode: 0o600 });
  await chown(passwordFile, owner.uid, owner.gid);
  try {
    const set = Object.entries({ ...defaults, ...settings }).flatMap(([name, value]) => ['--set', `${name}=${value}`]);
    await runAs(home.identity, home.binaries.initdb, [
      `--pgdata=${unfinished}`,
      `--username=${roleName}`,
      `--pwfile=${passwordFile}`,
      '--auth=scram-sha-256',
      '--data-checksums',
      '--encoding=UTF8',
      // The built-in locale sorts the same on every machine.
      '--locale=C',
      '--locale-provider=builtin',
      '--builtin-locale=C.UTF-8',
      '--no-instructions',
      ...set,
    ]);
  } finally {
    await rm(passwordFile, { force: true });
  }
  await layOutWal(join(unfinished, 'pg_wal'), walBytes, owner);
  await rename(unfinished, home.cluster);
}

async function makeOwnedDirectory(path: string, owner: { uid: number; gid: number }): Promise<void> {
  await mkdir(path, { mode: 0o700 });
  await chown(path, owner.uid, owner.gid);
}

async function checkVersion(home: Home): Promise<void> {
  const version = (await readFile(join(home.cluster, 'PG_VERSION'), 'utf8')).trim();
  const ours = home.binaries.version.split('.')[0] ?? '';
  if (version !== ours) {
    throw new EmbeddedPostgresError(
      `${home.cluster} was made by PostgreSQL ${version}, and this is PostgreSQL ${ours}; move its data with pg_dump`,
    );
  }
}

const segmentBytes = 16 * 1024 * 1024;

/**
 * Makes the first segments of the WAL before the server starts, as the server recycles old ones:
 * full files under the next names. The server then renames these.
 */
async function layOutWal(directory: string, walBytes: number, owner: { uid: number; gid: number }): Promise<void> {
  const zeros = Buffer.alloc(1024 * 1024);
  const segments = Math.min(Math.floor(walBytes / segmentBytes), 255);
  for (let segment = 2; segment <= segments; segment++) {
    const name = `0000000100000000${segment.toString(16).toUpperCase().padStart(8, '0')}`;
    await using file = await open(join(directory, name), 'wx', 0o600);
    for (let position = 0; position < segmentBytes; position += zeros.length) await file.write(zeros);
    await file.datasync();
    await file.chown(owner.uid, owner.gid);
  }
}
