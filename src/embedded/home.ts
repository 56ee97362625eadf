import { chown, mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { createHash } from 'node:crypto';
import { execFile } from 'node:child_process';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { copyBinaries, linkLibraries, type Binaries } from './binaries.ts';
import { EmbeddedPostgresError } from './error.ts';
import { hasPasswdEntry, ownerOfFiles, ownUser, runAs, unprivilegedAccount, type Identity } from './identity.ts';

const execute = promisify(execFile);

/** The place of a cluster, the user who runs it, and its binaries. */
export interface Home {
  /** Holds the cluster, and copies of the binaries if needed. */
  readonly directory: string;
  /** PGDATA. */
  readonly cluster: string;
  readonly identity: Identity;
  readonly binaries: Binaries;
}

/**
 * Finds a user who may run PostgreSQL and can reach the files, in this order: the broker's own
 * user, unless that is root or nameless; for root, an unprivileged account; a user namespace with
 * another user name; for root, a copy of everything where the account can reach it.
 */
export async function settle(dataDir: string, binaries: Binaries): Promise<Home> {
  const linked = await linkLibraries(binaries);
  const directory = await locationOf(dataDir);
  const usable = linked ? binaries : await copyBinaries(binaries, directory);
  const self: Identity = { kind: 'self', ...ownUser() };
  if (self.uid !== 0 && hasPasswdEntry()) return homeOf(directory, self, usable);

  const account = await accountFor(directory);
  if (self.uid === 0 && account !== null && (await canReach(account, directory, usable))) {
    return homeOf(directory, account, usable);
  }
  const namespace: Identity = { kind: 'namespace', uid: account?.uid ?? 65_534, gid: account?.gid ?? 65_534 };
  if (await canReach(namespace, directory, usable)) return homeOf(directory, namespace, usable);
  if (self.uid === 0 && account !== null) return relocate(dataDir, account, usable);
  throw new EmbeddedPostgresError(
    `PostgreSQL cannot run as uid ${String(self.uid)}: it needs a user that is not root and has an entry in ` +
      '/etc/passwd, or user namespaces; run the broker as such a user, or give --database-url',
  );
}

/**
 * The place to which `relocate` moved the cluster, else the data directory. A path may begin and
 * end with blanks.
 */
async function locationOf(dataDir: string): Promise<string> {
  const noted = await readFile(join(dataDir, 'location'), 'utf8').catch(() => null);
  return noted === null ? dataDir : noted.replace(/\n$/, '');
}

/**
 * The user who already owns the cluster, or null. Root must not take a directory from its owner.
 */
async function accountFor(directory: string): Promise<Identity | null> {
  const owner = await stat(join(directory, 'postgres')).catch(() => null);
  if (owner !== null && owner.uid !== 0) return { kind: 'account', uid: owner.uid, gid: owner.gid };
  const nobody = await unprivilegedAccount();
  return nobody === null ? null : { kind: 'account', ...nobody };
}

/** Tries the access, because modes, ACLs, mounts and security modules all decide. */
async function canReach(identity: Identity, directory: string, binaries: Binaries): Promise<boolean> {
  const attempt = 'cd "$1" && test -r "$2" && exec "$3" --version';
  return runAs(identity, '/bin/sh', ['-c', attempt, 'sh', directory, binaries.sample, binaries.postgres]).then(
    () => true,
    () => false,
  );
}

async function homeOf(directory: string, identity: Identity, binaries: Binaries): Promise<Home> {
  const cluster = join(directory, 'postgres');
  const owner = ownerOfFiles(identity);
  const found = await stat(cluster).catch(() => null);
  if (found !== null && found.uid !== owner.uid) {
    if (process.getuid?.() !== 0) {
      throw new EmbeddedPostgresError(
        `${cluster} belongs to uid ${String(found.uid)}, not to uid ${String(owner.uid)} that runs the broker`,
      );
    }
    await execute('chown', ['-R', `${String(owner.uid)}:${String(owner.gid)}`, cluster]);
  }
  return { directory, cluster, identity, binaries };
}

/**
 * The last resort of a root without user namespaces: below /var/lib, which every user can enter.
 */
async function relocate(dataDir: string, account: Identity, binaries: Binaries): Promise<Home> {
  const name = `${basename(dataDir)}-${createHash('sha256').update(dataDir).digest('hex').slice(0, 12)}`;
  const directory = join('/var/lib/millrace', name);
  await mkdir(directory, { recursive: true, mode: 0o755 });
  await chown(directory, 0, 0);
  const reachable = (await canReach(account, directory, binaries)) ? binaries : await copyBinaries(binaries, directory);
  if (!(await canReach(account, directory, reachable))) {
    throw new EmbeddedPostgresError(
      `no unprivileged user can reach ${dataDir} or ${directory}; give --data-dir a directory that others can enter`,
    );
  }
  // The next start finds it again, even if the data directory itself has become reachable.
  await writeFile(join(dataDir, 'location'), `${directory}\n`);
  return homeOf(directory, account, reachable);
}
